// Requests as the agent reads them: what each verb carries, who wins among wishes, and that nothing but a typed cause
// ever comes out of what cannot be read. The refusals shared with the plugin are in shim.test.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PodwayError } from '../base/errors.ts';
import { renderError } from './errors.ts';
import { decodeRequest, isIfname, versionOfStdin } from './request.ts';
import { environment, nearlyConf } from './testing/arbitrary.ts';
import type { CniRequest } from './types.ts';

const key = { CNI_CONTAINERID: 'abc', CNI_NETNS: '/run/netns/x', CNI_IFNAME: 'eth0' };
const decode = (verb: string, conf: object, more: Record<string, string> = {}): CniRequest =>
  decodeRequest(
    { CNI_COMMAND: verb, ...key, ...more },
    JSON.stringify({ cniVersion: '1.1.0', name: 'podway', ...conf }),
  );
const add = (conf: object, args = '') => {
  const request = decode('ADD', conf, { CNI_ARGS: args });
  assert.ok(request.verb === 'ADD');
  return request;
};
const code = (wanted: string, object?: string) => (error: unknown) =>
  error instanceof PodwayError &&
  error.code === wanted &&
  (object === undefined || error.details.object === object);

test('A12 mac: CNI_ARGS, then args.cni, then runtimeConfig', () => {
  const mac = (n: number) => `02:00:00:00:00:0${n}`;
  assert.equal(add({}, `MAC=${mac(1)}`).conf.wishes.mac, mac(1));
  const args = { cni: { mac: mac(2) } };
  assert.equal(add({ args }, `MAC=${mac(1)}`).conf.wishes.mac, mac(2));
  assert.equal(
    add({ args, runtimeConfig: { mac: mac(3).toUpperCase() } }, `MAC=${mac(1)}`).conf.wishes.mac,
    mac(3),
  );
  assert.equal(add({}).conf.wishes.mac, undefined);
  for (const bad of ['x', '01:00:5e:00:00:01', '00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', 7]) {
    assert.throws(() => add({ runtimeConfig: { mac: bad } }), code('INVALID_CONFIG', 'runtimeConfig.mac'));
  }
  assert.throws(() => add({}, 'MAC=01:00:00:00:00:00'), code('BAD_ENVIRONMENT', 'CNI_ARGS'));
});

test('ips: the same order; each must be an address', () => {
  assert.deepEqual(add({}, 'IP=10.0.0.7').conf.wishes.ips, ['10.0.0.7']);
  assert.deepEqual(add({ args: { cni: { ips: ['10.0.0.8/24'] } } }, 'IP=10.0.0.7').conf.wishes.ips, [
    '10.0.0.8/24',
  ]);
  assert.deepEqual(
    add({ runtimeConfig: { ips: ['fd00::1'] }, args: { cni: { ips: ['10.0.0.8'] } } }).conf.wishes.ips,
    ['fd00::1'],
  );
  assert.throws(
    () => add({ runtimeConfig: { ips: ['10.0.0'] } }),
    code('INVALID_CONFIG', 'runtimeConfig.ips[0]'),
  );
});

test('A15 dns of the config; each list of runtimeConfig.dns replaces it, capitalised or not', () => {
  const dns = { nameservers: ['10.0.0.2'], domain: 'd', search: ['a'], options: ['ndots:5'] };
  assert.deepEqual(add({ dns }).conf.wishes.dns, dns);
  const runtimeConfig = { dns: { Servers: ['10.0.0.3'], searches: ['b'], Options: null } };
  assert.deepEqual(add({ dns, runtimeConfig }).conf.wishes.dns, {
    ...dns,
    nameservers: ['10.0.0.3'],
    search: ['b'],
  });
});

test('A17, A18 mtu and routes of the config', () => {
  const { wishes } = add({
    mtu: 1400,
    routes: [{ dst: '10.1.2.3/8', gw: '10.0.0.1', mtu: 1300, advmss: 1260, priority: 5, table: 7, scope: 0 }],
    defaultRoute: 'false',
  }).conf;
  assert.equal(wishes.mtu, 1400);
  assert.equal(wishes.defaultRoute, false);
  assert.deepEqual(wishes.routes, [
    { dst: '10.0.0.0/8', gw: '10.0.0.1', mtu: 1300, advmss: 1260, priority: 5, table: 7, scope: 0 },
  ]);
  for (const mtu of [-1, 100, 70000, 1.5, '1500'])
    assert.throws(() => add({ mtu }), code('INVALID_CONFIG', 'mtu'));
});

test('A07, A08 prevResult of any version is read; one that is none is refused on ADD', () => {
  const { prevResult } = add({ prevResult: { cniVersion: '0.2.0', ip4: { ip: '10.0.0.5/24' } } }).conf;
  assert.deepEqual(prevResult?.ips, [{ address: '10.0.0.5/24' }]);
  assert.throws(() => add({ prevResult: { ips: 7 } }), code('INVALID_CONFIG'));
});

test('the pod of CNI_ARGS; none outside Kubernetes', () => {
  const args =
    'IgnoreUnknown=true;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID=u;K8S_POD_INFRA_CONTAINER_ID=i;X=1';
  assert.deepEqual(add({}, args).pod, { namespace: 'ns', name: 'p', uid: 'u', infraContainerId: 'i' });
  assert.equal(add({}).pod, null);
});

test('D06, D10 DEL is refused for nothing but its key', () => {
  const broken = { prevResult: 'x', mtu: 'x', runtimeConfig: [], args: 7, routes: {}, dns: 3 };
  const request = decode('DEL', broken, { CNI_ARGS: 'x;;', CNI_NETNS: '' });
  assert.ok(request.verb === 'DEL');
  assert.equal(request.netns, null);
  assert.equal(request.conf.prevResult, null);
  assert.throws(
    () => decode('DEL', {}, { CNI_CONTAINERID: '../x' }),
    code('BAD_ENVIRONMENT', 'CNI_CONTAINERID'),
  );
});

test('P12 an interface name is text that Linux takes as it stands', () => {
  for (const name of ['eth0', 'ä', "$'-", 'x'.repeat(15)]) assert.ok(isIfname(name), name);
  const none = ['', '.', '..', 'all', 'default', 'a/b', 'a:b', 'a b', 'a\u00a0b', 'eth%d', '\x01', '\ufffd'];
  for (const name of none) assert.ok(!isIfname(name), JSON.stringify(name));
  assert.ok(!isIfname('ä'.repeat(8)));
});

test('C11 CHECK needs prevResult', () => {
  assert.throws(() => decode('CHECK', {}), code('INVALID_CONFIG', 'prevResult'));
  assert.throws(() => decode('CHECK', { prevResult: null }), code('INVALID_CONFIG', 'prevResult'));
  assert.equal(decode('CHECK', { prevResult: { cniVersion: '1.1.0' } }).verb, 'CHECK');
});

test('G02, G03, G12 the list of GC: present, empty, null, absent, by its older name', () => {
  const valid = (conf: object) => {
    const request = decode('GC', conf);
    assert.ok(request.verb === 'GC');
    return request.valid;
  };
  const one = { containerID: 'abc', ifname: 'eth0' };
  const read = { network: 'podway', containerId: 'abc', ifname: 'eth0' };
  assert.deepEqual(valid({ 'cni.dev/valid-attachments': [one] }), [read]);
  assert.deepEqual(valid({ 'cni.dev/valid-attachments': [], 'cni.dev/attachments': [one] }), []);
  assert.deepEqual(valid({ 'cni.dev/valid-attachments': null }), []);
  assert.deepEqual(valid({ 'cni.dev/attachments': [one] }), [read]);
  assert.throws(() => valid({}), code('INVALID_CONFIG', 'cni.dev/valid-attachments'));
  for (const bad of [
    'x',
    {},
    [7],
    [{}],
    [{ containerID: 'a/b', ifname: 'eth0' }],
    [{ containerID: 'a', ifname: 'a/b' }],
  ]) {
    assert.throws(() => valid({ 'cni.dev/valid-attachments': bad }), code('INVALID_CONFIG'));
  }
});

test('the version that an error names', () => {
  for (const [stdin, version] of [
    ['', '1.1.0'],
    ['{}', '0.1.0'],
    ['{"cniVersion":"0.3.1"}', '0.3.1'],
    ['{"cniVersion":"9.9.9"}', '9.9.9'],
    ['{"cniVersion":"x"}', '1.1.0'],
  ] as const) {
    assert.equal(versionOfStdin(stdin), version);
  }
});

// Anything at all, and configs that are nearly right: a request, or one typed cause that a contract code stands for.
test('whatever comes: a request or a typed cause, and that cause renders', () => {
  const stdin = fc.oneof(
    { weight: 4, arbitrary: nearlyConf },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 100 }) },
  );
  fc.assert(
    fc.property(environment, stdin, (env, text) => {
      try {
        decodeRequest(env as Record<string, string>, text);
      } catch (error) {
        assert.ok(error instanceof PodwayError, String((error as Error).stack));
        assert.ok([1, 4, 6, 7].includes(error.cni), error.code);
        const object = JSON.parse(JSON.stringify(renderError(versionOfStdin(text), error))) as {
          msg: string;
          details: string;
        };
        assert.ok(object.msg.startsWith(`${error.code}: `));
        JSON.parse(object.details);
      }
    }),
    { numRuns: 3000 },
  );
});
