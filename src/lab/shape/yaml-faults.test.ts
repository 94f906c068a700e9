// Faults and bucket sizes in lab.yaml: read as written, refused with the line.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLabYaml } from './yaml-rules.ts';

const base = `vpcs:
  - name: v
    cidrs: [10.0.0.0/16]
    subnets: [{ name: a, cidr: 10.0.0.0/24, zone: us-west-2a }]
instances:
  - { name: n1, subnet: a }
`;

test('faults and sizes are read', () => {
  const shape = parseLabYaml(
    `${base}faults:
  - { action: DescribeSubnets, error: Unavailable, rate: 0.5, seed: 3, node: n1 }
  - { action: 'imds:network/*', stale: 10m, count: 4 }
  - { action: '*', dropAnswer: true }
throttle:
  - { action: CreateNetworkInterface, rate: 0.5, burst: 5 }
  - { rate: 2, burst: 10 }
`,
    'lab.yaml',
  );
  assert.deepEqual(shape.faults, [
    {
      action: 'DescribeSubnets',
      effect: { kind: 'error', code: 'Unavailable' },
      rate: 0.5,
      seed: 3,
      node: 'n1',
    },
    { action: 'imds:network/*', effect: { kind: 'stale', ms: 600_000 }, rate: 1, seed: 1, count: 4 },
    { action: '*', effect: { kind: 'drop-answer' }, rate: 1, seed: 1 },
  ]);
  assert.deepEqual(shape.throttle, [
    { action: 'CreateNetworkInterface', perSecond: 0.5, burst: 5 },
    { action: '*', perSecond: 2, burst: 10 },
  ]);
});

for (const [what, text, because] of [
  ['no effect', "faults:\n  - { action: '*' }", /:8: faults\[0\] does not have one of/],
  ['two effects', "faults:\n  - { action: '*', error: X, delay: 1s }", /does not have one of/],
  ['no such action', 'faults:\n  - { action: MakeCoffee, error: X }', /:8: .*MakeCoffee/],
  ['no such node', "faults:\n  - { action: '*', error: X, node: n7 }", /:8: .*"n7", which is no instance/],
  ['no duration', "faults:\n  - { action: '*', delay: soon }", /no duration/],
  ['a burst of 0', 'throttle:\n  - { rate: 1, burst: 0 }', /:8: .*burst is 0/],
  ['no rate', 'throttle:\n  - { burst: 3 }', /rate is missing/],
] as const) {
  test(`${what} is refused`, () => {
    assert.throws(() => parseLabYaml(`${base}${text}\n`, 'lab.yaml'), because);
  });
}
