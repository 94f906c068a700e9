// What `podway lab kubernetes install` builds, as values: per program its file in the cache, where its source is, and
// the flags that stamp its version. A plain build of Kubernetes says v0.0.0-master+$Format, which charts refuse.
import { join } from 'node:path';
import { kubePrograms } from './binaries.ts';
import { type CachePaths, componentVersions } from './version.ts';

export type Build = {
  name: string;
  /** Absolute path of the program. */
  file: string;
  version: string;
  /** A main package; of `kind` test, the package whose tests become the program. */
  package: string;
  /** From the module that pins Kubernetes, or from a module of its own at `version`. */
  kind: 'pinned' | 'test' | 'own';
  /** Linker's variables: full name and value. */
  stamps: Record<string, string>;
};

/** What the module proxy tells of k8s.io/kubernetes at one version. */
export type KubernetesModule = { version: string; time: string; sum: string };

function kubernetesStamps({ version, time, sum }: KubernetesModule): Record<string, string> {
  const [major, minor] = version.slice(1).split('.') as [string, string];
  const values = {
    gitVersion: version,
    gitMajor: major,
    gitMinor: minor,
    // The proxy has no commit; the module's checksum names the same source.
    gitCommit: sum,
    gitTreeState: 'clean',
    buildDate: time,
  };
  return Object.fromEntries(
    ['k8s.io/component-base/version', 'k8s.io/client-go/pkg/version'].flatMap((path) =>
      Object.entries(values).map(([key, value]) => [`${path}.${key}`, value]),
    ),
  );
}

/** In the order of worth: a lab can start when those up to runc's shim are there. */
export function buildsOf(module: KubernetesModule, paths: CachePaths): Build[] {
  const stamps = kubernetesStamps(module);
  const { version } = module;
  const kube = (name: string, path: string, file: string, kind: Build['kind'] = 'pinned'): Build => ({
    name,
    file,
    version,
    package: `k8s.io/kubernetes/${path}`,
    kind,
    stamps,
  });
  const own = (
    name: string,
    component: keyof typeof componentVersions,
    path: string,
    stamped: Record<string, string>,
  ): Build => {
    const at = componentVersions[component];
    const folder = component.replace(/\d$/, '');
    const file = join(paths.components, `${folder}-${at}`, name);
    const label = folder === component ? name : component;
    return { name: label, file, version: at, package: path, kind: 'own', stamps: stamped };
  };
  const containerd = { 'github.com/containerd/containerd/v2/version.Version': componentVersions.containerd };
  const component = (name: string) => join(paths.components, name);
  return [
    ...kubePrograms.map((name) => kube(name, `cmd/${name}`, join(paths.bin, name))),
    ...['containerd', 'containerd-shim-runc-v2', 'ctr'].map((name) =>
      own(name, 'containerd', `github.com/containerd/containerd/v2/cmd/${name}`, containerd),
    ),
    {
      name: 'etcd',
      file: component('etcd'),
      version,
      package: 'go.etcd.io/etcd/server/v3',
      kind: 'pinned',
      stamps: {},
    },
    own('coredns', 'coredns', 'github.com/coredns/coredns', {
      'github.com/coredns/coredns/coremain.GitCommit': componentVersions.coredns,
    }),
    kube('agnhost', 'test/images/agnhost', component('agnhost')),
    {
      name: 'imagenames',
      file: component('imagenames'),
      version,
      package: './imagenames',
      kind: 'pinned',
      stamps: {},
    },
    own('helm', 'helm4', 'helm.sh/helm/v4/cmd/helm', {
      'helm.sh/helm/v4/internal/version.version': componentVersions.helm4,
    }),
    own('helm', 'helm3', 'helm.sh/helm/v3/cmd/helm', {
      'helm.sh/helm/v3/internal/version.version': componentVersions.helm3,
    }),
    kube('e2e.test', 'test/e2e', component('e2e.test'), 'test'),
  ];
}

/** What a built program is made of: the same text, the same program. */
export function recipe(build: Build, go: string): string {
  return [go, build.package, build.version, build.kind, ldflags(build)].join(' ');
}

export const ldflags = ({ stamps }: Build): string =>
  ['-s', '-w', ...Object.entries(stamps).map(([name, value]) => `-X=${name}=${value}`)].join(' ');
