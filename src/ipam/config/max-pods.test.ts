import assert from 'node:assert/strict';
import { test } from 'node:test';
import { limitsFromTable } from '../../cloud/limits.ts';
import { maxPods, type PodRoom, podAddresses } from './max-pods.ts';

const cases: [type: string, room: PodRoom, pods: number, addresses: number][] = [
  ['m5.large', {}, 29, 27],
  ['m5.large', { customNetworking: true }, 20, 18],
  ['m5.large', { prefixes: true }, 110, 432],
  ['m5.large', { prefixes: true, customNetworking: true }, 110, 288],
  ['m5.large', { reservedEnis: 1 }, 20, 18],
  ['m5.large', { maxEnis: 1 }, 11, 9],
  ['m5.large', { maxEnis: 1, customNetworking: true }, 2, 0],
  ['m5.large', { maxEnis: 99 }, 29, 27],
  ['t3.small', {}, 11, 9],
  ['t3.micro', { prefixes: true }, 34, 32],
  ['p3dn.24xlarge', {}, 737, 735],
  ['p3dn.24xlarge', { prefixes: true }, 737, 11760],
  // No Nitro: no prefixes.
  ['t2.micro', { prefixes: true }, 4, 2],
];
for (const [type, room, pods, addresses] of cases) {
  test(`${type} ${JSON.stringify(room)}: ${pods} pods, ${addresses} addresses`, () => {
    const limits = limitsFromTable(type)!;
    assert.equal(maxPods(limits, room), pods);
    assert.equal(podAddresses(limits, room), addresses);
  });
}
