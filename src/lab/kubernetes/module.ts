// The Go module that pins Kubernetes, as a folder in the cache: as the package ships it for the version that it pins;
// for another version made from that version's own go.mod, and completed by `go mod tidy`.
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../daemon/parts.ts';
import type { KubernetesModule } from './builds.ts';
import type { Go } from './go.ts';
import { type CachePaths, KUBERNETES_VERSION, stagingVersion } from './version.ts';

const SHIPPED = join(packageRoot, 'test/kubernetes/programs');

type Downloaded = { Version: string; Info: string; GoMod: string; Dir: string; Sum: string };

/** `folder` is the module that pins it, `source` its own source. */
export type Module = KubernetesModule & { folder: string; source: string };

export async function kubernetesModule(version: string, paths: CachePaths, go: Go): Promise<Module> {
  const { stdout } = await go.run(['mod', 'download', '-json', `k8s.io/kubernetes@${version}`], paths.root);
  const downloaded = JSON.parse(stdout) as Downloaded;
  const { Time } = JSON.parse(readFileSync(downloaded.Info, 'utf8')) as { Time: string };
  const folder = await moduleFolder(version, paths, downloaded.GoMod, go);
  return { version, time: Time, sum: downloaded.Sum, folder, source: downloaded.Dir };
}

async function moduleFolder(version: string, paths: CachePaths, goMod: string, go: Go): Promise<string> {
  const folder = join(paths.root, 'module');
  const complete = join(folder, '.complete');
  const shipped =
    readFileSync(join(SHIPPED, 'go.mod'), 'utf8') + readFileSync(join(SHIPPED, 'programs.go'), 'utf8');
  if (existsSync(complete) && readFileSync(complete, 'utf8') === shipped) return folder;
  const aside = `${folder}.part`;
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { recursive: true });
  cpSync(SHIPPED, aside, { recursive: true });
  if (version !== KUBERNETES_VERSION) {
    rmSync(join(aside, 'go.sum'));
    writeFileSync(join(aside, 'go.mod'), goModFor(version, readFileSync(goMod, 'utf8')));
    await go.run(['mod', 'tidy'], aside);
  }
  writeFileSync(join(aside, '.complete'), shipped);
  rmSync(folder, { recursive: true, force: true });
  renameSync(aside, folder);
  return folder;
}

/** The staging modules are not in the module of Kubernetes: each is named at its own published version. */
export function goModFor(version: string, upstream: string): string {
  const staging = [...upstream.matchAll(/^\s*(\S+) => \.\/staging\/\S+$/gm)].map((match) => match[1]!);
  const go = /^go (\S+)$/m.exec(upstream)![1]!;
  const godebug = /^godebug default=\S+$/m.exec(upstream)?.[0];
  return [
    'module podway.io/kubernetes-programs',
    `go ${go}`,
    ...(godebug ? [godebug] : []),
    `require k8s.io/kubernetes ${version}`,
    'replace (',
    ...staging.map((name) => `\t${name} => ${name} ${stagingVersion(version)}`),
    ')',
    '',
  ].join('\n');
}
