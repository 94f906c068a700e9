// The pod's annotation: written as EKS writes it, read as Go reads it, refused with the field's name.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Ipv4, type Ipv6, parseCidr, parseIpv4 } from '../base/ip.ts';
import { localMac } from '../base/mac.ts';
import { asksForBranch, decodePodEnis, encodePodEnis, MAX_VLAN, type PodEni } from './vpc-resources.ts';

const eks =
  '[{"eniId":"eni-0123","ifAddress":"02:0A:00:00:00:01","privateIp":"10.0.9.33","ipv6Addr":"","vlanId":7,"subnetCidr":"10.0.9.0/24","subnetV6Cidr":"","associationID":"trunk-assoc-1"}]';

test('the annotation is read in either spelling of the VLAN id', () => {
  const expected: PodEni = {
    eniId: 'eni-0123',
    mac: '02:0a:00:00:00:01' as PodEni['mac'],
    vlanId: 7,
    ip: parseIpv4('10.0.9.33'),
    ip6: null,
    subnet: parseCidr('10.0.9.0/24'),
    subnet6: null,
    associationId: 'trunk-assoc-1',
  };
  assert.deepEqual(decodePodEnis(eks), [expected]);
  assert.deepEqual(decodePodEnis(eks.replace('vlanId', 'vlanID')), [expected]);
  assert.equal(encodePodEnis([expected]), eks.replace('02:0A', '02:0a'));
});

test('what is wrong in the annotation is named', () => {
  const cases: [string, RegExp][] = [
    ['', /is no JSON/],
    ['{}', /not a list/],
    ['[]', /at least one/],
    ['[1]', /\[0\] is no object/],
    [eks.replace('"vlanId":7', '"vlanId":"7"'), /\[0\]\.vlanId is "7", not a number from 1 to 4094/],
    [eks.replace('"vlanId":7', '"vlanId":4095'), /vlanId is 4095/],
    [eks.replace('10.0.9.33', '10.0.9.333'), /\[0\]\.privateIp: "10\.0\.9\.333" is not an IPv4 address/],
    [eks.replace('10.0.9.33', ''), /neither privateIp nor ipv6Addr/],
    [eks.replace('02:0A:00:00:00:01', ''), /ifAddress is missing/],
    [eks.replace('"eni-0123"', '5'), /eniId is 5, not text/],
  ];
  for (const [text, expected] of cases) assert.throws(() => decodePodEnis(text), expected, text);
});

test('what is written is read back', () => {
  const eni = fc.record(
    {
      eniId: fc.stringMatching(/^eni-[0-9a-f]{17}$/),
      mac: fc.uint8Array({ minLength: 6, maxLength: 6 }).map(localMac),
      vlanId: fc.integer({ min: 1, max: MAX_VLAN }),
      ip: fc.integer({ min: 0, max: 2 ** 32 - 1 }).map((value) => value as Ipv4),
      ip6: fc.option(fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).map((value) => value as Ipv6)),
      subnet: fc.constantFrom(null, parseCidr('10.0.0.0/19')),
      subnet6: fc.constantFrom(null, parseCidr('2001:db8::/64')),
      associationId: fc.stringMatching(/^trunk-assoc-[0-9a-f]{17}$/),
    },
    { noNullPrototype: true },
  );
  fc.assert(
    fc.property(fc.array(eni, { minLength: 1, maxLength: 3 }), (enis) => {
      assert.deepEqual(decodePodEnis(encodePodEnis(enis)), enis);
    }),
  );
});

test('a pod asks for a branch by the resource of any container', () => {
  const amounts = { 'vpc.amazonaws.com/pod-eni': '1' };
  const pod = (resources: object) => ({ spec: { containers: [{ name: 'a' }, { name: 'b', resources }] } });
  assert.equal(asksForBranch(pod({ limits: amounts })), true);
  assert.equal(asksForBranch(pod({ requests: amounts })), true);
  assert.equal(asksForBranch(pod({ limits: { 'vpc.amazonaws.com/pod-eni': '0' } })), false);
  assert.equal(asksForBranch(pod({})), false);
});
