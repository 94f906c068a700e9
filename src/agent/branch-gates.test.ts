// What the groups of pods with branches let in on the node: when EC2 is asked, and what is told.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseCidr, parseIp } from '../base/ip.ts';
import { CloudError, type GroupCloud, type IngressRule } from '../cloud/port.ts';
import type { Lease } from '../ipam/state.ts';
import { BranchGates, readRule } from './branch-gates.ts';
import type { Telling } from './tell.ts';

const CIDR = { kind: 'cidr', cidr: parseCidr('10.0.0.0/8') } as const;
const rule = (over: Partial<IngressRule> = {}): IngressRule => ({
  id: 'sgr-1',
  groupId: 'sg-web',
  protocol: 'tcp',
  fromPort: 80,
  toPort: 90,
  peer: CIDR,
  ...over,
});
const lease = (name: string, vlan: number): Lease =>
  ({
    owner: { network: 'n', containerId: name, ifname: 'eth0', pod: { namespace: 'd', name } },
    ips: [parseIp(`10.0.9.${vlan}`)],
    eni: null,
    branch: { id: `eni-${name}`, mac: '02:00:00:00:00:07', vlan, subnetCidr: '10.0.9.0/24' },
    at: 1,
  }) as unknown as Lease;

function world() {
  const it = {
    now: 1_000,
    held: [lease('a', 7), lease('b', 8)],
    asked: [] as string[],
    groups: new Map<string, string[]>([
      ['eni-a', ['sg-web']],
      ['eni-b', ['sg-none']],
    ]),
    rules: [rule()],
    failure: null as Error | null,
    calls: [] as string[],
    told: [] as Telling[],
  };
  const cloud: GroupCloud = {
    async describeGroupsOf(ids) {
      it.calls.push(ids.join());
      if (it.failure) throw it.failure;
      return new Map([...it.groups].filter(([id]) => ids.includes(id)));
    },
    async describeIngressRules(ids) {
      return it.rules.filter(({ groupId }) => ids.includes(groupId));
    },
    async describeMembers(ids) {
      return new Map(ids.map((id) => [id, [parseCidr('10.0.1.9/32')]]));
    },
  };
  const gates = new BranchGates({
    pool: { held: () => it.held, cloud },
    datapath: { askedPods: () => it.asked.map(parseIp) },
    sync: async () => {},
    tell: (telling) => it.told.push(telling),
    log: { warn() {} } as never,
    clock: { now: () => it.now, sleep: async () => {} } as never,
  });
  return { it, gates, look: () => gates.look(new AbortController().signal) };
}

describe('arrivals for pods with branches', () => {
  test('EC2 is asked for pods that something arrived for, again while more arrives, and for no others', async () => {
    const { it, gates, look } = world();
    assert.equal(await look(), false);
    assert.deepEqual(it.calls, []);
    it.asked = ['10.0.9.7'];
    assert.equal(await look(), true);
    assert.deepEqual(it.calls, ['eni-a']);
    assert.deepEqual(gates.of('eni-a'), [{ protocol: 6, ports: [80, 90], sources: [CIDR.cidr] }]);
    assert.equal(gates.of('eni-b'), undefined);
    it.now += 30_000;
    assert.equal(await look(), false);
    assert.equal(it.calls.length, 1);
    it.now += 70_000;
    it.rules = [];
    assert.equal(await look(), true, 'a rule that is revoked lets nothing in any more');
    assert.deepEqual(gates.of('eni-a'), []);
    it.asked = ['10.0.9.8'];
    await look();
    assert.equal(it.calls.length, 2, 'not at once again');
    it.now += 2_000;
    await look();
    assert.deepEqual(it.calls.at(-1), 'eni-a,eni-b');
    it.asked = [];
    it.now += 10 * 60_000;
    assert.equal(await look(), true);
    assert.deepEqual([gates.of('eni-a'), gates.of('eni-b')], [undefined, undefined]);
    const { length } = it.calls;
    it.now += 10 * 60_000;
    await look();
    assert.equal(it.calls.length, length, 'at rest nothing is asked');
  });

  test('rules of a pod that goes are forgotten', async () => {
    const { it, gates, look } = world();
    it.asked = ['10.0.9.7'];
    await look();
    it.held = [];
    assert.equal(await look(), true);
    assert.equal(gates.of('eni-a'), undefined);
  });

  test('what EC2 does not tell lets nothing in, and is told with the pod’s name; EC2 is asked ever more seldom', async () => {
    const { it, gates, look } = world();
    it.asked = ['10.0.9.7'];
    it.failure = new CloudError('DescribeNetworkInterfaces', 'UnauthorizedOperation', 'no');
    assert.equal(await look(), false);
    assert.match(it.told[0]!.text, /nothing that arrives on the node reaches the pod.*UnauthorizedOperation/);
    assert.equal(it.told[0]!.pod?.name, 'a');
    for (let second = 0; second < 120; second++) {
      it.now += 1_000;
      await look();
    }
    assert.ok(it.calls.length <= 8, `${it.calls.length} calls in two minutes`);
    it.failure = null;
    it.now += 60_000;
    assert.equal(await look(), true);
    // While EC2 is away what was told last counts.
    it.failure = new CloudError('DescribeNetworkInterfaces', 'RequestLimitExceeded', 'no');
    it.now += 120_000;
    assert.equal(await look(), false);
    assert.equal(gates.of('eni-a')?.length, 1);
    it.failure = null;
    it.groups.delete('eni-a');
    it.now += 120_000;
    assert.equal(await look(), true);
    assert.equal(gates.of('eni-a'), undefined);
    assert.match(it.told.at(-1)!.text, /EC2 does not know its branch eni-a/);
  });

  test('a rule that the node cannot judge is told by name, and the others count', async () => {
    const { it, gates, look } = world();
    it.asked = ['10.0.9.7'];
    it.rules = [rule({ id: 'sgr-2', peer: { kind: 'prefix-list', id: 'pl-1' } }), rule()];
    await look();
    assert.equal(gates.of('eni-a')?.length, 1);
    assert.match(it.told[0]!.text, /the rule sgr-2 of sg-web lets nothing in .*pl-1/);
  });

  test('rules are read as EC2 means them', () => {
    const members = new Map([['sg-lb', [parseCidr('10.0.1.9/32')]]]);
    const read = (over: Partial<IngressRule>) => readRule(rule(over), members);
    const sources = [CIDR.cidr];
    assert.deepEqual(read({ protocol: '-1', fromPort: -1, toPort: -1 }), {
      protocol: null,
      ports: null,
      sources,
    });
    assert.deepEqual(read({ protocol: 'udp', fromPort: 53, toPort: 53 }), {
      protocol: 17,
      ports: [53, 53],
      sources,
    });
    assert.deepEqual(read({ protocol: 'icmp', fromPort: -1, toPort: -1 }), {
      protocol: 1,
      ports: null,
      sources,
    });
    assert.deepEqual(read({ protocol: 'icmp', fromPort: 3, toPort: 4 }), {
      ...{ protocol: 1, ports: [3, 3], code: 4, sources },
    });
    assert.deepEqual(read({ protocol: 'icmpv6', fromPort: 128, toPort: -1 }), {
      ...{ protocol: 58, ports: [128, 128], sources },
    });
    assert.deepEqual(read({ protocol: '50', fromPort: -1, toPort: -1 }), {
      protocol: 50,
      ports: null,
      sources,
    });
    assert.deepEqual(read({ peer: { kind: 'group', groupId: 'sg-lb' } }), {
      ...{ protocol: 6, ports: [80, 90], sources: [parseCidr('10.0.1.9/32')] },
    });
    assert.match(String(read({ protocol: 'x' })), /protocol x is not known/);
    const many = Array.from({ length: 5_000 }, () => parseCidr('10.0.1.9/32'));
    const large = readRule(rule({ peer: { kind: 'group', groupId: 'sg-big' } }), new Map([['sg-big', many]]));
    assert.match(String(large), /sg-big has 5000 addresses, more than 4096/);
  });
});
