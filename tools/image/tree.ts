// The files of Podway in the image: compiled JavaScript, production packages, the pinned Node, the C plugin. Run by
// deploy/Dockerfile: tree.ts OUT. Left out is all that no command of a cluster loads: the lab and the planner, apart
// from what the command line imports of them at its start, and the packages that only they use.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, globSync, mkdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { buildProgram } from '../../src/base/programs.ts';
import { closureOf } from './closure.ts';

const root = join(import.meta.dirname, '../..');
const out = process.argv[2];
if (!out) throw new Error('usage: tree.ts OUT');

const { status } = spawnSync(process.execPath, [join(root, 'tools/build.ts')], { stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);

const read = (file: string) => readFileSync(join(root, file), 'utf8');
const built = globSync('dist/src/**/*.js', { cwd: root });
const isOfCluster = (file: string) => !/^dist\/src\/(lab|planner)\//.test(file);
const kept = closureOf(built.filter(isOfCluster), read, isOfCluster);

const put = (from: string, to = from) => {
  mkdirSync(dirname(join(out, to)), { recursive: true });
  cpSync(join(root, from), join(out, to), { recursive: true, dereference: true, filter: isWanted });
};
/** Declarations, maps and texts of packages are read by people and compilers alone. */
const isWanted = (path: string) => !/\.(d\.[cm]?ts|map|md|markdown)$/.test(path);

/** The packages that `name` needs, itself first, as folders below the root. */
function packages(name: string, from: string, found = new Set<string>()): Set<string> {
  for (let at = from; ; at = dirname(at)) {
    const folder = join(at, 'node_modules', name);
    if (existsSync(join(root, folder, 'package.json'))) {
      if (found.has(folder)) return found;
      found.add(folder);
      const { dependencies, optionalDependencies } = JSON.parse(read(join(folder, 'package.json')));
      for (const each of Object.keys({ ...dependencies, ...optionalDependencies }))
        packages(each, folder, found);
      return found;
    }
    if (at === '.') return found;
  }
}

rmSync(out, { recursive: true, force: true });
for (const file of kept) put(file);
const { dependencies } = JSON.parse(read('package.json')) as { dependencies: Record<string, string> };
for (const name of Object.keys(dependencies)) for (const folder of packages(name, '.')) put(folder);
const node = `node_modules/node-linux-${process.arch}`;
for (const file of ['package.json', 'LICENSE', 'bin/node']) put(`${node}/${file}`);
for (const file of ['package.json', 'LICENSE', 'bin/podway', 'bin/package.json', 'data/instance-limits.json'])
  put(file);
symlinkSync('podway', join(out, 'bin/kubectl-podway'));
symlinkSync(`../${node}/bin/node`, join(out, 'bin/node'));
// Where the agent's installation looks for it.
const { path } = await buildProgram('podway-cni', { srcRoot: root, outDir: join(root, 'build') });
put(relative(root, path), 'build/podway-cni');
console.log(`image: ${kept.length} of ${built.length} files`);
