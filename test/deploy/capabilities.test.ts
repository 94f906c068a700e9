// The two capabilities of the chart are enough for all that an agent does in the kernel, and neither can be spared.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Feature } from '../../src/kernel/features.ts';
import { manifests, one } from './manifest.ts';

const features = join(import.meta.dirname, '../../src/kernel/features.ts');
const PROBE = `const { probeFeatures } = await import(${JSON.stringify(features)}); console.log(JSON.stringify(probeFeatures()))`;
const isRoot = process.getuid?.() === 0;
const hasSetpriv = spawnSync('setpriv', ['--version']).status === 0;
const skip = !isRoot ? 'needs root for network namespaces' : hasSetpriv ? false : 'no setpriv (util-linux)';

/** Needed features that are missing with these capabilities alone; the row that only looks at them left out. */
function missing(capabilities: string[]): string[] {
  const set = ['-all', ...capabilities.map((name) => `+${name.toLowerCase()}`)].join(',');
  const { stdout, stderr } = spawnSync(
    'setpriv',
    [
      `--bounding-set=${set}`,
      `--inh-caps=${set}`,
      '--',
      process.execPath,
      '--input-type=module',
      '-e',
      PROBE,
    ],
    { encoding: 'utf8', timeout: 60_000 },
  );
  assert.notEqual(stdout, '', stderr);
  return (JSON.parse(stdout) as Feature[])
    .filter(({ name, needed, present }) => needed && !present && name !== 'root')
    .map(({ name }) => name);
}

const { add } = one(manifests(), 'DaemonSet').spec!.template.spec.containers[0]!.securityContext.capabilities;

test('with the capabilities of the chart nothing is missing', { skip }, () => {
  assert.deepEqual(missing(add), []);
});

test('without any one of them something is', { skip }, () => {
  for (const each of add) assert.notDeepEqual(missing(add.filter((name) => name !== each)), [], each);
});
