// Golden texts: one policy of each shape as the table that the kernel gets.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCidr, parseIp } from '../base/ip.ts';
import { compile } from './compile.ts';
import { diffTables } from './diff.ts';
import { type PodView, type Policy, type PolicyRule, TCP, UDP } from './model.ts';
import { Numbers } from './numbers.ts';
import { Renderer, rebuildText } from './render.ts';

const pod = (name: string, at: number, over: Partial<PodView> = {}): PodView => ({
  namespace: 'x',
  name,
  uid: name,
  labels: { pod: name },
  node: 'here',
  ips: [parseIp(`10.0.0.${at}`)],
  ports: [],
  hostNetwork: false,
  ended: false,
  ...over,
});
const named = (name: string) => [{ key: 'pod', operator: 'in' as const, values: [name] }];
const rule = (peers: PolicyRule['peers'], ports: PolicyRule['ports']): PolicyRule => ({
  index: 0,
  verdict: 'allow',
  peers,
  ports,
});
const policy = (over: Partial<Policy>): Policy => ({
  object: 'networkpolicy x/p',
  tier: 'networkpolicy',
  priority: 0,
  subject: { namespace: 'x', pods: named('a') },
  egress: null,
  ingress: null,
  ...over,
});
const from = (name: string): PolicyRule['peers'] => [
  { kind: 'pods', selector: { namespace: 'x', pods: named(name) } },
];

function tableOf(policies: Policy[], pods: PodView[], renderer = new Renderer(new Numbers())) {
  const namespaces = new Map([['x', {}]]);
  return renderer.render(compile({ node: 'here', policies, namespaces, pods, held: new Map() }));
}

/** What a table has beside the parts that all have. */
function ownText(policies: Policy[], pods: PodView[]): string {
  const nothing = new Set(
    rebuildText(tableOf([], []))
      .split('\n')
      .map((line) => line.trim()),
  );
  return rebuildText(tableOf(policies, pods))
    .split('\n')
    .map((line) => line.trim().replaceAll(/[0-9a-f]{12}/g, 'HASH'))
    .filter((line) => !nothing.has(line))
    .join('\n');
}

describe('the policy table', () => {
  it('a policy without rules: the class ends in the drop', () => {
    assert.equal(
      ownText([policy({ ingress: [] })], [pod('a', 1), pod('b', 2)]),
      `map ingress_classes { type classid : verdict; elements = { 0x1 : goto i_HASH }; }
map to4 { type ipv4_addr : classid; elements = { 10.0.0.1 : 0x1 }; }
chain i_HASH {
counter
counter goto deny_ingress_networkpolicy`,
    );
  });

  it('a peer and a port: the identity finds its ruling', () => {
    const web = [
      { protocol: TCP, from: 80, to: 80 } as const,
      { protocol: TCP, from: 8000, to: 8010 } as const,
    ];
    assert.equal(
      ownText([policy({ ingress: [rule(from('b'), web)] })], [pod('a', 1), pod('b', 2)]),
      `map ingress_classes { type classid : verdict; elements = { 0x1 : goto i_HASH }; }
map i_HASH_v { type classid : verdict; elements = { 0x80000000 : jump p_HASH }; }
map to4 { type ipv4_addr : classid; elements = { 10.0.0.1 : 0x1 }; }
map peers4 { type ipv4_addr : classid; elements = { 10.0.0.2 : 0x1 }; }
map i_HASH_r0 { type classid . inet_proto : classid; elements = { 0x1 . 6 : 0x80000000 }; }
chain i_HASH {
counter
meta priority set ip saddr map @peers4
meta priority set ip6 saddr map @peers6
meta priority set meta priority . meta l4proto map @i_HASH_r0
meta priority vmap @i_HASH_v
counter goto deny_ingress_networkpolicy
chain p_HASH {
th dport 80 goto allow_ingress_networkpolicy
th dport 8000-8010 goto allow_ingress_networkpolicy`,
    );
  });

  it('a peer on any port and protocol: the identity alone', () => {
    const text = ownText([policy({ egress: [rule(from('b'), null)] })], [pod('a', 1), pod('b', 2)]);
    assert.match(text, /map e_HASH_r0_all \{ type classid : classid; elements = \{ 0x1 : 0x80000000 \}; \}/);
    assert.match(
      text,
      /map e_HASH_v \{ type classid : verdict; elements = \{ 0x80000000 : goto allow_egress_networkpolicy \}; \}/,
    );
  });

  it('a CIDR with an exception: disjoint ranges, by protocol', () => {
    const block = {
      kind: 'cidr' as const,
      cidr: parseCidr('10.1.0.0/16'),
      except: [parseCidr('10.1.2.0/24')],
    };
    assert.match(
      ownText([policy({ egress: [rule([block], [{ protocol: UDP, from: 53, to: 53 }])] })], [pod('a', 1)]),
      /map c4_HASH \{ type ipv4_addr \. inet_proto : classid; flags interval; elements = \{ 10\.1\.0\.0-10\.1\.1\.255 \. udp : 0x80000000, 10\.1\.3\.0-10\.1\.255\.255 \. udp : 0x80000000 \}; \}/,
    );
  });

  it('any peer: no lookup', () => {
    const rules = [rule([{ kind: 'any' }], [{ protocol: TCP, from: 443, to: 443 }])];
    assert.match(
      ownText([policy({ egress: rules })], [pod('a', 1)]),
      /chain e_HASH \{\ncounter\nmeta l4proto tcp jump p_HASH\ncounter goto deny_egress_networkpolicy/,
    );
  });

  it('tiers: a pass goes on to the tier below', () => {
    const admin = policy({
      object: 'clusternetworkpolicy c',
      tier: 'admin',
      egress: [
        { ...rule([{ kind: 'any' }], [{ protocol: TCP, from: 80, to: 80 }]), verdict: 'pass' },
        { ...rule([{ kind: 'any' }], null), verdict: 'deny', index: 1 },
      ],
    });
    const text = ownText([admin, policy({ egress: [] })], [pod('a', 1)]);
    assert.match(
      text,
      /chain e_HASH \{\ncounter\nmeta l4proto tcp jump p_HASH\ngoto deny_egress_admin\ncounter goto e_HASH_1/,
    );
    assert.match(text, /th dport 80 goto e_HASH_1/);
  });

  it('an audit passes where a deny drops', () => {
    const rendered = (namespace: Record<string, string>) =>
      rebuildText(
        new Renderer(new Numbers()).render(
          compile({
            ...{ node: 'here', policies: [policy({ ingress: [] })], pods: [pod('a', 1)], held: new Map() },
            namespaces: new Map([['x', namespace]]),
          }),
        ),
      );
    assert.match(rendered({ 'podway.dev/policy': 'audit' }), /counter goto audit_ingress_networkpolicy/);
    assert.doesNotMatch(rendered({ 'podway.dev/policy': 'off' }), /counter goto/);
    assert.match(rendered({}), /counter goto deny_ingress_networkpolicy/);
  });

  it('judgements end in chains that count, and tell where that is wanted', () => {
    const chains = (flowLog: 'off' | 'denied' | 'all', ...names: string[]) => {
      const text = rebuildText(tableOf([], []), flowLog);
      return names
        .map(
          (name) =>
            new RegExp(`chain ${name} \\{\\n([^}]*(?:\\}[^\\n]+[^}]*)*)\\n  \\}`).exec(text)?.[1] ??
            `no ${name}`,
        )
        .map((rules) => rules.split('\n').map((line) => line.trim()));
    };
    const counts = [
      ['icmpv6 type { 130-137, 143 } goto judged', 'counter name deny_ingress_admin', 'drop'],
      ['counter name allow_egress_none', 'goto sent'],
    ];
    assert.deepEqual(chains('off', 'deny_ingress_admin', 'allow_egress_none'), counts);
    const told = [
      'icmpv6 type { 130-137, 143 } goto judged',
      'counter name deny_ingress_admin',
      'meta priority set 0x4',
      'jump tell',
      'meta priority 0x4 log prefix "deny ingress admin" group 7099 snaplen 128',
      'drop',
    ];
    assert.deepEqual(chains('denied', 'deny_ingress_admin', 'allow_egress_none'), [told, counts[1]]);
    const keys = (family: string) =>
      `meta priority . ${family} saddr . ${family} daddr . th sport . th dport`;
    assert.deepEqual(chains('all', 'tell_tcp', 'allow_egress_none'), [
      [
        `${keys('ip')} @flows4_tcp goto tell_repeated`,
        `${keys('ip6')} @flows6_tcp goto tell_repeated`,
        'limit name flow_rate goto tell_lost',
        `add @flows4_tcp { ${keys('ip')} } return`,
        `add @flows6_tcp { ${keys('ip6')} } return`,
        'goto tell_lost',
      ],
      [
        'counter name allow_egress_none',
        'meta priority set 0x1',
        'jump tell',
        'meta priority 0x1 log prefix "allow egress none" group 7099 snaplen 128',
        'goto sent',
      ],
    ]);
    assert.doesNotMatch(rebuildText(tableOf([], []), 'off'), /flows4|jump tell/);
  });

  it('a pod that comes changes elements of its address alone, and no structure', () => {
    const renderer = new Renderer(new Numbers());
    const policies = [policy({ ingress: [rule(from('b'), null)] })];
    const others = Array.from({ length: 200 }, (_, at) => pod('b', at + 2, { name: `b${at}` }));
    const before = tableOf(policies, [pod('a', 1), ...others], renderer);
    const comes = pod('b', 250, { name: 'b-new' });
    const { added, removed, elements } = diffTables(
      before,
      tableOf(policies, [pod('a', 1), ...others, comes], renderer),
    );
    for (const structure of [added, removed])
      for (const part of Object.values(structure)) assert.equal(part.size, 0);
    assert.deepEqual(
      elements.map(({ map, key, before, after }) => [map, key, before, after]),
      [['peers4', parseIp('10.0.0.250'), null, 1]],
    );
  });
});
