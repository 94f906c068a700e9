import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseIp } from '../base/ip.ts';
import { compile } from './compile.ts';
import { decodeNetworkPolicy } from './decode.ts';
import { evaluate } from './evaluate.ts';
import { type End, trace } from './explain.ts';
import { type PodView, TCP } from './model.ts';
import { namespaces, packet, pods, policies } from './testing.ts';

const pod = (namespace: string, name: string, labels: Record<string, string>): PodView => ({
  ...{ namespace, name, uid: name, labels, node: 'n', ips: [], ports: [], hostNetwork: false, ended: false },
});
const end = (one: PodView | null, ip: string): End => ({ pod: one, ip: parseIp(ip) });
const np = (name: string, spec: unknown) =>
  decodeNetworkPolicy({ metadata: { namespace: 'x', name }, spec }).policy!;
const ask = (specs: Record<string, unknown>, from: End, to: End, port: number) =>
  trace({
    policies: Object.entries(specs).map(([name, spec]) => np(name, spec)),
    namespaces: new Map([
      ['x', { team: 'a' }],
      ['y', { team: 'b' }],
    ]),
    from,
    to,
    protocol: TCP,
    port,
  });

const web = end(pod('x', 'web', { app: 'web' }), '10.0.0.1');
const db = end(pod('x', 'db', { app: 'db' }), '10.0.0.2');
const stranger = end(pod('y', 'stranger', { app: 'web' }), '10.0.0.3');

describe('a trace', () => {
  const onlyWeb = {
    podSelector: { matchLabels: { app: 'db' } },
    ingress: [{ from: [{ podSelector: { matchLabels: { app: 'web' } } }], ports: [{ port: 5432 }] }],
  };

  it('names the rule that allows', () => {
    const { verdict, ingress, egress } = ask({ only: onlyWeb }, web, db, 5432);
    assert.equal(verdict, 'allow');
    assert.deepEqual(ingress, {
      ...{ verdict: 'allow', tier: 'networkpolicy', object: 'networkpolicy x/only', rule: 0 },
      allowedBy: [{ object: 'networkpolicy x/only', rule: 0 }],
      because: 'allowed by rule 0 of networkpolicy x/only',
    });
    assert.equal(egress.because, 'no policy isolates x/web in egress');
  });

  it('names the policies that isolate, and what nearly matched', () => {
    const wrongPort = ask({ only: onlyWeb }, web, db, 80);
    assert.equal(wrongPort.verdict, 'deny');
    assert.equal(wrongPort.ingress.because, 'isolated by networkpolicy x/only, and no rule allows it');
    assert.deepEqual(
      wrongPort.nearMisses.map(({ because }) => because),
      ['would match if the port were 5432/tcp'],
    );
    assert.deepEqual(
      ask({ only: onlyWeb }, stranger, db, 5432).nearMisses.map(({ because }) => because),
      ['would match if its namespace were x'],
    );
    const other = end(pod('x', 'other', { app: 'b' }), '10.0.0.4');
    assert.deepEqual(
      ask({ only: onlyWeb }, other, db, 5432).nearMisses.map(({ because }) => because),
      ['would match if x/other had label app=web'],
    );
    const block = {
      podSelector: {},
      egress: [{ to: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.9.0.0/16'] } }] }],
      policyTypes: ['Egress'],
    };
    assert.deepEqual(
      ask({ block }, web, end(null, '10.9.1.1'), 443).nearMisses.map(({ because }) => because),
      ['would match if 10.9.1.1 were not in the exception 10.9.0.0/16'],
    );
    const six = {
      podSelector: {},
      egress: [{ to: [{ ipBlock: { cidr: '2001:db8::/64' } }] }, { ports: [{ protocol: 'UDP' }] }],
      policyTypes: ['Egress'],
    };
    assert.deepEqual(
      ask({ six }, web, end(null, '10.9.1.1'), 443).nearMisses.map(({ because }) => because),
      ['would match if the port were any/udp'],
    );
  });

  it('says what the program says', () => {
    fc.assert(
      fc.property(policies, pods, fc.array(packet, { minLength: 20, maxLength: 20 }), (all, its, packets) => {
        const everywhere = its.map((one) => ({ ...one, node: 'here' }));
        const program = compile({
          node: 'here',
          policies: all,
          namespaces,
          pods: everywhere,
          held: new Map(),
        });
        const endOf = (ip: (typeof packets)[number]['src']): End => ({
          ip,
          pod: everywhere.find(({ ips }) => ips.includes(ip)) ?? null,
        });
        for (const one of packets) {
          const { src, dst, protocol, port } = one;
          const told = trace({ policies: all, namespaces, from: endOf(src), to: endOf(dst), protocol, port });
          const judged = evaluate(program, one);
          assert.equal(told.verdict, judged.verdict);
          assert.equal(told.egress.object, judged.egress.origin?.object ?? null);
          assert.equal(told.ingress.object, judged.ingress.origin?.object ?? null);
        }
      }),
      { numRuns: 200 },
    );
  });
});
