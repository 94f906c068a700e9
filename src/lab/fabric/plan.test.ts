import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatCidr, formatIp } from '../../base/ip.ts';
import type { VpcState } from '../vpc/model.ts';
import { diffEntries, type Entries, type Entry, keyOf, print } from './entries.ts';
import { bridgeName, portName } from './names.ts';
import { desiredFabric } from './plan.ts';
import { subnetRoutes } from './routes.ts';
import { changeScript, fullScript, isStructure, nothing } from './ruleset.ts';
import {
  addGroup,
  addInstance,
  allow,
  anyState,
  edit,
  eniId,
  GATEWAY,
  GROUP,
  giveIpv6,
  SUBNET_A,
  SUBNET_B,
  smallVpc,
  TABLE,
  threeInstances,
  VPC,
} from './testing.ts';

const entriesOf = (state: VpcState): Entries => desiredFabric(state).entries;
const keys = (entries: readonly Entry[]) => entries.map(keyOf).sort();
const changesBetween = (from: VpcState, to: VpcState) => diffEntries(entriesOf(from), entriesOf(to));

describe('desiredFabric', () => {
  it('of no VPC is the router and the internet', () => {
    const state = edit(smallVpc(), (copy) => {
      copy.vpcs = {};
      copy.subnets = {};
    });
    assert.deepEqual([...entriesOf(state).keys()], ['netns vpc', 'netns internet']);
  });

  it('one more address is one neighbour and its elements, and no structure', () => {
    const from = threeInstances();
    const changes = changesBetween(
      from,
      edit(from, (state) => void state.networkInterfaces[eniId(0x0a)]!.privateIps.push('10.0.0.77')),
    );
    assert.deepEqual(keys(changes.add), [
      'element bridge sources eni00000000000a . 10.0.0.77',
      `element inet members_${GROUP.replace('-', '_')} 10.0.0.77`,
      'element inet receivers 10.0.0.77',
      'neighbour sn-aaaaaaaaaa0a 10.0.0.77',
    ]);
    assert.deepEqual([changes.change, changes.remove], [[], []]);
    assert.ok(!changes.add.some(isStructure));
  });

  it('a rule of a group changes its chains alone', () => {
    const from = threeInstances();
    const changes = changesBetween(
      from,
      edit(from, (state) => void state.securityGroups[GROUP]!.rules.push(allow('ingress', '10.9.0.0/16'))),
    );
    assert.deepEqual(keys(changes.change.map((one) => one.to)), [`chain to_${GROUP.replace('-', '_')}`]);
    assert.deepEqual([changes.add, changes.remove], [[], []]);
  });

  it('an ENI that is not yet or no longer attached has no link, and its addresses still have its MAC', () => {
    for (const status of ['attaching', 'detaching'] as const) {
      const entries = entriesOf(
        edit(threeInstances(), (state) => {
          state.networkInterfaces[eniId(0x0a)]!.attachment!.status = status;
        }),
      );
      assert.ok(!entries.has('port eni00000000000a'));
      assert.equal(print(entries.get('fdb sn-aaaaaaaaaa0a 02:00:00:00:00:0a')!), 'bridge');
      assert.ok(entries.has('neighbour sn-aaaaaaaaaa0a 10.0.0.10'));
      assert.ok(!entries.has('element inet receivers 10.0.0.10'));
    }
  });

  it('an EFA-only interface has no link and no addresses', () => {
    const state = edit(threeInstances(), (copy) => {
      const eni = copy.networkInterfaces[eniId(0x0a)]!;
      eni.interfaceType = 'efa-only';
      eni.privateIps = [];
    });
    assert.deepEqual(
      keys([...entriesOf(state).values()]).filter((key) => /0000000000a|:0a$|10\.0\.0\.10/.test(key)),
      [],
    );
  });

  it('gives names that an instance cannot have to none: the id stands in', () => {
    const state = smallVpc();
    for (const [i, name] of ['vpc', 'internet', 'pod-1', 'a/b', 'db', 'db', '..'].entries()) {
      const instance = addInstance(state, `x${i}`, i + 1, { ips: [`10.0.0.${10 + i}`] });
      instance.name = name;
    }
    assert.deepEqual(
      [...desiredFabric(state).places.values()],
      ['i-x0', 'i-x1', 'i-x2', 'i-x3', 'db', 'i-x5', 'i-x6'],
    );
  });

  it('carries one of two VPCs with the same addresses, the one in use, and says so', () => {
    const state = smallVpc();
    const other = 'vpc-0bbbbbbbbbbbbbbbb';
    state.vpcs[other] = { ...state.vpcs[VPC]!, id: other };
    state.subnets['subnet-0b'] = { ...state.subnets[SUBNET_A]!, id: 'subnet-0b', vpcId: other };
    const instance = addInstance(state, 'a', 1, { ips: ['10.0.0.10'], subnetId: 'subnet-0b' });
    instance.vpcId = other;
    state.networkInterfaces[eniId(1)]!.vpcId = other;
    const { entries, problems } = desiredFabric(state);
    assert.deepEqual(problems, [`${VPC} has no packets: its addresses overlap those of ${other}`]);
    assert.deepEqual(
      [...entries.keys()].filter((key) => key.startsWith('bridge')),
      ['bridge sn-0b'],
    );
  });

  it('ignores a public address without a gateway, without an ENI, or for an address that the ENI does not hold', () => {
    const state = threeInstances();
    const publicOf = (entries: Entries) =>
      [...entries.keys()].filter((key) => key.startsWith('public-route'));
    state.publicAddresses['203.0.113.77'] = {
      publicIp: '203.0.113.77',
      networkInterfaceId: eniId(0x0a),
      tags: {},
    };
    assert.equal(publicOf(entriesOf(state)).length, 1);
    const not = (change: (copy: VpcState) => void) =>
      assert.deepEqual(publicOf(entriesOf(edit(state, change))), []);
    not((copy) => void delete copy.internetGateways[GATEWAY]);
    not((copy) => void delete copy.publicAddresses['203.0.113.77']!.networkInterfaceId);
    not((copy) => {
      copy.publicAddresses['203.0.113.77']!.privateIp = '10.0.0.99';
    });
  });
});

describe('subnetRoutes', () => {
  const routes = (change: (state: VpcState) => void, subnet = SUBNET_A) => {
    const state = edit(threeInstances(), change);
    return Object.fromEntries(
      subnetRoutes(state, state.subnets[subnet]!).map(({ dst, hop }) => [
        formatCidr(dst),
        hop.to === 'subnet' ? hop.bridge : hop.to === 'eni' ? formatIp(hop.gateway) : hop.to,
      ]),
    );
  };
  const local = {
    '10.0.0.0/19': 'sn-aaaaaaaaaa0a',
    '10.0.32.0/19': 'sn-aaaaaaaaaa0b',
    '10.0.0.0/16': 'nowhere',
  };

  it('are the subnets, the gateway, and nowhere for the rest of the VPC', () => {
    assert.deepEqual(
      routes(() => {}),
      { ...local, '0.0.0.0/0': 'internet' },
    );
  });

  it('lead nowhere when the gateway is not this VPC’s, the ENI not attached or its check on', () => {
    assert.equal(routes((s) => void delete s.internetGateways[GATEWAY]!.vpcId)['0.0.0.0/0'], 'nowhere');
    const via = (change: (state: VpcState) => void) =>
      routes((state) => {
        state.networkInterfaces[eniId(0x0c)]!.sourceDestCheck = false;
        state.routeTables[TABLE]!.routes[1] = {
          destination: '0.0.0.0/0',
          target: { kind: 'network-interface', id: eniId(0x0c) },
        };
        change(state);
      })['0.0.0.0/0'];
    assert.equal(
      via(() => {}),
      '10.0.32.10',
    );
    assert.equal(
      via((s) => {
        s.networkInterfaces[eniId(0x0c)]!.sourceDestCheck = true;
      }),
      'nowhere',
    );
    assert.equal(
      via((s) => void delete s.networkInterfaces[eniId(0x0c)]!.attachment),
      'nowhere',
    );
    assert.equal(
      via((s) => {
        s.instances['i-c']!.state = 'stopped';
      }),
      'nowhere',
    );
    assert.equal(
      via((s) => void delete s.networkInterfaces[eniId(0x0c)]),
      'nowhere',
    );
  });

  it('let a route that is more specific than local take a whole subnet, and never the own one', () => {
    const taken = routes((state) => {
      state.networkInterfaces[eniId(0x0b)]!.sourceDestCheck = false;
      state.routeTables[TABLE]!.routes.push({
        destination: '10.0.32.0/19',
        target: { kind: 'network-interface', id: eniId(0x0b) },
      });
    });
    assert.equal(taken['10.0.32.0/19'], '10.0.0.11');
    assert.equal(taken['10.0.0.0/19'], 'sn-aaaaaaaaaa0a');
  });

  it('are of the subnet’s own table before the main one', () => {
    const own = (state: VpcState) => {
      state.routeTables['rtb-own'] = {
        ...state.routeTables[TABLE]!,
        id: 'rtb-own',
        routes: [{ destination: '10.0.0.0/16', target: { kind: 'local' } }],
        associations: [{ id: 'x', subnetId: SUBNET_B, main: false }],
      };
    };
    assert.equal(routes(own)['0.0.0.0/0'], 'internet');
    assert.equal(routes(own, SUBNET_B)['0.0.0.0/0'], 'nowhere');
  });
});

describe('any plan', () => {
  it('names nothing that it does not hold', () => {
    fc.assert(
      fc.property(anyState, (state) => {
        const entries = entriesOf(state);
        const has = (key: string) => assert.ok(entries.has(key), key);
        const of = ({ family }: { family?: string }) => (family === 'ip6' ? 'ip6 ' : '');
        for (const [key, entry] of entries) {
          assert.equal(key, keyOf(entry));
          if ('bridge' in entry) has(`bridge ${entry.bridge}`);
          if (entry.kind === 'port') has(`netns ${entry.where}`);
          if (entry.kind === 'boot' || (entry.kind === 'fdb' && entry.port !== null))
            has(`port ${entry.port}`);
          if (entry.kind === 'route' && 'bridge' in entry.hop) has(`bridge ${entry.hop.bridge}`);
          if (entry.kind === 'chain') {
            for (const rule of entry.rules) {
              const set = /@(\S+)/.exec(rule)?.[1];
              if (set !== undefined) has(`set ${of(entry)}${set}`);
            }
          }
          if (entry.kind !== 'element') continue;
          for (const part of entry.key)
            if ('port' in part) has(`${entry.set === 'open' ? 'bridge' : 'port'} ${part.port}`);
          if (entry.data && 'goto' in entry.data) has(`chain ${of(entry)}${entry.data.goto}`);
          if (/^(members|prefixes)_/.test(entry.set)) has(`set ${of(entry)}${entry.set}`);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('differs from another by what makes the one into the other', () => {
    fc.assert(
      fc.property(anyState, anyState, (before, after) => {
        const [from, to] = [entriesOf(before), entriesOf(after)];
        const made = new Map(from);
        const changes = diffEntries(from, to);
        for (const entry of changes.remove) assert.ok(made.delete(keyOf(entry)));
        for (const entry of changes.add) {
          assert.ok(!made.has(keyOf(entry)));
          made.set(keyOf(entry), entry);
        }
        for (const { to: entry } of changes.change) made.set(keyOf(entry), entry);
        const text = (entries: Entries) =>
          [...entries].map(([key, entry]) => `${key} ${print(entry)}`).sort();
        assert.deepEqual(text(made), text(to));
      }),
      { numRuns: 100 },
    );
  });
});

describe('IPv6', () => {
  const six = () =>
    edit(threeInstances(), (state) => {
      giveIpv6(state);
      state.networkInterfaces[eniId(0x0a)]!.ipv6Addresses = ['2600:1f14:1:101::a'];
      state.networkInterfaces[eniId(0x0b)]!.ipv6Prefixes = ['2600:1f14:1:101:8000::/80'];
    });
  const sixKeys = (state: VpcState) =>
    [...entriesOf(state)].filter(([key]) => !entriesOf(threeInstances()).has(key)).map(([key]) => key);

  it('adds nothing to a VPC without a block, and changes nothing of IPv4', () => {
    assert.ok(
      [...entriesOf(threeInstances()).keys()].every(
        (key) => !/6|:.*:/.test(key.replace(/10\.\S+/, '')) || !key.includes('2600'),
      ),
    );
    const [four, both] = [entriesOf(threeInstances()), entriesOf(six())];
    for (const [key, entry] of four) assert.equal(print(both.get(key)!), print(entry), key);
  });

  it('of one more address or prefix is a route and three elements', () => {
    const added = (change: (state: VpcState) => void) => {
      const changes = changesBetween(six(), edit(six(), change));
      assert.deepEqual([changes.change, changes.remove], [[], []]);
      return keys(changes.add).map((key) => key.split(' ').slice(0, 3).join(' '));
    };
    const eni = eniId(0x0b);
    assert.deepEqual(
      added((state) => void state.networkInterfaces[eni]!.ipv6Prefixes.push('2600:1f14:1:101:9000::/80')),
      [
        'element bridge prefixes6',
        'element ip6 prefixes',
        'element ip6 prefixes_sg_0aaaaaaaaaaaaaaaa',
        'holder 2600:1f14:1:101:9000::/80',
      ],
    );
  });

  it('of an ENI that is attached to nothing leads nowhere', () => {
    const detached = edit(six(), (state) => void delete state.networkInterfaces[eniId(0x0b)]!.attachment);
    assert.ok(sixKeys(six()).includes('holder 2600:1f14:1:101:8000::/80'));
    assert.ok(!sixKeys(detached).includes('holder 2600:1f14:1:101:8000::/80'));
    const holder = entriesOf(detached).get('holder 2600:1f14:1:101::/64')!;
    assert.equal(print(holder), 'nowhere');
  });

  it('of an IPv6-only subnet is a bridge without IPv4', () => {
    const native = edit(six(), (state) => {
      Object.assign(state.subnets[SUBNET_B]!, { cidr: '', ipv6Native: true });
      Object.assign(state.networkInterfaces[eniId(0x0c)]!, {
        privateIps: [],
        ipv6Addresses: ['2600:1f14:1:102::c'],
      });
    });
    const entries = entriesOf(native);
    assert.equal(print(entries.get(`bridge ${bridgeName(SUBNET_B)}`)!), 'none/0');
    assert.ok(![...entries.keys()].some((key) => key.startsWith(`route ${bridgeName(SUBNET_B)} 10.`)));
    assert.ok(entries.has(`boot6 ${portName(eniId(0x0c))}`));
    assert.ok(!entries.has(`boot ${portName(eniId(0x0c))}`));
  });
});

describe('scripts', () => {
  const indexOf = (name: string) => [...name].reduce((sum, c) => sum + c.charCodeAt(0), 0);

  it('never delete a base chain or a table, and delete what the plan does not know', () => {
    const script = fullScript(
      entriesOf(threeInstances()).values(),
      {
        ...nothing,
        bridge: { sets: [], maps: ['sources'], chains: ['from_guest'] },
        inet: { sets: ['members_old'], maps: ['senders'], chains: ['forward', 'from_old'] },
      },
      indexOf,
    );
    assert.match(script, /^flush chain inet podway-fabric forward$/m);
    assert.deepEqual(script.match(/^delete .*$/gm), [
      'delete chain inet podway-fabric from_old',
      'delete set inet podway-fabric members_old',
    ]);
  });

  it('put names before what jumps to them, and delete them after', () => {
    const from = threeInstances();
    const to = edit(from, (state) => {
      addGroup(state, 'sg-9', [allow('ingress', 'sg-9')]);
      for (const id of [0x0a, 0x0b, 0x0c]) state.networkInterfaces[eniId(id)]!.groupIds = ['sg-9'];
    });
    const lines = changeScript(changesBetween(from, to), indexOf).split('\n');
    const at = (text: string) => {
      const index = lines.findIndex((line) => line.includes(text));
      assert.notEqual(index, -1, text);
      return index;
    };
    assert.ok(at('add set inet podway-fabric members_sg_9') < at('add rule inet podway-fabric to_sg_9'));
    assert.ok(at('add chain inet podway-fabric to_sg_9') < at('add element inet podway-fabric receivers'));
    assert.ok(
      at('delete element inet podway-fabric receivers') < at('add element inet podway-fabric receivers'),
    );
    assert.ok(
      at('add element inet podway-fabric receivers') <
        at(`delete chain inet podway-fabric to_${GROUP.replace('-', '_')}`),
    );
    assert.ok(at('delete chain') < at(`delete set inet podway-fabric members_${GROUP.replace('-', '_')}`));
  });

  it('of a first apply are whole', () => {
    const script = fullScript(entriesOf(threeInstances()).values(), nothing, indexOf);
    assert.match(script, /^ {2}map receivers \{ type ipv4_addr : verdict; \}$/m);
    assert.match(script, /add element inet podway-fabric receivers \{ 10\.0\.0\.10 : goto to_sg/);
    assert.doesNotMatch(script, /undefined|NaN/);
  });
});
