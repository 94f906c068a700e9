// Which Kubernetes the lab runs, of which versions its companions are, and where their binaries are kept.
// test/kubernetes/programs/go.mod pins it, and etcd 3.6 with it, which costs little more since most of it is in the API
// server too. Debian's etcd 3.4 serves 1.36.3 as well (tried), but a watch that begins without a version (or at 0) then
// fails, as it lacks RequestWatchProgress: the API server needs --feature-gates=WatchList=false there, and clients list first.
import { homedir } from 'node:os';
import { join } from 'node:path';

export const KUBERNETES_VERSION = 'v1.36.3';

/** Go modules with a version of their own; each builds with `go install MODULE@VERSION`. */
export const componentVersions = {
  containerd: 'v2.4.2',
  coredns: 'v1.15.0',
  helm3: 'v3.22.0',
  helm4: 'v4.3.1',
} as const;

const VERSION = /^v?(1\.\d{1,3}\.\d{1,3})$/;

/** "1.36.3" and "v1.36.3" as "v1.36.3"; undefined when it is no release of Kubernetes. */
export function kubernetesVersion(text: string): string | undefined {
  const [, digits] = VERSION.exec(text) ?? [];
  return digits === undefined ? undefined : `v${digits}`;
}

/** The staging modules of v1.36.3 are v0.36.3. */
export const stagingVersion = (version: string): string => version.replace(/^v1\./, 'v0.');

export type CachePaths = ReturnType<typeof cachePaths>;

/** Folders of one version below the user's cache (XDG Base Directory Specification). */
export function cachePaths(version: string, env: NodeJS.ProcessEnv = process.env) {
  const cache = env['XDG_CACHE_HOME'] || join(env['HOME'] || homedir(), '.cache');
  const root = join(cache, 'podway', 'kubernetes', version);
  return {
    root,
    bin: join(root, 'bin'),
    components: join(root, 'components'),
    images: join(root, 'images'),
    /** What was built, from what: see install.ts. */
    record: join(root, 'installed.json'),
  };
}
