// podway lab kubernetes install: builds what a lab with a real Kubernetes runs, into the user's cache. A program that is
// there, made by the same recipe (Go's version, source, flags), is left alone; so a run that was cut off goes on. Each is
// written aside and renamed: a lab that runs keeps the file that it has open.
// Fails with GO_MISSING, KUBERNETES_BUILD, BAD_VERSION or BAD_PROGRAM.
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { LabError } from '../daemon/errors.ts';
import { takeLock } from '../daemon/lock.ts';
import { type Build, buildsOf, ldflags, recipe } from './builds.ts';
import { Go } from './go.ts';
import { buildImage, type Image, imageFile, imageRecipe, images } from './images.ts';
import { kubernetesModule, type Module } from './module.ts';
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
export type Made = Record<string, { recipe: string; version: string; built: string }>;

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
  const scratch = join(paths.root, 'scratch');
  try {
    rmSync(scratch, { recursive: true, force: true });
    mkdirSync(scratch);
    request.say(`Kubernetes ${version} with ${go.version}: fetching the source`);
    const module = await kubernetesModule(version, paths, go);
    const parts = chosen(
      [
        ...buildsOf(module, paths).map((build) => programPart(build, go, module)),
        ...images.map((image) => imagePart(image, paths, module)),
      ],
      request.only ?? [],
    );
    const installed: Installed[] = [];
    for (const [index, part] of parts.entries()) {
      const place = `${part.name} ${part.version} (${index + 1} of ${parts.length})`;
      installed.push(await makePart(part, { paths, scratch, place, say: request.say }));
    }
    return { version, installed };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
    lock.release();
  }
}

/** A file to make: what of, and how. */
type Part = {
  name: string;
  version: string;
  file: string;
  /** The same text, the same file. */
  recipe(): string;
  /** Writes the file at another path; `scratch` is one folder for all that one run makes. */
  make(aside: string, scratch: string): Promise<void>;
};

const programPart = (build: Build, go: Go, { folder }: Module): Part => ({
  name: build.name,
  version: build.version,
  file: build.file,
  recipe: () => recipe(build, go.version),
  make: (aside) => compile(build, { go, folder, aside }),
});

const imagePart = (image: Image, paths: CachePaths, { version, source }: Module): Part => ({
  name: `${image.name}.tar`,
  version,
  file: imageFile(paths, image),
  recipe: () => imageRecipe(image, readRecord(paths)),
  make: (aside, scratch) => buildImage(image, aside, { paths, scratch, source }),
});

function chosen(parts: Part[], only: string[]): Part[] {
  const unknown = only.find((name) => !parts.some((part) => part.name === name));
  if (unknown !== undefined) {
    const names = parts.map((part) => part.name).join(', ');
    throw new LabError(
      'BAD_PROGRAM',
      `"${unknown}" is no program of the lab's Kubernetes`,
      `one of ${names}`,
      {
        exit: 2,
      },
    );
  }
  return only.length === 0 ? parts : parts.filter((part) => only.includes(part.name));
}

type Making = { paths: CachePaths; scratch: string; place: string; say(text: string): void };

async function makePart(part: Part, { paths, scratch, place, say }: Making): Promise<Installed> {
  const { name, version, file } = part;
  const key = file.slice(paths.root.length + 1);
  const made = part.recipe();
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
    await part.make(aside, scratch);
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
  const verb = build.kind === 'test' ? ['test', '-c', '-vet=off'] : ['build'];
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
