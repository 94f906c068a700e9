// npm run chart: what is made of the chart and beside it. deploy/podway.yaml is the chart rendered with its defaults, for
// whoever has no Helm; the chart's crds/ are copies of deploy/crds, since Helm reads nothing outside a chart. The head of
// deploy/podway.yaml has a hash of the chart's files, so that a test without Helm sees that it is old.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  cpSync,
  globSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { cachePaths, KUBERNETES_VERSION } from '../src/lab/kubernetes/version.ts';

const root = join(import.meta.dirname, '..');
export const chart = join(root, 'deploy/chart/podway');
export const manifest = join(root, 'deploy/podway.yaml');
const NAMESPACE = 'kube-system';

/** Helm 4 and 3 in the cache of `podway lab kubernetes install`, else the one on the path. */
export function helms(): string[] {
  const { components } = cachePaths(KUBERNETES_VERSION);
  const path = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  const kept = globSync('helm*/helm', { cwd: components })
    .sort()
    .map((file) => join(components, file));
  const usable = (file: string) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  };
  const found = path.map((folder) => join(folder, 'helm')).find(usable);
  return kept.length > 0 ? kept.filter(usable) : found ? [found] : [];
}

/** Of all that a rendering is made of. */
export function chartHash(): string {
  const hash = createHash('sha256');
  for (const file of globSync('{*.yaml,*.json,crds/*,files/*,templates/*}', { cwd: chart }).sort())
    hash.update(`${file}\0`).update(readFileSync(join(chart, file)));
  return hash.digest('hex');
}

/** `template` or `lint`. A Helm that was built without its release's stamps takes clusters for very old ones. */
export function helm(program: string, args: string[]): { ok: boolean; stdout: string; stderr: string } {
  const version = ['--kube-version', KUBERNETES_VERSION];
  const { status, stdout, stderr } = spawnSync(program, [...args, ...version], { encoding: 'utf8' });
  return { ok: status === 0, stdout, stderr };
}

/** The text of deploy/podway.yaml. */
export function rendered(program: string): string {
  const { ok, stdout, stderr } = helm(program, [
    'template',
    'podway',
    chart,
    '-n',
    NAMESPACE,
    '--include-crds',
    // What runs when a release ends is Helm's alone.
    '--no-hooks',
  ]);
  if (!ok) throw new Error(`helm template: ${stderr}`);
  const documents = stdout.replace(/^---\n# Source: .*\n/gm, '---\n').trim();
  return `# Made of deploy/chart/podway by \`npm run chart\`: the chart with its defaults, in ${NAMESPACE}. Name your image first.\n# Chart: sha256:${chartHash()}\n${documents}\n`;
}

if (import.meta.main) {
  rmSync(join(chart, 'crds'), { recursive: true, force: true });
  mkdirSync(join(chart, 'crds'));
  for (const file of globSync('*.yaml', { cwd: join(root, 'deploy/crds') }))
    cpSync(join(root, 'deploy/crds', file), join(chart, 'crds', file));
  const [program] = helms();
  if (program === undefined) {
    console.error(
      'podway: HELM_MISSING: there is no helm on the path (podway lab kubernetes install builds one)',
    );
    process.exitCode = 1;
  } else writeFileSync(manifest, rendered(program));
}
