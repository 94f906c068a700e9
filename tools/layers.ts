// Checks that every folder of src/ imports only from lower layers, that only src/kernel loads the FFI library, and that
// what ships imports only packages that are installed with it.
// Fails with one line per offence: file, import, rule.
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative, sep } from 'node:path';

const root = join(import.meta.dirname, '..');

/** Lowest first; folders of one row may not import each other, unless `sideways` names the pair. */
const layers: string[][] = [
  ['base'],
  ['kernel'],
  ['cloud', 'cni', 'kube'],
  ['ipam', 'datapath', 'policy', 'services'],
  ['agent', 'controller', 'lab'],
  ['planner'],
  ['cli', 'console'],
];
const levelOf = new Map(layers.flatMap((row, level) => row.map((folder) => [folder, level] as const)));
const ffiOwner = 'kernel';

type Packages = Record<string, string>;
const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  dependencies: Packages;
  peerDependencies: Packages;
};
/** npm installs them unless told to omit peers; the lab alone needs them. */
const installed = { ...dependencies, ...peerDependencies };
/** As tools/build.ts leaves them out of the package. */
const notShipped = /\.test\.ts$|\/testing[^/]*\.ts$|\/testkit\.ts$|\/(testing|testdata)\//;
/** A name under node_modules; other text that stands behind `from` in a file is none. */
const PACKAGE = /^(@[a-z0-9-]+\/)?[a-z][a-z0-9.-]*(\/[\w./-]+)?$/;
const packageOf = (specifier: string): string => /^(@[^/]+\/)?[^/]+/.exec(specifier)![0];

const offences: string[] = [];
let imports = 0;
for (const file of globSync('src/**/*.ts', { cwd: root })) {
  const folder = file.split(sep)[1] ?? '';
  const level = levelOf.get(folder);
  if (level === undefined) {
    offences.push(`${file}: folder src/${folder} is in no layer`);
    continue;
  }
  const text = readFileSync(join(root, file), 'utf8');
  for (const match of text.matchAll(/(?:from|import)\s*\(?\s*['"]([^'"]+)['"]/g)) {
    const specifier = match[1]!;
    imports++;
    if (specifier === 'koffi' && folder !== ffiOwner)
      offences.push(`${file}: only src/${ffiOwner} may load koffi`);
    if (PACKAGE.test(specifier) && !notShipped.test(file) && !isTypeImport(text, match)) {
      if (!Object.hasOwn(installed, packageOf(specifier)))
        offences.push(`${file}: ${specifier} is not installed with the package`);
    }
    if (!specifier.startsWith('.')) continue;
    const target = relative(root, normalize(join(root, dirname(file), specifier)));
    const [top, targetFolder = ''] = target.split(sep);
    if (top !== 'src' || targetFolder === folder) continue;
    const isTest = /\.test\.ts$/.test(file);
    const targetLevel = levelOf.get(targetFolder);
    if (targetLevel === undefined || targetLevel > level || (targetLevel === level && !isTest)) {
      offences.push(`${file}: src/${folder} may not import ${target}`);
    }
  }
}
/** Gone when it runs: `import type … from`. */
function isTypeImport(text: string, match: RegExpMatchArray): boolean {
  const begins = text.lastIndexOf('\nimport ', match.index) + 1;
  return match[0].startsWith('from') && text.startsWith('import type ', begins);
}

for (const offence of offences) console.error(offence);
console.log(`layers: ${imports} imports checked, ${offences.length} offences`);
process.exitCode = offences.length === 0 ? 0 : 1;
