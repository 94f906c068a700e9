import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatCidr } from '../base/ip.ts';
import { decodeNetworkPolicy } from './decode.ts';
import { TCP, UDP } from './model.ts';

const policyOf = (spec: unknown) => ({ metadata: { namespace: 'x', name: 'p' }, spec });
const decode = (spec: unknown) => decodeNetworkPolicy(policyOf(spec));
const problems = (spec: unknown) =>
  decode(spec).problems.map(({ field, value, because }) => `${field} ${value} ${because}`);

describe('a NetworkPolicy', () => {
  it('implies ingress always and egress by a rule', () => {
    const directions = (spec: object) => {
      const { policy } = decode({ podSelector: {}, ...spec });
      return [policy!.ingress !== null, policy!.egress !== null];
    };
    assert.deepEqual(directions({}), [true, false]);
    assert.deepEqual(directions({ egress: [] }), [true, false]);
    assert.deepEqual(directions({ egress: [{}] }), [true, true]);
    assert.deepEqual(directions({ policyTypes: ['Egress'] }), [false, true]);
    assert.deepEqual(directions({ policyTypes: ['Egress'], ingress: [{}] }), [false, true]);
  });

  it('without peers means any, without ports any port and protocol, without a number all of the protocol', () => {
    const { policy } = decode({
      ingress: [{}, { ports: [{ protocol: 'UDP' }, { port: 80 }, { port: 80, endPort: 81 }] }],
    });
    assert.deepEqual(policy!.ingress, [
      { index: 0, verdict: 'allow', ports: null, peers: [{ kind: 'any' }] },
      {
        index: 1,
        verdict: 'allow',
        ports: [
          { protocol: UDP, from: 0, to: 65_535 },
          { protocol: TCP, from: 80, to: 80 },
          { protocol: TCP, from: 80, to: 81 },
        ],
        peers: [{ kind: 'any' }],
      },
    ]);
  });

  it('a selector of pods alone is of its own namespace, one of namespaces alone of all their pods', () => {
    const { policy } = decode({ ingress: [{ from: [{ podSelector: {} }, { namespaceSelector: {} }] }] });
    assert.deepEqual(policy!.ingress![0]!.peers, [
      { kind: 'pods', selector: { namespace: 'x', pods: [] } },
      { kind: 'pods', selector: { namespace: [], pods: [] } },
    ]);
  });

  it('host bits of a CIDR say nothing', () => {
    const { policy } = decode({
      ingress: [{ from: [{ ipBlock: { cidr: '10.1.0.0/8', except: ['10.2.3.4/16'] } }] }],
    });
    const [peer] = policy!.ingress![0]!.peers;
    assert.ok(peer?.kind === 'cidr');
    assert.deepEqual([formatCidr(peer.cidr), peer.except.map(formatCidr)], ['10.0.0.0/8', ['10.2.0.0/16']]);
  });

  it('a rule that cannot be read allows nothing, is named, and the policy isolates', () => {
    const rows: [unknown, string][] = [
      [{ ports: [{ endPort: 81 }] }, 'spec.ingress[0].ports[0].endPort 81 needs a port beside it'],
      [
        { ports: [{ port: 'web', endPort: 81 }] },
        'spec.ingress[0].ports[0].endPort 81 needs a port that is a number',
      ],
      [
        { ports: [{ port: 80, endPort: 79 }] },
        'spec.ingress[0].ports[0].endPort 79 is not a number from 80 to 65535',
      ],
      [{ ports: [{ port: 0 }] }, 'spec.ingress[0].ports[0].port 0 is not a number from 1 to 65535'],
      [
        { ports: [{ port: 'UPPER' }] },
        'spec.ingress[0].ports[0].port "UPPER" is not the name of a container port',
      ],
      [{ ports: [{ protocol: 'ICMP' }] }, 'spec.ingress[0].ports[0].protocol "ICMP" is not TCP, UDP or SCTP'],
      [{ from: [{}] }, 'spec.ingress[0].from[0] {} names no peer'],
      [{ from: [{ later: {} }] }, 'spec.ingress[0].from[0].later {} is not a field that is known'],
      [{ to: [] }, 'spec.ingress[0].to [] is not a field that is known'],
      [
        { from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['11.0.0.0/16'] } }] },
        'spec.ingress[0].from[0].ipBlock.except[0] "11.0.0.0/16" is not within 10.0.0.0/8',
      ],
      [
        { from: [{ ipBlock: { cidr: '10.0.0.0/33' } }] },
        'spec.ingress[0].from[0].ipBlock.cidr "10.0.0.0/33" "10.0.0.0/33" has a prefix length outside 0..32',
      ],
      [
        { from: [{ podSelector: { matchExpressions: [{ key: 'a', operator: 'In', values: [] }] } }] },
        'spec.ingress[0].from[0].podSelector.matchExpressions [{"key":"a","operator":"In","values":[]}] a: values do not fit the operator In',
      ],
    ];
    for (const [rule, expected] of rows) {
      const { policy } = decode({ ingress: [rule] });
      assert.deepEqual(policy!.ingress, [], expected);
      assert.deepEqual(problems({ ingress: [rule] }), [expected]);
    }
  });

  it('beyond the limits is refused by number', () => {
    const from = Array.from({ length: 10_001 }, (_, at) => ({
      ipBlock: { cidr: `10.${at >> 8}.${at & 255}.0/24` },
    }));
    assert.deepEqual(problems({ ingress: [{ from }] }), [
      'spec.ingress[0] 10001 is beyond 10000 peers and exceptions',
    ]);
    const ports = Array.from({ length: 20_001 }, () => ({ port: 80 }));
    assert.deepEqual(problems({ ingress: [{ ports }] }), [
      'spec.ingress[0].ports 20001 has more than 20000 entries',
    ]);
  });

  it('without a readable subject it is not in force', () => {
    assert.equal(decode({ podSelector: { matchLabels: { a: 1 } } }).policy, null);
    assert.equal(decode({ policyTypes: ['Sideways'] }).policy, null);
  });

  it('anything at all is read or refused, never thrown', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.jsonValue(), (spec, rule) => {
        decode(spec);
        decode({ podSelector: {}, ingress: [rule], egress: rule });
      }),
      { numRuns: 500 },
    );
  });
});
