// The allocator over the wire: EC2 client, IMDS client and pool against the lab's VPC on loopback, as on a node.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { PodwayError } from '../../src/base/errors.ts';
import { cidrCovers, formatCidr, formatIp } from '../../src/base/ip.ts';
import { Journal } from '../../src/base/journal.ts';
import { defaultCredentials } from '../../src/cloud/credentials.ts';
import { createEc2Cloud } from '../../src/cloud/ec2.ts';
import { createImds } from '../../src/cloud/imds.ts';
import { loadLimits } from '../../src/cloud/limits.ts';
import { CloudError, type EniId } from '../../src/cloud/port.ts';
import type { PoolRecord } from '../../src/ipam/journal/records.ts';
import { AddressPool } from '../../src/ipam/pool.ts';
import type { VpcService } from '../../src/lab/vpc/index.ts';
import { listen, REGION, smallShape, testVpc } from '../../src/lab/vpc/testing.ts';

async function endpoints(vpc: VpcService, instanceId: string) {
  const ec2 = await listen((request, response) => void vpc.ec2Handler(request, response));
  const imdsServer = await listen((request, response) => vpc.imdsHandler(request, response, { instanceId }));
  const imds = createImds({ endpoint: imdsServer.url });
  const calls: string[] = [];
  const cloud = createEc2Cloud({
    region: REGION,
    endpoint: ec2.url,
    credentials: defaultCredentials({ imds, env: {} }),
    onCall: ({ action, result }) => calls.push(`${action}:${result}`),
  });
  return {
    imds,
    cloud,
    calls,
    async [Symbol.asyncDispose]() {
      await ec2[Symbol.asyncDispose]();
      await imdsServer[Symbol.asyncDispose]();
    },
  };
}

async function until(what: string, condition: () => boolean | Promise<boolean>, ms = 60_000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('what is of IPv6, over the wire', async () => {
  await using lab = testVpc();
  const { vpcId, subnetId, instanceId } = await smallShape(lab.vpc);
  await using node = await endpoints(lab.vpc, instanceId);
  const { cloud } = node;
  const { primary } = await node.imds.identity();
  await assert.rejects(cloud.assignIpv6Prefixes(primary.eniId, 1), CloudError, 'the subnet has no IPv6');
  assert.equal((await cloud.describeSubnets([subnetId]))[0]!.ipv6Cidr, null);
  await lab.vpc.act('AssociateVpcCidrBlock', { VpcId: vpcId, AmazonProvidedIpv6CidrBlock: true });
  const { Vpcs } = await lab.vpc.act('DescribeVpcs', { VpcIds: [vpcId] });
  const block = Vpcs![0]!.Ipv6CidrBlockAssociationSet![0]!.Ipv6CidrBlock!;
  const Ipv6CidrBlock = block.replace(/::\/56$/, '::/64');
  await lab.vpc.act('AssociateSubnetCidrBlock', { SubnetId: subnetId, Ipv6CidrBlock });
  const [subnet] = await cloud.describeSubnets([subnetId]);
  assert.equal(formatCidr(subnet!.ipv6Cidr!), Ipv6CidrBlock);
  assert.deepEqual((await node.imds.vpcCidrs(primary.mac)).map(formatCidr), ['10.0.0.0/16', block]);

  const [prefix] = await cloud.assignIpv6Prefixes(primary.eniId, 1);
  assert.equal(prefix!.length, 80);
  assert.ok(cidrCovers(subnet!.ipv6Cidr!, prefix!));
  const listed = async () =>
    (await cloud.describeNetworkInterfaces({ kind: 'ids', ids: [primary.eniId] }))[0]!;
  assert.deepEqual((await listed()).ipv6Prefixes, [prefix]);
  await cloud.unassign(primary.eniId, { ips: [], prefixes: [prefix!] });
  assert.deepEqual((await listed()).ipv6Prefixes, []);
  await cloud.assignTheseIpv6Prefixes(primary.eniId, [prefix!]);
  assert.deepEqual((await listed()).ipv6Prefixes, [prefix]);
  const made = await cloud.createNetworkInterface({
    ...{ subnetId, groupIds: (await listed()).groupIds, description: '', tags: {}, clientToken: 'six' },
    ...{ secondaryCount: 1, ipv6PrefixCount: 1 },
  });
  assert.deepEqual([made.addresses.length, made.ipv6Prefixes.length], [2, 1]);
});

test('every action of the port, over the wire', async () => {
  await using lab = testVpc();
  const { subnetId, instanceId } = await smallShape(lab.vpc);
  await using node = await endpoints(lab.vpc, instanceId);
  const { cloud } = node;
  const identity = await node.imds.identity();
  assert.equal(identity.instanceId, instanceId);
  assert.equal(identity.instanceType, 'm5.large');
  assert.equal(identity.primary.subnetId, subnetId);
  assert.deepEqual((await node.imds.vpcCidrs(identity.primary.mac)).length, 1);
  assert.equal(await node.imds.get('meta-data/no-such-thing'), null);

  const [primary] = await cloud.describeNetworkInterfaces({ kind: 'instance', instanceId });
  assert.equal(primary!.id, identity.primary.eniId);
  assert.equal(primary!.addresses[0]!.ip, identity.primary.ip);
  const request = {
    subnetId,
    groupIds: primary!.groupIds,
    description: 'podway test <&>',
    secondaryCount: 3,
    tags: { 'podway.io/instance': instanceId, other: 'a&b "c"' },
    clientToken: 'token-1',
  };
  const made = await cloud.createNetworkInterface(request);
  assert.equal((await cloud.createNetworkInterface(request)).id, made.id);
  assert.equal(made.description, request.description);
  const attachmentId = await cloud.attachNetworkInterface({
    eniId: made.id,
    instanceId,
    deviceIndex: 1,
    networkCard: 0,
  });
  await cloud.setDeleteOnTermination(made.id, attachmentId);
  await until('attached', async () => {
    const [eni] = await cloud.describeNetworkInterfaces({ kind: 'ids', ids: [made.id] });
    return eni?.attachment?.status === 'attached' && eni.attachment.deleteOnTermination;
  });
  const tagged = await cloud.describeNetworkInterfaces({
    kind: 'tags',
    tags: { 'podway.io/instance': instanceId },
  });
  assert.deepEqual(
    tagged.map((eni) => [eni.id, eni.tags['other']]),
    [[made.id, 'a&b "c"']],
  );
  const more = await cloud.assignPrivateIps(made.id, 2);
  assert.equal(more.length, 2);
  await cloud.unassign(made.id, { ips: more, prefixes: [] });
  const [after] = await cloud.describeNetworkInterfaces({ kind: 'ids', ids: [made.id] });
  assert.equal(after!.addresses.length, 4);
  const prefixes = await cloud.assignPrefixes(made.id, 2);
  assert.deepEqual(
    prefixes.map((prefix) => prefix.length),
    [28, 28],
  );
  await cloud.unassign(made.id, { ips: [], prefixes: prefixes.slice(0, 1) });
  await cloud.assignThesePrefixes(made.id, prefixes.slice(0, 1));
  await cloud.unassign(made.id, { ips: [], prefixes });
  const [zoned] = await cloud.describeVpcSubnets(primary!.vpcId, primary!.zone);
  assert.equal(zoned!.id, subnetId);
  assert.deepEqual(await cloud.describeVpcSubnets(primary!.vpcId, 'no-such-zone'), []);
  const inSubnet = await cloud.describeNetworkInterfaces({ kind: 'subnet', subnetId });
  assert.equal(inSubnet.length, 2);
  const withPrefix = await cloud.createNetworkInterface({
    ...request,
    secondaryCount: 0,
    prefixCount: 3,
    clientToken: 'token-2',
  });
  assert.equal(withPrefix.ipv4Prefixes.length, 3);
  await cloud.deleteNetworkInterface(withPrefix.id);
  const codeOf = (call: Promise<unknown>) =>
    call.then(
      () => 'ok',
      (error: CloudError) => `${error.ec2Code} ${error.code}`,
    );
  assert.equal(
    await codeOf(cloud.assignPrivateIps(made.id, 7)),
    'PrivateIpAddressLimitExceeded ADDRESS_LIMIT',
  );
  assert.equal(await codeOf(cloud.deleteNetworkInterface(made.id)), 'InvalidParameterValue INTERNAL');
  const absent = 'eni-0123456789abcdef0' as EniId;
  assert.equal(
    await codeOf(cloud.describeNetworkInterfaces({ kind: 'ids', ids: [absent] })),
    'InvalidNetworkInterfaceID.NotFound INTERNAL',
  );
  const [subnet] = await cloud.describeSubnets([subnetId]);
  assert.equal(subnet!.availableIps, 256 - 5 - 1 - 4);
  const limits = await cloud.describeInstanceType('m5.large');
  assert.deepEqual([limits.enis, limits.ipv4PerEni], [3, 10]);
  assert.equal((await cloud.describeNetworkInterfaces({ kind: 'instance', instanceId })).length, 2);
  await cloud.detachNetworkInterface(attachmentId);
  await until(
    'available',
    async () =>
      (await cloud.describeNetworkInterfaces({ kind: 'ids', ids: [made.id] }))[0]?.attachment === null,
  );
  await cloud.deleteNetworkInterface(made.id);
});

test('a pool on an m5.large of the lab: 27 addresses, the 28th told why, and back to the warm target', async () => {
  await using lab = testVpc();
  const { instanceId } = await smallShape(lab.vpc);
  await using node = await endpoints(lab.vpc, instanceId);
  const dir = mkdtempSync(join(tmpdir(), 'podway-pool-on-vpc-'));
  const journal = Journal.open<PoolRecord>(join(dir, 'journal'));
  const stop = new AbortController();
  const identity = await node.imds.identity();
  const pool = new AddressPool({
    cloud: node.cloud,
    journal,
    identity,
    limits: await loadLimits(identity.instanceType, node.cloud),
    nodeName: 'node-1',
    settings: { warm: 2, cooldownMs: 200, idleReleaseMs: 300 },
  });
  try {
    await pool.start(stop.signal);
    const owner = (i: number) => ({ network: 'podway', containerId: `c${i}`, ifname: 'eth0' });
    const leases = await Promise.all(Array.from({ length: 27 }, (_, i) => pool.acquire(owner(i))));
    assert.equal(new Set(leases.map((lease) => formatIp(lease.ips[0]!))).size, 27);
    const described = await node.cloud.describeNetworkInterfaces({ kind: 'instance', instanceId });
    const listed = new Set(described.flatMap((eni) => eni.addresses.map((one) => one.ip)));
    for (const lease of leases) assert.ok(listed.has(lease.ips[0] as never));
    const error = await pool.acquire(owner(27)).catch((e) => e);
    assert.ok(error instanceof PodwayError);
    assert.equal(error.code, 'ADDRESS_LIMIT');
    for (const lease of leases) pool.release(lease.owner);
    await until('back at the warm target', async () => {
      const enis = await node.cloud.describeNetworkInterfaces({
        kind: 'tags',
        tags: { 'podway.io/instance': instanceId },
      });
      const [primary] = await node.cloud.describeNetworkInterfaces({
        kind: 'ids',
        ids: [identity.primary.eniId],
      });
      return enis.length === 0 && primary!.addresses.length === 3;
    });
    assert.ok(node.calls.filter((call) => !call.startsWith('Describe')).length < 30, node.calls.join());
  } finally {
    stop.abort();
    await pool.stopped();
    journal.close();
    rmSync(dir, { recursive: true, force: true });
  }
});

test('a wrong key is refused with EC2 own code, once', async () => {
  await using lab = testVpc();
  const { instanceId } = await smallShape(lab.vpc);
  await using ec2 = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const env = { AWS_ACCESS_KEY_ID: lab.vpc.keys().accessKeyId, AWS_SECRET_ACCESS_KEY: 'wrong' };
  const cloud = createEc2Cloud({
    region: REGION,
    endpoint: ec2.url,
    credentials: defaultCredentials({ env }),
  });
  const error = await cloud.describeNetworkInterfaces({ kind: 'instance', instanceId }).catch((e) => e);
  assert.ok(error instanceof CloudError);
  assert.deepEqual([error.ec2Code, error.code], ['AuthFailure', 'CLOUD_DENIED']);
});
