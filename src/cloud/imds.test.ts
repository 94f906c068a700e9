import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { systemClock } from '../base/clock.ts';
import { formatCidr, parseIp, parseIpv4 } from '../base/ip.ts';
import { defaultCredentials, renewed } from './credentials.ts';
import { createImds } from './imds.ts';
import { loadLimits } from './limits.ts';
import { type Cloud, CloudError } from './port.ts';

const MAC = '0a:00:00:00:00:01';
const tree: Record<string, string> = {
  'dynamic/instance-identity/document': JSON.stringify({
    instanceId: 'i-1',
    instanceType: 'm5.large',
    region: 'us-west-2',
    availabilityZone: 'us-west-2a',
  }),
  'meta-data/mac': MAC,
  'meta-data/services/domain': 'amazonaws.com.cn\n',
  'meta-data/local-ipv4': '10.0.0.9',
  [`meta-data/network/interfaces/macs/${MAC}/interface-id`]: 'eni-1',
  [`meta-data/network/interfaces/macs/${MAC}/subnet-id`]: 'subnet-1',
  [`meta-data/network/interfaces/macs/${MAC}/vpc-id`]: 'vpc-1',
  [`meta-data/network/interfaces/macs/${MAC}/vpc-ipv4-cidr-blocks`]: '10.0.0.0/16\n100.64.0.0/16',
  'meta-data/iam/security-credentials/': 'node',
  'meta-data/iam/security-credentials/node': JSON.stringify({
    Code: 'Success',
    AccessKeyId: 'AKID',
    SecretAccessKey: 's',
    Token: 't',
    Expiration: '2030-01-01T00:00:00Z',
  }),
};

async function metadata() {
  const seen = { tokens: 0, valid: '', busy: 0, deaf: 0 };
  const server = createServer((request, response) => {
    const path = request.url!.replace('/latest/', '');
    if (seen.deaf-- > 0) return void response.destroy();
    if (seen.busy-- > 0) return void response.writeHead(503).end();
    if (request.method === 'PUT' && path === 'api/token') {
      seen.valid = `token-${++seen.tokens}`;
      return void response.end(seen.valid);
    }
    if (request.headers['x-aws-ec2-metadata-token'] !== seen.valid) return void response.writeHead(401).end();
    const text = tree[path];
    if (text === undefined) response.writeHead(404).end();
    else response.end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    seen,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

test('one token for many reads; a refused one is renewed; a missing path is null; a busy service is asked again', async () => {
  await using service = await metadata();
  const imds = createImds({ endpoint: service.url, clock: { now: systemClock.now, sleep: async () => {} } });
  assert.equal(await imds.get('meta-data/mac'), MAC);
  assert.equal(await imds.get('meta-data/no'), null);
  assert.equal(service.seen.tokens, 1);
  service.seen.valid = 'rotated';
  assert.equal(await imds.get('meta-data/mac'), MAC);
  assert.equal(service.seen.tokens, 2);
  service.seen.busy = 2;
  assert.equal(await imds.get('meta-data/mac'), MAC);
  service.seen.busy = 100;
  await assert.rejects(imds.get('meta-data/mac'), /status 503/);
});

test('of two endpoints the one that answers is asked from then on, whatever requests are lost meanwhile', async () => {
  const closed = await metadata();
  await closed[Symbol.asyncDispose]();
  const clock = { now: systemClock.now, sleep: async () => {} };
  for (let deaf = 0; deaf <= 8; deaf++) {
    await using service = await metadata();
    service.seen.deaf = deaf;
    const imds = createImds({ endpoint: [service.url, closed.url], clock });
    const all = () => Promise.allSettled([1, 2, 3].map(() => imds.get('meta-data/mac')));
    await all();
    await all();
    await all();
    assert.equal(await imds.get('meta-data/mac'), MAC, `${deaf} requests lost`);
    service.seen.deaf = 2;
    assert.equal(await imds.get('meta-data/mac'), MAC);
  }
  await using second = await metadata();
  const six = createImds({ endpoint: [closed.url, second.url], clock });
  assert.equal(await six.get('meta-data/mac'), MAC);
  await assert.rejects(
    createImds({ endpoint: [closed.url, closed.url], clock }).get('meta-data/mac'),
    new RegExp(`${closed.url} does not answer meta-data/mac`),
  );
});

test('identity, VPC prefixes and role credentials', async () => {
  await using service = await metadata();
  const imds = createImds({ endpoint: service.url });
  assert.deepEqual(await imds.identity(), {
    instanceId: 'i-1',
    instanceType: 'm5.large',
    region: 'us-west-2',
    domain: 'amazonaws.com.cn',
    zone: 'us-west-2a',
    vpcId: 'vpc-1',
    primary: { eniId: 'eni-1', mac: MAC, subnetId: 'subnet-1', ip: parseIpv4('10.0.0.9') },
  });
  assert.equal((await imds.vpcCidrs(MAC as never)).length, 2);
  const credentials = await defaultCredentials({ imds, env: {} }).get();
  assert.deepEqual(credentials, {
    accessKeyId: 'AKID',
    secretAccessKey: 's',
    sessionToken: 't',
    expiration: new Date('2030-01-01T00:00:00Z'),
  });
});

test('the environment comes first; with nothing at all there is a typed refusal', async () => {
  const env = { AWS_ACCESS_KEY_ID: 'A', AWS_SECRET_ACCESS_KEY: 'B' };
  assert.deepEqual(await defaultCredentials({ env }).get(), { accessKeyId: 'A', secretAccessKey: 'B' });
  await assert.rejects(defaultCredentials({ env: {} }).get(), CloudError);
});

test('keys are renewed before they expire, shared while they load, and used to their end when renewal fails', async () => {
  let now = 0;
  let loads = 0;
  let broken = false;
  const source = renewed(
    async () => {
      loads++;
      if (broken) throw new Error('no role');
      return { accessKeyId: `A${loads}`, secretAccessKey: 's', expiration: new Date(now + 3_600_000) };
    },
    { now: () => now, sleep: async () => {} },
  );
  const key = async () => (await source.get()).accessKeyId;
  assert.deepEqual(await Promise.all([key(), key()]), ['A1', 'A1']);
  now = 3_200_000;
  assert.equal(await key(), 'A1');
  now = 3_310_000;
  broken = true;
  assert.equal(await key(), 'A1');
  assert.equal(await key(), 'A1');
  assert.equal(loads, 2);
  now = 3_345_000;
  broken = false;
  assert.equal(await key(), 'A3');
  source.forget();
  assert.equal(await key(), 'A4');
  broken = true;
  now += 3_700_000;
  await assert.rejects(key(), /no role/);
});

test('limits of a type come from the table, one row of it; EC2 is asked for the others', async () => {
  const asked: string[] = [];
  const describeInstanceType = async (instanceType: string) => {
    asked.push(instanceType);
    return {
      instanceType,
      enis: 2,
      ipv4PerEni: 3,
      ipv6PerEni: 0,
      networkCards: [],
      hypervisor: '',
      bareMetal: true,
    };
  };
  const limitsOf = (type: string) => loadLimits(type, { describeInstanceType } as Partial<Cloud> as Cloud);
  const limits = await limitsOf('m5.large');
  assert.deepEqual([limits.enis, limits.ipv4PerEni, limits.pods, limits.prefixes], [3, 10, 29, true]);
  for (const type of ['a1.2xlarge', 't3.small', 'p4d.24xlarge', 't1.micro'])
    assert.ok((await limitsOf(type)).enis > 0, type);
  assert.deepEqual(asked, []);
  for (const type of ['m5.larg', 'z9.huge']) assert.equal((await limitsOf(type)).pods, 6);
  assert.deepEqual(asked, ['m5.larg', 'z9.huge']);
});

test('an instance of an IPv6-only subnet is known by its IPv6 address, and the VPC by both families', async () => {
  await using service = await metadata();
  const keys = {
    [`meta-data/network/interfaces/macs/${MAC}/ipv6s`]: '2001:db8:0:1::9',
    [`meta-data/network/interfaces/macs/${MAC}/vpc-ipv6-cidr-blocks`]: '2001:db8::/56',
  };
  const { 'meta-data/local-ipv4': ipv4 } = tree;
  Object.assign(tree, keys);
  delete tree['meta-data/local-ipv4'];
  try {
    const imds = createImds({ endpoint: service.url });
    assert.equal((await imds.identity()).primary.ip, parseIp('2001:db8:0:1::9'));
    const cidrs = await imds.vpcCidrs(MAC as never);
    assert.deepEqual(cidrs.map(formatCidr), ['10.0.0.0/16', '100.64.0.0/16', '2001:db8::/56']);
  } finally {
    for (const key of Object.keys(keys)) delete tree[key];
    tree['meta-data/local-ipv4'] = ipv4!;
  }
});
