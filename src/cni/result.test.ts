// Results in all seven versions: golden shapes, conversions there and back (section 9 of the CNI facts).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PodwayError } from '../base/errors.ts';
import { parseResult, renderResult } from './result.ts';
import type { JsonObject, Result } from './types.ts';
import { SUPPORTED_VERSIONS } from './versions.ts';

const dual: Result = {
  interfaces: [
    { name: 'host0', mac: '02:00:00:00:00:01', mtu: 9001 },
    { name: 'eth0', mac: '02:00:00:00:00:02', mtu: 9001, sandbox: '/run/netns/x', pciID: '0000:00:05.0' },
  ],
  ips: [
    { address: '10.0.0.5/24', gateway: '10.0.0.1', interface: 0 },
    { address: 'fd00::5/64' },
    { address: '10.0.0.6/24', interface: 1 },
  ],
  routes: [
    { dst: '0.0.0.0/0', mtu: 1500, advmss: 1460, priority: 0, table: 4294967295, scope: 253 },
    { dst: '::/0', gw: 'fd00::1' },
  ],
  dns: { nameservers: ['10.0.0.2'], search: [] },
};

const dns = { nameservers: ['10.0.0.2'] };
const thin = [
  { name: 'host0', mac: '02:00:00:00:00:01' },
  { name: 'eth0', mac: '02:00:00:00:00:02', sandbox: '/run/netns/x' },
];
const thinRoutes = [{ dst: '0.0.0.0/0' }, { dst: '::/0', gw: 'fd00::1' }];
const old = {
  ip4: { ip: '10.0.0.5/24', gateway: '10.0.0.1', routes: [{ dst: '0.0.0.0/0' }] },
  ip6: { ip: 'fd00::5/64', routes: [{ dst: '::/0', gw: 'fd00::1' }] },
  dns,
};
const middle = {
  interfaces: thin,
  ips: [
    { version: '4', interface: 0, address: '10.0.0.5/24', gateway: '10.0.0.1' },
    { version: '6', address: 'fd00::5/64' },
    { version: '4', interface: 1, address: '10.0.0.6/24' },
  ],
  routes: thinRoutes,
  dns,
};
const shapes: Record<string, object> = {
  '0.1.0': old,
  '0.2.0': old,
  '0.3.0': middle,
  '0.3.1': middle,
  '0.4.0': middle,
  '1.0.0': { ...middle, ips: dual.ips },
  '1.1.0': { interfaces: dual.interfaces, ips: dual.ips, routes: dual.routes, dns },
};
for (const version of SUPPORTED_VERSIONS) {
  test(`written in ${version}`, () => {
    assert.deepEqual(renderResult(dual, version), { cniVersion: version, ...shapes[version] });
  });
}

test('empty lists and dns are left out; a result may be empty but not in 0.2', () => {
  const empty: Result = { interfaces: [], ips: [], routes: [], dns: { domain: '' } };
  assert.deepEqual(renderResult(empty, '1.0.0'), { cniVersion: '1.0.0' });
  assert.throws(
    () => renderResult(empty, '0.2.0'),
    (error) => error instanceof PodwayError && error.code === 'INCOMPATIBLE_VERSION',
  );
});

test('null lists are empty, unknown keys are no matter, addresses keep their host bits, prefixes do not', () => {
  const read = parseResult(
    {
      cniVersion: '1.0.0',
      interfaces: null,
      ips: [{ address: '10.1.2.3/8', x: 1 }],
      routes: [{ dst: '10.1.2.3/8', gw: '' }],
      dns: null,
      y: {},
    },
    '1.0.0',
  );
  assert.deepEqual(read, {
    interfaces: [],
    ips: [{ address: '10.1.2.3/8' }],
    routes: [{ dst: '10.0.0.0/8' }],
    dns: {},
  });
});

test('up from 0.2: interface absent, routes one list, dns kept', () => {
  const up = renderResult(parseResult({ cniVersion: '0.2.0', ...old } as JsonObject, '0.2.0'), '1.0.0');
  assert.deepEqual(up, {
    cniVersion: '1.0.0',
    ips: [{ address: '10.0.0.5/24', gateway: '10.0.0.1' }, { address: 'fd00::5/64' }],
    routes: thinRoutes,
    dns,
  });
});

for (const [field, result] of [
  ['ips', { ips: 'x' }],
  ['ips[0].address', { ips: [{ address: '10.0.0.5' }] }],
  ['ips[0].address', { ips: [{ address: '10.0.0.5/33' }] }],
  ['ips[0].interface', { ips: [{ address: '10.0.0.5/32', interface: 1.5 }] }],
  ['routes[0].dst', { routes: [{}] }],
  ['routes[0].table', { routes: [{ dst: '::/0', table: 4294967296 }] }],
  ['interfaces[0].name', { interfaces: [{ mac: 'x' }] }],
  ['cniVersion', { cniVersion: '7.0.0' }],
  ['dns.search[0]', { dns: { search: [1] } }],
] as const) {
  test(`refused and named: ${field}`, () => {
    assert.throws(
      () => parseResult(result as unknown as JsonObject, '1.1.0'),
      (error) =>
        error instanceof PodwayError &&
        error.code === 'INVALID_CONFIG' &&
        error.details.object === `prevResult.${field}`,
    );
  });
}

test('written and read again in 1.1.0 is the same, and each version is a fixed point of itself', () => {
  const v4 = fc.ipV4().chain((ip) => fc.integer({ min: 0, max: 32 }).map((length) => `${ip}/${length}`));
  const uint = fc.integer({ min: 0, max: 0xffffffff });
  const result: fc.Arbitrary<Result> = fc.record(
    {
      interfaces: fc.array(
        fc.record(
          { name: fc.string({ minLength: 1 }), mtu: fc.integer({ min: 1, max: 65535 }) },
          { requiredKeys: ['name'], noNullPrototype: true },
        ),
      ),
      ips: fc.array(
        fc.record(
          { address: v4, gateway: fc.ipV4(), interface: fc.nat(20) },
          { requiredKeys: ['address'], noNullPrototype: true },
        ),
        { minLength: 1 },
      ),
      routes: fc.array(
        fc.record(
          {
            dst: fc.constantFrom('0.0.0.0/0', '10.0.0.0/8', '::/0'),
            gw: fc.ipV4(),
            mtu: uint,
            table: uint,
            scope: uint,
          },
          { requiredKeys: ['dst'], noNullPrototype: true },
        ),
      ),
      dns: fc.record(
        { nameservers: fc.array(fc.ipV4(), { minLength: 1 }) },
        { requiredKeys: [], noNullPrototype: true },
      ),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(result, (value) => {
      assert.deepEqual(parseResult(renderResult(value, '1.1.0'), '1.1.0'), value);
      for (const version of SUPPORTED_VERSIONS) {
        const told = renderResult(value, version);
        assert.deepEqual(renderResult(parseResult(told, version), version), told);
      }
    }),
    { numRuns: 200 },
  );
});
