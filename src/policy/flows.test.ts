// Packets of the kernel's log as events: headers of both families, extension headers, fragments, and whose rule decided.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ipToBytes, parseIp } from '../base/ip.ts';
import { compile } from './compile.ts';
import { flowEvent, readPacket } from './flows.ts';
import type { PodView, Policy } from './model.ts';
import { TCP } from './model.ts';

const four = (protocol: number, body: number[], options = 0, fragment = 0): Uint8Array => {
  const bytes = new Uint8Array(20 + options + body.length);
  bytes[0] = 0x45 + options / 4;
  new DataView(bytes.buffer).setUint16(6, fragment);
  bytes[9] = protocol;
  bytes.set(ipToBytes(parseIp('10.0.0.1')), 12);
  bytes.set(ipToBytes(parseIp('10.0.0.2')), 16);
  bytes.set(body, 20 + options);
  return bytes;
};
const six = (next: number, body: number[]): Uint8Array => {
  const bytes = new Uint8Array(40 + body.length);
  bytes[0] = 0x60;
  bytes[6] = next;
  bytes.set(ipToBytes(parseIp('2001:db8::1')), 8);
  bytes.set(ipToBytes(parseIp('2001:db8::2')), 24);
  bytes.set(body, 40);
  return bytes;
};
const PORTS = [0x30, 0x39, 0x00, 0x50]; // 12345, 80

describe('packets of the log', () => {
  it('have their ports behind options and extension headers', () => {
    const cases: [Uint8Array, number, object | null][] = [
      [four(6, PORTS), 6, { from: 12345, to: 80 }],
      [four(17, PORTS, 8), 17, { from: 12345, to: 80 }],
      [four(6, PORTS, 0, 100), 6, null],
      [four(1, PORTS), 1, null],
      [six(132, PORTS), 132, { from: 12345, to: 80 }],
      [six(0, [44, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, ...PORTS]), 6, { from: 12345, to: 80 }],
    ];
    for (const [bytes, protocol, ports] of cases) {
      const packet = readPacket(bytes);
      assert.deepEqual([packet?.protocol, packet?.ports], [protocol, ports]);
    }
  });

  it('of any bytes are read or refused, never thrown at', () =>
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 128 }), (bytes) => {
        readPacket(bytes);
      }),
    ));
});

describe('an event', () => {
  const pod = (name: string, at: number): PodView => ({
    ...{
      namespace: 'x',
      name,
      uid: name,
      labels: { pod: name },
      node: 'here',
      ips: [parseIp(`10.0.0.${at}`)],
    },
    ...{ ports: [], hostNetwork: false, ended: false },
  });
  const policy: Policy = {
    object: 'networkpolicy x/p',
    ...{ tier: 'networkpolicy', priority: 0, subject: { namespace: 'x', pods: [] }, egress: null },
    ingress: [
      {
        index: 0,
        verdict: 'allow',
        peers: [{ kind: 'any' }],
        ports: [{ protocol: TCP, from: 443, to: 443 }],
      },
    ],
  };
  const pods = [pod('a', 1), pod('b', 2)];
  const program = compile({
    ...{ node: 'here', policies: [policy], namespaces: new Map([['x', {}]]), pods, held: new Map() },
  });
  const context = {
    ...{ node: 'here', now: 0, program },
    ownerOf: (ip: unknown) => pods.find(({ ips }) => ips.includes(ip as never))?.name,
  };

  it('names the ends, the policy and what decided', () => {
    assert.deepEqual(flowEvent({ prefix: 'deny ingress networkpolicy', payload: four(6, PORTS) }, context), {
      ...{ at: '1970-01-01T00:00:00.000Z', node: 'here', verdict: 'denied', direction: 'ingress' },
      protocol: 'tcp',
      from: { ip: '10.0.0.1', port: 12345, pod: 'a' },
      to: { ip: '10.0.0.2', port: 80, pod: 'b' },
      ...{ tier: 'networkpolicy', object: 'networkpolicy x/p' },
    });
  });

  it('says nothing of a rule that the program in force would not have decided by', () => {
    const { object, rule, verdict } = flowEvent(
      { prefix: 'allow ingress networkpolicy', payload: four(6, PORTS) },
      context,
    )!;
    assert.deepEqual({ object, rule, verdict }, { object: undefined, rule: undefined, verdict: 'allowed' });
    assert.equal(flowEvent({ prefix: 'of another', payload: four(6, PORTS) }, context), null);
  });
});
