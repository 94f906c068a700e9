// The chart's values: every one is documented in values.yaml and known to the schema, and wrong ones are refused by name.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { chart, helm, helms } from '../../tools/chart.ts';
import { faults, type Schema } from './schema.ts';

const schema = JSON.parse(readFileSync(join(chart, 'values.schema.json'), 'utf8')) as Schema;
type Values = Record<string, Record<string, unknown>>;
const defaults = parse(readFileSync(join(chart, 'values.yaml'), 'utf8')) as Values;

test('the defaults are what the schema takes, and all that it knows has a default', () => {
  assert.deepEqual(faults(defaults, schema), []);
  const known = (part: Schema) => Object.keys((part['properties'] ?? {}) as object);
  assert.deepEqual(
    known(schema)
      .filter((key) => key !== 'global')
      .sort(),
    Object.keys(defaults).sort(),
  );
  const inner = schema['properties'] as Record<string, Schema>;
  for (const [key, value] of Object.entries(defaults)) {
    if (key === 'settings' || !inner[key]!['properties']) continue;
    assert.deepEqual(known(inner[key]!).sort(), Object.keys(value).sort(), key);
  }
});

test('the settings that are shown in values.yaml are those of the schema', () => {
  const text = readFileSync(join(chart, 'values.yaml'), 'utf8');
  const [, block = ''] = /^settings: \{\}\n((?: {2}#.*\n)+)/m.exec(text) ?? [];
  const shown = parse(block.replace(/^ {2}# /gm, '')) as object;
  const { settings } = schema['properties'] as Record<string, Schema>;
  assert.deepEqual(Object.keys(shown).sort(), Object.keys(settings!['properties'] as object).sort());
  assert.deepEqual(faults(shown, settings!), []);
});

const good: [string, object][] = [
  ['a registry and a digest', { image: { repository: 'r/podway', digest: `sha256:${'a'.repeat(64)}` } }],
  [
    'settings',
    { settings: { addressing: 'prefix', warm: 0, cooldown: '1.5s', excludeSnatCidrs: ['10.0.0.0/8'] } },
  ],
  ['variables of the AWS VPC CNI', { env: { WARM_IP_TARGET: '5', ENABLE_IPv4: 'true' } }],
  ['a number of unavailable nodes', { agent: { maxUnavailable: 1 } }],
  ['no SELinux', { agent: { seLinuxOptions: {} } }],
  ['uninstalling the nodes of one label', { uninstall: { enabled: true, nodeSelector: { pool: 'old' } } }],
];
const bad: [string, object, RegExp][] = [
  ['an unknown value', { imag: {} }, /imag/],
  ['an unknown setting', { settings: { warmth: 1 } }, /warmth/],
  ['a setting without its unit', { settings: { cooldown: '30' } }, /cooldown/],
  ['another addressing', { settings: { addressing: 'ipv6' } }, /addressing/],
  ['a number as a variable', { env: { WARM_IP_TARGET: 5 } }, /WARM_IP_TARGET/],
  ['a port', { metrics: { port: 70000 } }, /port/],
  ['another address', { metrics: { address: '0.0.0.0' } }, /address/],
  ['a relative directory', { host: { binDir: 'opt/cni/bin' } }, /binDir/],
  ['a chained plugin that is unknown', { chain: ['firewall'] }, /chain/],
  ['a percentage of nothing', { agent: { maxUnavailable: '0%' } }, /maxUnavailable/],
  ['a half digest', { image: { digest: 'sha256:abc' } }, /digest/],
  ['two labels', { uninstall: { enabled: true, nodeSelector: { a: 'b', c: 'd' } } }, /nodeSelector/],
  ['a region', { aws: { region: 'us_west' } }, /region/],
];

for (const [what, values] of good) test(`taken: ${what}`, () => assert.deepEqual(faults(values, schema), []));
for (const [what, values, says] of bad)
  test(`refused: ${what}`, () => assert.match(faults(values, schema).join('\n'), says));

const programs = helms();
const skip = programs.length === 0 ? 'no helm (podway lab kubernetes install builds one)' : false;
test('Helm judges alike', { skip, timeout: 120_000 }, () => {
  const template = (values: object) => helm(programs[0]!, ['template', 'podway', chart, ...sets(values)]);
  for (const [what, values] of good) assert.equal(template(values).stderr, '', what);
  for (const [what, values, says] of bad) {
    const { ok, stderr } = template(values);
    assert.equal(ok, false, what);
    assert.match(stderr, says);
  }
});

const sets = (values: object): string[] =>
  Object.entries(values).flatMap(([key, value]) => ['--set-json', `${key}=${JSON.stringify(value)}`]);
