import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VpcService } from './index.ts';
import { listen, REGION, runInstance, smallShape, testVpc } from './testing.ts';

const TTL = 'x-aws-ec2-metadata-token-ttl-seconds';
const TOKEN = 'x-aws-ec2-metadata-token';

/** The service as one instance sees it. */
async function imdsOf(vpc: VpcService, instanceId: string) {
  const answers: { token: boolean; hopLimit: number }[] = [];
  const server = await listen((request, response) =>
    vpc.imdsHandler(request, response, { instanceId, beforeAnswer: (a) => answers.push(a) }),
  );
  const token = async (headers: Record<string, string> = { [TTL]: '60' }) =>
    fetch(`${server.url}/latest/api/token`, { method: 'PUT', headers });
  let current = '';
  return {
    url: server.url,
    answers,
    token,
    get: async (path: string, withToken?: string) => {
      if (withToken === undefined && current === '') current = await (await token()).text();
      return fetch(server.url + path, { headers: { [TOKEN]: withToken ?? current } });
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

test('a token is asked for with a TTL, and nothing is said without one', async () => {
  await using lab = testVpc();
  const { instanceId } = await smallShape(lab.vpc);
  await using imds = await imdsOf(lab.vpc, instanceId);
  const given = await imds.token({ [TTL]: '21600' });
  assert.equal(given.status, 200);
  assert.equal(given.headers.get(TTL), '21600');
  assert.equal((await given.text()).length, 56);
  for (const headers of [
    {},
    { [TTL]: '0' },
    { [TTL]: '21601' },
    { [TTL]: 'x' },
    { [TTL]: '-1' },
    { [TTL]: '1e3' },
  ]) {
    assert.equal((await imds.token(headers as Record<string, string>)).status, 400, JSON.stringify(headers));
  }
  assert.equal((await imds.token({ [TTL]: '60', 'x-forwarded-for': '10.0.0.1' })).status, 403);
  assert.equal((await fetch(`${imds.url}/latest/meta-data/mac`)).status, 401);
  for (const bad of ['x', 'A'.repeat(56), ''])
    assert.equal((await imds.get('/latest/meta-data/mac', bad || ' ')).status, 401);
  assert.equal((await fetch(`${imds.url}/latest/meta-data/mac`, { method: 'PUT' })).status, 405);
  assert.equal((await fetch(`${imds.url}/latest/api/token`, { method: 'POST', body: 'x' })).status, 405);
});

test('a token ends, and is of its instance alone', async () => {
  let now = Date.now();
  const clock = { now: () => now, sleep: () => new Promise<void>(() => {}) };
  await using lab = testVpc({ clock });
  const { instanceId, subnetId } = await smallShape(lab.vpc);
  const otherId = await runInstance(lab.vpc, { SubnetId: subnetId });
  await using imds = await imdsOf(lab.vpc, instanceId);
  await using other = await imdsOf(lab.vpc, otherId);
  const token = await (await imds.token({ [TTL]: '10' })).text();
  now += 9_000;
  const good = await imds.get('/latest/meta-data/instance-id', token);
  assert.equal(await good.text(), instanceId);
  assert.equal(good.headers.get(TTL), '1');
  assert.equal((await other.get('/latest/meta-data/instance-id', token)).status, 401);
  now += 1_000;
  assert.equal((await imds.get('/latest/meta-data/instance-id', token)).status, 401);
});

test('the hop limit is told with token answers; the options of the instance rule', async () => {
  await using lab = testVpc();
  const { instanceId } = await smallShape(lab.vpc);
  await using imds = await imdsOf(lab.vpc, instanceId);
  const modify = (options: object) =>
    lab.vpc.act('ModifyInstanceMetadataOptions', { InstanceId: instanceId, ...options });
  await modify({ HttpPutResponseHopLimit: 1 });
  await imds.token();
  await fetch(`${imds.url}/latest/meta-data/mac`);
  assert.deepEqual(imds.answers, [
    { token: true, hopLimit: 1 },
    { token: false, hopLimit: 1 },
  ]);
  await modify({ HttpTokens: 'optional' });
  assert.equal((await fetch(`${imds.url}/latest/meta-data/mac`)).status, 200);
  assert.equal((await imds.get('/latest/meta-data/mac', 'bad')).status, 401);
  await modify({ HttpEndpoint: 'disabled' });
  assert.equal((await imds.token()).status, 403);
  await assert.rejects(modify({ HttpPutResponseHopLimit: 65 }), { code: 'InvalidParameterValue' });
  await lab.vpc.act('TerminateInstances', { InstanceIds: [instanceId] });
  await modify({}).catch((error) => assert.equal(error.code, 'IncorrectInstanceState'));
});

test('the tree says what the state says, lists as AWS does, and 404s what does not apply', async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { vpcId, subnetId, instanceId } = await smallShape(vpc);
  await vpc.act('AssociateVpcCidrBlock', { VpcId: vpcId, CidrBlock: '100.64.0.0/16' });
  const made = await vpc.act('CreateNetworkInterface', {
    SubnetId: subnetId,
    SecondaryPrivateIpAddressCount: 2,
  });
  const eniId = made.NetworkInterface!.NetworkInterfaceId!;
  await vpc.act('AttachNetworkInterface', {
    NetworkInterfaceId: eniId,
    InstanceId: instanceId,
    DeviceIndex: 1,
  });
  const eni = vpc.state().networkInterfaces[eniId]!;
  const primary = Object.values(vpc.state().networkInterfaces).find((one) => one.id !== eniId)!;
  await using imds = await imdsOf(vpc, instanceId);
  const text = async (path: string) => {
    const answer = await imds.get(path);
    return answer.status === 200 ? await answer.text() : answer.status;
  };
  const meta = (path: string) => text(`/latest/meta-data/${path}`);

  // Versions and what they have are listed without trailing slashes, all below with them.
  assert.equal(await text('/latest/'), 'dynamic\nmeta-data');
  assert.equal(await text('/latest'), 'dynamic\nmeta-data');
  const versions = String(await text('/')).split('\n');
  assert.deepEqual([versions[0], versions.at(-1)], ['1.0', 'latest']);
  for (const version of versions)
    assert.equal(await text(`/${version}/meta-data/instance-id`), instanceId, version);
  assert.match(String(await meta('')), /^block-device-mapping\/$/m);
  assert.equal(await text('/2009-04-05/meta-data/instance-id'), 404);
  for (const [version, status] of [
    ['2009-04-04', 200],
    ['2009-04-05', 405],
  ] as const) {
    const answer = await fetch(`${imds.url}/${version}/api/token`, {
      method: 'PUT',
      headers: { [TTL]: '60' },
    });
    assert.equal(answer.status, status, version);
  }
  assert.equal(
    await meta('network/interfaces/macs/'),
    [primary.mac, eni.mac]
      .sort()
      .map((mac) => `${mac}/`)
      .join('\n'),
  );
  const of = (key: string) => meta(`network/interfaces/macs/${eni.mac}/${key}`);
  assert.equal(
    await of(''),
    'device-number\ninterface-id\nlocal-hostname\nlocal-ipv4s\nmac\nowner-id\nsecurity-group-ids\nsecurity-groups\nsubnet-id\nsubnet-ipv4-cidr-block\nvpc-id\nvpc-ipv4-cidr-block\nvpc-ipv4-cidr-blocks',
  );
  const expected: Record<string, string | number> = {
    'interface-id': eniId,
    'device-number': '1',
    'subnet-id': subnetId,
    'vpc-id': vpcId,
    'local-ipv4s': eni.privateIps.join('\n'),
    'security-group-ids': eni.groupIds.join('\n'),
    'subnet-ipv4-cidr-block': '10.0.0.0/24',
    'vpc-ipv4-cidr-block': '10.0.0.0/16',
    'vpc-ipv4-cidr-blocks': '10.0.0.0/16\n100.64.0.0/16',
    ipv6s: 404,
    'network-card': 404,
    'ipv4-prefix': 404,
    'subnet-ipv6-cidr-blocks': 404,
    'public-ipv4s': 404,
    constructor: 404,
    'mac/x': 404,
  };
  for (const [key, value] of Object.entries(expected)) assert.equal(await of(key), value, key);
  for (const [path, value] of Object.entries({
    'instance-id': instanceId,
    'instance-type': 'm5.large',
    mac: primary.mac,
    'local-ipv4': primary.privateIps[0],
    'local-ipv4/': primary.privateIps[0],
    'placement/availability-zone': 'us-west-2a',
    'placement/availability-zone-id': 'usw2-az1',
    'placement/region': REGION,
    'public-ipv4': 404,
    ipv6: 404,
    'events/maintenance/scheduled': '[]',
    'events/recommendations/rebalance': 404,
    'spot/instance-action': 404,
    'iam/security-credentials/': 'podway-node',
    'iam/security-credentials/other': 404,
  })) {
    assert.equal(await meta(path), value, path);
  }
  assert.equal(await text('/latest/user-data'), 404);
  const document = JSON.parse(String(await text('/latest/dynamic/instance-identity/document')));
  assert.equal(document.region, REGION);
  assert.equal(document.privateIp, primary.privateIps[0]);

  // A public address on a secondary address shows with its interface.
  const gateway = await vpc.act('CreateInternetGateway', {});
  await vpc.act('AttachInternetGateway', {
    VpcId: vpcId,
    InternetGatewayId: gateway.InternetGateway!.InternetGatewayId!,
  });
  const { AllocationId, PublicIp } = await vpc.act('AllocateAddress', {});
  await vpc.act('AssociateAddress', {
    AllocationId,
    NetworkInterfaceId: eniId,
    PrivateIpAddress: eni.privateIps[1],
  });
  assert.equal(await of('public-ipv4s'), PublicIp);
  assert.equal(await of(`ipv4-associations/${PublicIp}`), eni.privateIps[1]);
  await vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId: eniId, Ipv4PrefixCount: 1 });
  assert.match(String(await of('ipv4-prefix')), /^10\.0\.0\.\d+\/28$/);

  await vpc.act('DetachNetworkInterface', {
    AttachmentId: vpc.state().networkInterfaces[eniId]!.attachment!.id,
  });
  assert.equal(await meta('network/interfaces/macs/'), `${primary.mac}/`);
});
