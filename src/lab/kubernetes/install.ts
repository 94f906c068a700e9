// podway lab kubernetes install: builds what a lab with a real Kubernetes runs, into the user's cache. A program that is
// there, made by the same recipe (Go's version, source, flags), is left alone; so a run that was cut off goes on. Each is
// written aside and renamed: a lab that runs keeps the file that it has open.
// Fails with GO_MISSING, KUBERNETES_BUILD, BAD_VERSION or BAD_PROGRAM.
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { LabError } from '../daemon/errors.ts';
import { takeLock } from '../daemon/lock.ts';
import { type Build, buildsOf, ldflags, recipe } from './builds.ts';
import { Go } from './go.ts';
import { kubernetesModule } from './module.ts';
import { type CachePaths, cachePaths, KUBERNETES_VERSION, kubernetesVersion } from './version.ts';

export type Installed = { name: string; version: string; file: string; built: boolean; seconds: number };

export type InstallRequest = {
  version?: string;
  /** Names of programs; none means all. */
  only?: string[];
  say(text: string): void;
  signal?: AbortSignal;
};

/** Per file below the version's folder: what it was made of, and when (ISO 8601). */
type Made = Record<string, { recipe: string; version: string; built: string }>;

/** While one program builds, a line says so this often. */
const STILL_MS = 60_000;

export async function install(request: InstallRequest): Promise<{ version: string; installed: Installed[] }> {
  const version = kubernetesVersion(request.version ?? KUBERNETES_VERSION);
  if (version === undefined) {
    throw new LabError(
      'BAD_VERSION',
      `"${request.version}" is no version of Kubernetes`,
      `for example ${KUBERNETES_VERSION}`,
      { exit: 2 },
    );
  }
  const go = await Go.find(request.signal);
  const paths = cachePaths(version);
  mkdirSync(paths.root, { recursive: true });
  const lock = takeLock(join(paths.root, 'lock.sqlite'));
  if (!lock) {
    throw new LabError(
      'KUBERNETES_BUILD',
      `another install of Kubernetes ${version} is running`,
      'wait for it; then run the command again',
    );
  }
  try {
    request.say(`Kubernetes ${version} with ${go.version}: fetching the source`);
    const module = await kubernetesModule(version, paths, go);
    const builds = chosen(buildsOf(module, paths), request.only ?? []);
    const installed: Installed[] = [];
    for (const [index, build] of builds.entries()) {
      const place = `${build.name} ${build.version} (${index + 1} of ${builds.length})`;
      installed.push(await buildOne(build, { go, paths, folder: module.folder, place, say: request.say }));
    }
    return { version, installed };
  } finally {
    lock.release();
  }
}

function chosen(builds: Build[], only: string[]): Build[] {
  const unknown = only.find((name) => !builds.some((build) => build.name === name));
  if (unknown !== undefined) {
    const names = builds.map((build) => build.name).join(', ');
    throw new LabError(
      'BAD_PROGRAM',
      `"${unknown}" is no program of the lab's Kubernetes`,
      `one of ${names}`,
      {
        exit: 2,
      },
    );
  }
  return only.length === 0 ? builds : builds.filter((build) => only.includes(build.name));
}

type Making = { go: Go; paths: CachePaths; folder: string; place: string; say(text: string): void };

async function buildOne(build: Build, { go, paths, folder, place, say }: Making): Promise<Installed> {
  const { name, version, file } = build;
  const made = recipe(build, go.version);
  const key = file.slice(paths.root.length + 1);
  if (existsSync(file) && readRecord(paths)[key]?.recipe === made) {
    say(`${place}: there already`);
    return { name, version, file, built: false, seconds: 0 };
  }
  const started = performance.now();
  const seconds = () => Math.round((performance.now() - started) / 1000);
  say(`${place}: building`);
  const still = setInterval(() => say(`${place}: building, ${seconds()} s`), STILL_MS);
  const aside = join(dirname(file), `.${basename(file)}.part`);
  try {
    mkdirSync(dirname(file), { recursive: true });
    await compile(build, { go, folder, aside });
    chmodSync(aside, 0o755);
    renameSync(aside, file);
  } finally {
    clearInterval(still);
    rmSync(aside, { recursive: true, force: true });
  }
  writeRecord(paths, {
    ...readRecord(paths),
    [key]: { recipe: made, version, built: new Date().toISOString() },
  });
  say(`${place}: built in ${seconds()} s`);
  return { name, version, file, built: true, seconds: seconds() };
}

async function compile(
  build: Build,
  { go, folder, aside }: { go: Go; folder: string; aside: string },
): Promise<void> {
  const flags = ['-trimpath', `-ldflags=${ldflags(build)}`];
  if (build.kind === 'own') {
    // `go install` names the program by its package, so it gets a folder of its own.
    const bin = `${aside}.bin`;
    try {
      await go.run(['install', ...flags, `${build.package}@${build.version}`], '/', { GOBIN: bin });
      renameSync(join(bin, basename(build.package)), aside);
    } finally {
      rmSync(bin, { recursive: true, force: true });
    }
    return;
  }
  const verb = build.kind === 'test' ? ['test', '-c'] : ['build'];
  await go.run([...verb, '-mod=readonly', ...flags, '-o', aside, build.package], folder);
}

function readRecord({ record }: CachePaths): Made {
  try {
    return JSON.parse(readFileSync(record, 'utf8')) as Made;
  } catch {
    // None yet, or cut off: what it would name is built again.
    return {};
  }
}

function writeRecord({ record }: CachePaths, value: Made): void {
  writeFileSync(`${record}.part`, `${JSON.stringify(value, null, 2)}\n`);
  renameSync(`${record}.part`, record);
}
