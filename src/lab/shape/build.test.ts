import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { cidrCovers, parseCidr } from '../../base/ip.ts';
import { packageRoot } from '../daemon/parts.ts';
import { openVpc } from '../vpc/index.ts';
import { type Act, buildShape, findInstance, findSubnet } from './build.ts';
import { defaultShape, type Shape, withDemo } from './shape.ts';
import { parseLabYaml } from './yaml-rules.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-shape-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const made: string[] = [];

function vpcFor(shape: Shape) {
  const vpc = openVpc({ dir: join(dir, String(made.push(dir))), region: shape.region, zones: shape.zones });
  after(() => vpc.close());
  const calls: string[] = [];
  const act: Act = (action, input) => {
    calls.push(action);
    return vpc.act(action as never, input as never) as Promise<Record<string, unknown>>;
  };
  const deps = { act, state: () => vpc.state(), progress: () => {} };
  return { vpc, calls, act, build: (wanted = shape) => buildShape(wanted, deps) };
}

test('building twice makes everything once', async () => {
  const { vpc, calls, build } = vpcFor(withDemo(defaultShape()));
  await build();
  const before = JSON.stringify(vpc.state());
  calls.length = 0;
  await build();
  assert.deepEqual(calls, []);
  assert.equal(JSON.stringify(vpc.state()), before);
  const node = findInstance(vpc.state(), 'node-2')!;
  assert.equal(node.agent, 'podway');
  assert.equal(node.subnetId, findSubnet(vpc.state(), 'subnet-b')?.id);
  assert.equal(findInstance(vpc.state(), 'db')?.agent, 'none');
});

test('a lab of both families has them everywhere, and one of IPv4 nothing of IPv6', async () => {
  const four = vpcFor(withDemo(defaultShape()));
  await four.build();
  assert.doesNotMatch(JSON.stringify(four.vpc.state()), /[0-9a-f]:[0-9a-f]*::|ipv6Cidrs|httpProtocolIpv6/);
  const { vpc, build, calls } = vpcFor(withDemo(defaultShape({ settings: { families: 'dual' } })));
  await build();
  const state = vpc.state();
  const [block] = Object.values(state.vpcs)[0]!.ipv6Cidrs!;
  for (const subnet of Object.values(state.subnets))
    assert.ok(cidrCovers(parseCidr(block!.cidr), parseCidr(subnet.ipv6Cidrs![0]!.cidr)));
  assert.equal(new Set(Object.values(state.subnets).map((each) => each.ipv6Cidrs![0]!.cidr)).size, 2);
  for (const eni of Object.values(state.networkInterfaces)) assert.equal(eni.ipv6Addresses.length, 1);
  for (const each of Object.values(state.instances)) assert.equal(each.httpProtocolIpv6, 'enabled');
  const routes = Object.values(state.routeTables)[0]!.routes;
  assert.equal(routes.find((each) => each.destination === '::/0')?.target.kind, 'internet-gateway');
  const out = Object.values(state.securityGroups)
    .find((each) => each.name === 'nodes')!
    .rules.filter((rule) => rule.direction === 'egress');
  assert.deepEqual(
    out.map((rule) => rule.peer.kind === 'cidr' && rule.peer.cidr),
    ['0.0.0.0/0', '::/0'],
  );
  calls.length = 0;
  await build();
  assert.deepEqual(calls, []);
});

test('an IPv6-only subnet and an egress-only gateway are made as lab.yaml says', async () => {
  const file = join(packageRoot, 'examples/ipv6.yaml');
  const { vpc, build, calls } = vpcFor(parseLabYaml(readFileSync(file, 'utf8'), file));
  await build();
  const state = vpc.state();
  assert.equal(findSubnet(state, 'six')!.ipv6Native, true);
  const node = findInstance(state, 'node-2')!;
  const eni = Object.values(state.networkInterfaces).find((each) => each.attachment?.instanceId === node.id)!;
  assert.deepEqual([eni.privateIps.length, eni.ipv6Addresses.length], [0, 1]);
  const table = Object.values(state.routeTables).find((each) => each.tags['Name'] === 'private')!;
  assert.equal(table.routes.at(-1)!.target.kind, 'egress-only-internet-gateway');
  calls.length = 0;
  await build();
  assert.deepEqual(calls, []);
});

test('a NAT gateway is made once, with an Elastic IP, and DNS64 as lab.yaml says', async () => {
  const file = join(packageRoot, 'examples/nat64.yaml');
  const { vpc, build, calls } = vpcFor(parseLabYaml(readFileSync(file, 'utf8'), file));
  await build();
  const state = vpc.state();
  const [gateway] = Object.values(state.natGateways);
  assert.deepEqual([gateway!.state, gateway!.subnetId], ['available', findSubnet(state, 'public')!.id]);
  assert.equal(findSubnet(state, 'nodes')!.enableDns64, true);
  const table = Object.values(state.routeTables).find((each) => each.tags['Name'] === 'nodes')!;
  assert.deepEqual(table.routes.at(-1), {
    destination: '64:ff9b::/96',
    target: { kind: 'nat-gateway', id: gateway!.id },
  });
  calls.length = 0;
  await build();
  assert.deepEqual(calls, []);
});

test('a build that was cut off at any call goes on where it was', async () => {
  const whole = vpcFor(defaultShape());
  await whole.build();
  for (let cut = 0; cut < whole.calls.length; cut += 1) {
    const { vpc, calls, build } = vpcFor(defaultShape());
    const shape = defaultShape();
    let left = cut;
    const failing: Act = async (action, input) => {
      if (left-- === 0) throw new Error('cut off');
      return (await vpc.act(action as never, input as never)) as Record<string, unknown>;
    };
    await assert.rejects(
      buildShape(shape, { act: failing, state: () => vpc.state(), progress: () => {} }),
      /cut off/,
    );
    await build();
    calls.length = 0;
    await build();
    assert.deepEqual(calls, [], `cut at call ${cut}`);
    const state = vpc.state();
    assert.equal(Object.keys(state.instances).length, 2);
    const group = Object.values(state.securityGroups).find((each) => each.name === 'nodes')!;
    assert.deepEqual(group.rules.map((rule) => [rule.direction, rule.peer.kind]).sort(), [
      ['egress', 'cidr'],
      ['ingress', 'group'],
    ]);
  }
});

test('a rule that the user took away stays away', async () => {
  const { vpc, act, build } = vpcFor(defaultShape());
  await build();
  const group = Object.values(vpc.state().securityGroups).find((each) => each.name === 'nodes')!;
  const rule = group.rules.find((each) => each.direction === 'ingress')!;
  await act('RevokeSecurityGroupIngress', { GroupId: group.id, SecurityGroupRuleIds: [rule.id] });
  await build();
  assert.equal(
    vpc.state().securityGroups[group.id]?.rules.filter((each) => each.direction === 'ingress').length,
    0,
  );
});

test('tags, reservations and held addresses of a subnet; what is given back is not held again', async () => {
  const file = 'fragmented.yaml';
  const shape = parseLabYaml(readFileSync(join(packageRoot, 'examples', file), 'utf8'), file);
  shape.vpcs[0]!.subnets[0]!.tags = { 'kubernetes.io/role/cni': '1' };
  const { vpc, calls, act, build } = vpcFor(shape);
  await build();
  const [holes, reserved] = [findSubnet(vpc.state(), 'holes-a')!, findSubnet(vpc.state(), 'reserved-b')!];
  assert.equal(holes.tags['kubernetes.io/role/cni'], '1');
  const rows = Object.values(vpc.state().subnetCidrReservations).filter(
    (row) => row.subnetId === reserved.id,
  );
  assert.deepEqual(rows.map((row) => `${row.cidr} ${row.type}`).sort(), [
    '10.80.1.128/26 prefix',
    '10.80.1.224/28 explicit',
  ]);
  const prefix = (SubnetId: string) => act('CreateNetworkInterface', { SubnetId, Ipv4PrefixCount: 1 });
  await assert.rejects(prefix(holes.id), /InsufficientCidrBlocks|does not have enough free cidr blocks/);
  await prefix(reserved.id);
  const holder = Object.values(vpc.state().networkInterfaces).find(
    (eni) => eni.tags['Name'] === 'holes-a-held',
  )!;
  assert.deepEqual(holder.privateIps, shape.vpcs[0]!.subnets[0]!.held);
  await act('DeleteNetworkInterface', { NetworkInterfaceId: holder.id });
  await prefix(holes.id);
  calls.length = 0;
  await build();
  assert.deepEqual(calls, []);
});

test('a route by an instance turns its source/destination check off', async () => {
  const shape = withDemo(defaultShape());
  shape.vpcs[0]!.routeTables = [
    {
      name: 't',
      routes: [
        { to: '0.0.0.0/0', via: 'internet' },
        { to: '192.168.0.0/16', via: 'db' },
      ],
    },
  ];
  shape.vpcs[0]!.subnets[1]!.routeTable = 't';
  const { vpc, build } = vpcFor(shape);
  await build();
  const table = Object.values(vpc.state().routeTables).find((each) => each.tags['Name'] === 't')!;
  const target = table.routes.find((route) => route.destination === '192.168.0.0/16')!.target;
  assert.equal(target.kind, 'network-interface');
  const eni = vpc.state().networkInterfaces[(target as { id: string }).id]!;
  assert.equal(eni.sourceDestCheck, false);
});
