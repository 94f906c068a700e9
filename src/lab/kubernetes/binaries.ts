// Finds the programs that a lab with a real Kubernetes runs. Those of a folder that the user names come first, then
// those that `podway lab kubernetes install` made, then the search path. Of the six programs of Kubernetes either all come
// from one place or none: a kubelet of one version and an API server of another are no cluster that anybody tests.
// Fails with KUBERNETES_MISSING, which names what is missing and how to get it.
import { accessSync, constants, existsSync, readdirSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { LabError } from '../daemon/errors.ts';
import { type CachePaths, cachePaths, KUBERNETES_VERSION } from './version.ts';

export const kubePrograms = [
  'kube-apiserver',
  'kube-controller-manager',
  'kube-scheduler',
  'kubelet',
  'kube-proxy',
  'kubectl',
] as const;
/** Without one of these no node becomes Ready. */
const runtimePrograms = ['etcd', 'containerd', 'containerd-shim-runc-v2', 'ctr', 'runc'] as const;
/** Used when present. */
const optionalPrograms = ['coredns', 'helm', 'agnhost', 'e2e.test'] as const;

type Kube = (typeof kubePrograms)[number];
type Runtime = (typeof runtimePrograms)[number];
type Optional = (typeof optionalPrograms)[number];
export type Program = Kube | Runtime | Optional;

/** Where Kubernetes' own programs were found. */
export type Source = 'directory' | 'cache' | 'path';

export type Binaries = {
  version: string;
  source: Source;
  /** A file that can be run, per program. */
  programs: Record<Kube | Runtime, string> & Partial<Record<Optional, string>>;
  /** OCI archives to import into every node's containerd; they may be none. */
  images: string[];
};

export type BinariesRequest = {
  version?: string;
  /** A folder of the user's with Kubernetes' programs; others may lie there too. */
  dir?: string;
  env?: NodeJS.ProcessEnv;
};

export function findBinaries({
  version = KUBERNETES_VERSION,
  dir,
  env = process.env,
}: BinariesRequest): Binaries {
  const cache = cachePaths(version, env);
  const path = (env['PATH'] ?? '').split(delimiter).filter((each) => each !== '');
  const places: [Source, string[]][] =
    dir === undefined
      ? [
          ['cache', [cache.bin]],
          ['path', path],
        ]
      : [['directory', [dir]]];
  const found: Partial<Record<Program, string>> = {};
  const source = places.find(([, dirs]) => kubePrograms.every((name) => firstOf(dirs, name) !== undefined));
  const nearest = source ?? places.toSorted((a, b) => count(b[1]) - count(a[1]))[0]!;
  for (const name of kubePrograms) put(found, name, firstOf(nearest[1], name));
  const companions = [...(dir === undefined ? [] : [dir]), ...componentFolders(cache), ...path];
  for (const name of [...runtimePrograms, ...optionalPrograms]) put(found, name, firstOf(companions, name));

  const missing = [...kubePrograms, ...runtimePrograms].filter((name) => found[name] === undefined);
  if (missing.length > 0) throw missingError(missing, version, dir);
  return {
    version,
    source: source![0],
    programs: found as Binaries['programs'],
    images: imagesOf(cache),
  };
}

const count = (dirs: string[]): number =>
  kubePrograms.filter((name) => firstOf(dirs, name) !== undefined).length;

function put(found: Partial<Record<Program, string>>, name: Program, file: string | undefined): void {
  if (file !== undefined) found[name] = file;
}

function firstOf(dirs: string[], name: string): string | undefined {
  return dirs.map((dir) => join(dir, name)).find(isProgram);
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

/** components/ itself and its folders (containerd-v2.4.2, …); of two versions of one, the later name wins. */
function componentFolders({ components }: CachePaths): string[] {
  if (!existsSync(components)) return [];
  const folders = readdirSync(components, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const names = folders.map((entry) => entry.name).filter((name) => !name.startsWith('.'));
  const newestFirst = names.sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
  return [components, ...newestFirst.map((name) => join(components, name))];
}

function imagesOf({ images }: CachePaths): string[] {
  if (!existsSync(images)) return [];
  const archives = readdirSync(images).filter((name) => name.endsWith('.tar') && !name.startsWith('.'));
  return archives.sort().map((name) => join(images, name));
}

/** What `install` does not build: the user's package manager has it. */
const PACKAGED: Partial<Record<Program, string>> = { runc: 'runc' };

function missingError(missing: Program[], version: string, dir: string | undefined): LabError {
  const packages = missing.flatMap((name) => PACKAGED[name] ?? []);
  const built = missing.filter((name) => PACKAGED[name] === undefined);
  const steps = [
    ...(built.length > 0
      ? [
          `podway lab kubernetes install --version ${version} builds them where Go is, or --kube-bin names a folder that has them`,
        ]
      : []),
    ...(packages.length > 0 ? [`apt-get install ${packages.join(' ')}`] : []),
  ];
  const where = dir === undefined ? 'in the cache and on the search path' : `in ${dir}`;
  return new LabError(
    'KUBERNETES_MISSING',
    `Kubernetes ${version} needs ${missing.join(', ')}, not found ${where}`,
    steps.join('; '),
  );
}
