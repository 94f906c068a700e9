// What the API refuses of a Service's ports.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkService, completeService } from './services.ts';
import { startApi } from './testing.ts';

const complaints = (spec: object): string[] => {
  const object = { metadata: { name: 's' }, spec: structuredClone(spec) };
  completeService(object, { serviceCidrs: ['172.20.0.0/16'], list: () => [] } as never, null);
  return checkService(object).map(({ field, message }) => `${field}: ${message}`);
};

test('ports that are none are refused by field and bound', () => {
  const RANGE = 'must be between 1 and 65535, inclusive';
  const cases: [object, string[]][] = [
    [{ ports: [{ port: 80 }] }, []],
    [{ ports: [{ port: 80, targetPort: 'http' }] }, []],
    [{ clusterIP: 'None' }, []],
    [{ type: 'ExternalName', externalName: 'a.b' }, []],
    [{ type: 'NodePort', ports: [{ port: 80, nodePort: 30_080 }] }, []],
    [{}, ['spec.ports: Required value']],
    [{ ports: [{ port: 65_536, targetPort: 80 }] }, [`spec.ports[0].port: Invalid value: 65536: ${RANGE}`]],
    [{ ports: [{ port: 0, targetPort: 80 }] }, [`spec.ports[0].port: Invalid value: 0: ${RANGE}`]],
    [
      { ports: [{ port: 80, targetPort: 99_999 }] },
      [`spec.ports[0].targetPort: Invalid value: 99999: ${RANGE}`],
    ],
    [
      { ports: [{ port: 80, targetPort: 'not a name' }] },
      ['spec.ports[0].targetPort: Invalid value: "not a name": must be a port or the name of one'],
    ],
    [
      { type: 'NodePort', ports: [{ port: 80, nodePort: 80 }] },
      ['spec.ports[0].nodePort: Invalid value: 80: must be between 30000 and 32767, inclusive'],
    ],
    [
      {
        ports: [
          { name: 'a', port: 80 },
          { name: 'b', port: 80 },
        ],
      },
      ['spec.ports[1]: Duplicate value: "TCP 80"'],
    ],
    [{ ports: [{ name: 'a', port: 80 }, { port: 81 }] }, ['spec.ports[1].name: Required value']],
  ];
  for (const [spec, wanted] of cases) assert.deepEqual(complaints(spec), wanted, JSON.stringify(spec));
});

test('a Service with port 99999 is answered 422 and not stored', async () => {
  await using h = await startApi();
  const path = '/api/v1/namespaces/default/services';
  const body = JSON.stringify({ metadata: { name: 'far' }, spec: { ports: [{ port: 99_999 }] } });
  const answer = await h.raw('POST', path, { body });
  assert.equal(answer.code, 422);
  assert.match(answer.text, /spec\.ports\[0\]\.port: Invalid value: 99999/);
  assert.equal((await h.raw('GET', `${path}/far`)).code, 404);
});

test('a service has the families that it asks for and the cluster has, with a cluster address of each', () => {
  const both = ['172.20.0.0/16', 'fd30:1c53:5f8a::/108'];
  const complete = (spec: object, ranges: string[], before: object | null = null) => {
    const object = { metadata: { name: 's' }, spec: { ports: [{ port: 80 }], ...spec } };
    completeService(object, { serviceCidrs: ranges, list: () => [] } as never, before as never);
    const { ipFamilies, ipFamilyPolicy, clusterIP, clusterIPs } = object.spec as Record<string, unknown>;
    return { ipFamilies, ipFamilyPolicy, clusterIP, clusterIPs };
  };
  assert.deepEqual(complete({}, both), {
    ipFamilies: ['IPv4'],
    ipFamilyPolicy: 'SingleStack',
    clusterIP: '172.20.0.2',
    clusterIPs: ['172.20.0.2'],
  });
  const dual = {
    ipFamilies: ['IPv4', 'IPv6'],
    ipFamilyPolicy: 'PreferDualStack',
    clusterIP: '172.20.0.2',
    clusterIPs: ['172.20.0.2', 'fd30:1c53:5f8a::2'],
  };
  assert.deepEqual(complete({ ipFamilyPolicy: 'PreferDualStack' }, both), dual);
  assert.deepEqual(complete({ ipFamilyPolicy: 'PreferDualStack' }, both.slice(0, 1)).ipFamilies, ['IPv4']);
  assert.deepEqual(complete({ ipFamilies: ['IPv6'] }, both).clusterIPs, ['fd30:1c53:5f8a::2']);
  assert.deepEqual(complete({}, both.toReversed()).ipFamilies, ['IPv6']);
  assert.deepEqual(complete({ ipFamilies: ['IPv6', 'IPv4'] }, both), {
    ipFamilies: ['IPv6', 'IPv4'],
    ipFamilyPolicy: 'RequireDualStack',
    clusterIP: 'fd30:1c53:5f8a::2',
    clusterIPs: ['fd30:1c53:5f8a::2', '172.20.0.2'],
  });
  assert.deepEqual(complete({ clusterIP: 'None', ipFamilyPolicy: 'PreferDualStack' }, both).clusterIPs, [
    'None',
  ]);
  // An IPv4 service that becomes dual keeps its address.
  const before = {
    spec: { ...dual, ipFamilies: ['IPv4'], clusterIP: '172.20.9.9', clusterIPs: ['172.20.9.9'] },
  };
  assert.deepEqual(complete({ ipFamilyPolicy: 'RequireDualStack' }, both, before).clusterIPs, [
    '172.20.9.9',
    'fd30:1c53:5f8a::2',
  ]);
  const one = both.slice(0, 1);
  assert.throws(
    () => complete({ ipFamilies: ['IPv6'] }, one),
    /spec\.ipFamilies\[0\]: .*not configured on this/,
  );
  assert.throws(() => complete({ ipFamilyPolicy: 'RequireDualStack' }, one), /not configured for dual-stack/);
  assert.throws(
    () => complete({ ipFamilyPolicy: 'SingleStack', ipFamilies: ['IPv4', 'IPv6'] }, both),
    /must be RequireDualStack or PreferDualStack/,
  );
});
