// Faults on requests of the stock SDK and on IMDS: each effect, by seed, over a restart, and never on the lab itself.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as ec2 from '@aws-sdk/client-ec2';
import type { FaultRequest, VpcOptions, VpcService } from '../index.ts';
import {
  attach,
  listen,
  newEni,
  primaryOf,
  REGION,
  roleOf,
  smallShape,
  type TestVpc,
  testVpc,
} from '../testing.ts';

/** A VPC with an instance, asked over HTTP by the SDK as an administrator. */
async function asked(options: Partial<VpcOptions> = {}) {
  const lab = testVpc(options);
  const server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const shape = await smallShape(lab.vpc);
  const sdk = new ec2.EC2Client({
    endpoint: server.url,
    region: REGION,
    maxAttempts: 1,
    credentials: lab.vpc.keys(),
  });
  return {
    lab,
    ...shape,
    sdk,
    async [Symbol.asyncDispose]() {
      sdk.destroy();
      await server[Symbol.asyncDispose]();
      await lab[Symbol.asyncDispose]();
    },
  };
}
const fault = (
  action: string,
  effect: FaultRequest['effect'],
  more: Partial<FaultRequest> = {},
): FaultRequest => ({
  action,
  effect,
  rate: 1,
  seed: 1,
  ...more,
});
const error = (code: string) => ({ kind: 'error' as const, code });
const describe = (sdk: ec2.EC2Client, id: string) =>
  sdk.send(new ec2.DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] }));
const code = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'ok',
    (error: Error) => error.name,
  );

test('an error comes instead of the effect, in its own words, until the fault is cleared', async () => {
  await using scene = await asked();
  const { lab, sdk, subnetId } = scene;
  const create = () => sdk.send(new ec2.CreateNetworkInterfaceCommand({ SubnetId: subnetId }));
  const { id } = lab.vpc.faults.add(fault('CreateNetworkInterface', error('InternalError')));
  await assert.rejects(create(), (failure: ec2.EC2ServiceException) => {
    assert.equal(failure.name, 'InternalError');
    assert.equal(failure.$metadata.httpStatusCode, 500);
    assert.match(failure.message, /internal error/);
    return true;
  });
  assert.equal(Object.keys(lab.vpc.state().networkInterfaces).length, 1);
  assert.deepEqual(await code(sdk.send(new ec2.DescribeVpcsCommand({}))), 'ok');
  lab.vpc.faults.clear(id);
  assert.equal(await code(create()), 'ok');
});

test('a dropped answer leaves the effect; a dropped request does not', async () => {
  await using scene = await asked();
  const { lab, sdk, subnetId } = scene;
  const create = () => sdk.send(new ec2.CreateNetworkInterfaceCommand({ SubnetId: subnetId }));
  const count = () => Object.keys(lab.vpc.state().networkInterfaces).length;
  lab.vpc.faults.add(fault('CreateNetworkInterface', { kind: 'drop-answer' }, { count: 1 }));
  await assert.rejects(create(), /socket hang up|ECONNRESET/);
  assert.equal(count(), 2);
  lab.vpc.faults.add(fault('Create*', { kind: 'drop-request' }, { count: 1 }));
  await assert.rejects(create(), /socket hang up|ECONNRESET/);
  assert.equal(count(), 2);
  assert.equal(await code(create()), 'ok');
  const { totals } = lab.vpc.faults.report();
  assert.deepEqual(totals, { CreateNetworkInterface: { lost: 2, ok: 1 } });
});

/** Which of a hundred calls a fault hits; the lab's process is killed after fifty. */
async function hits(seed: number, restart: boolean): Promise<string> {
  await using lab = testVpc();
  lab.vpc.faults.add(fault('DescribeVpcs', error('Unavailable'), { rate: 0.3, seed, count: 20 }));
  const caller = { kind: 'admin' as const, arn: '', userId: '' };
  let pattern = '';
  for (let i = 0; i < 100; i++) {
    if (restart && i === 50) lab.reopen();
    const result = await lab.vpc.actByName('DescribeVpcs', {}, caller).then(
      () => '.',
      () => 'x',
    );
    pattern += result;
  }
  return pattern;
}

test('the same seed gives the same run, also when the lab is killed in the middle', async () => {
  const first = await hits(7, false);
  assert.equal(await hits(7, true), first);
  assert.notEqual(await hits(8, false), first);
  assert.equal(first.replaceAll('.', '').length, 20, 'count ends it');
});

test('what the lab does itself meets no fault, no bucket and no log', async () => {
  await using lab = testVpc({ settings: { ec2Throttle: 'aws' } });
  lab.vpc.faults.add(fault('*', error('InternalError')));
  lab.vpc.faults.setSize('*', { perSecond: 0, burst: 1 });
  const { subnetId } = await smallShape(lab.vpc);
  await newEni(lab.vpc, subnetId);
  assert.deepEqual(lab.vpc.faults.report().calls, []);
});

test('a fault of one node leaves the others alone; the log names the nodes', async () => {
  await using lab = testVpc();
  const { instanceId } = await smallShape(lab.vpc);
  const as = (id: string) => ({ kind: 'role' as const, arn: '', userId: '', instanceId: id });
  lab.vpc.faults.add(fault('DescribeSubnets', error('Unavailable'), { node: instanceId }));
  assert.equal(await code(lab.vpc.actByName('DescribeSubnets', {}, as(instanceId))), 'Ec2Error');
  assert.equal(await code(lab.vpc.actByName('DescribeSubnets', {}, as('i-other'))), 'ok');
  assert.deepEqual(
    lab.vpc.faults.report().calls.map(({ caller, result }) => `${caller} ${result}`),
    [`${instanceId} Unavailable`, 'i-other ok'],
  );
});

test('buckets hold over HTTP, and their sizes outlive the process', async () => {
  await using lab = testVpc();
  lab.vpc.faults.setSize('DescribeVpcs', { perSecond: 0, burst: 2 });
  lab.reopen();
  await using server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const sdk = new ec2.EC2Client({
    endpoint: server.url,
    region: REGION,
    maxAttempts: 1,
    credentials: lab.vpc.keys(),
  });
  const results: string[] = [];
  for (let i = 0; i < 3; i++) results.push(await code(sdk.send(new ec2.DescribeVpcsCommand({}))));
  sdk.destroy();
  assert.deepEqual(results, ['ok', 'ok', 'RequestLimitExceeded']);
});

for (const [what, request, because] of [
  ['an unknown action', fault('DescribeNothing', error('X')), /DescribeNothing/],
  ['a rate of 0', fault('*', error('X'), { rate: 0 }), /rate is 0/],
  ['a rate above 1', fault('*', error('X'), { rate: 2 }), /rate is 2/],
  ['a rate that is no number', fault('*', error('X'), { rate: Number.NaN }), /rate is NaN/],
  ['a count of 0', fault('*', error('X'), { count: 0 }), /count is 0/],
  ['a code that is none', fault('*', error('no code')), /"no code"/],
  ['an EC2 code for IMDS', fault('imds:*', error('InternalError')), /HTTP status/],
  ['an empty answer of EC2', fault('DescribeVpcs', { kind: 'empty' }), /IMDS/],
  ['a delay of two days', fault('*', { kind: 'delay', ms: 2 * 86_400_000 }), /at most 24 h/],
  ['a negative seed', fault('*', error('X'), { seed: -1 }), /seed is -1/],
] as const) {
  test(`${what} is refused by name`, async () => {
    await using lab = testVpc();
    assert.throws(() => lab.vpc.faults.add(request), because);
    assert.deepEqual(lab.vpc.faults.list(), []);
  });
}

test('more than a hundred faults are refused, and an id that there is not', async () => {
  await using lab = testVpc();
  for (let i = 0; i < 100; i++) lab.vpc.faults.add(fault('*', error('X')));
  assert.throws(() => lab.vpc.faults.add(fault('*', error('X'))), /100 faults of at most 100/);
  assert.throws(() => lab.vpc.faults.clear('f-999'), /no fault f-999/);
  assert.equal(lab.vpc.faults.clear().length, 100);
});

/** A clock that stands still until it is moved. */
function stillClock() {
  let now = Date.now();
  return {
    clock: { now: () => now, sleep: () => new Promise<void>(() => {}) },
    pass: (ms: number) => {
      now += ms;
    },
  };
}

test('with ec2Consistency a describe is sometimes of the past, never older, and changes nothing', async () => {
  const { clock, pass } = stillClock();
  await using scene = await asked({ clock, settings: { ec2ConsistencyMs: 5000 } });
  const { lab, sdk, subnetId } = scene;
  const id = await newEni(lab.vpc, subnetId);
  pass(2500);
  const seen = new Set<string>();
  for (let i = 0; i < 40; i++) seen.add(await code(describe(sdk, id)));
  assert.deepEqual([...seen].sort(), ['InvalidNetworkInterfaceID.NotFound', 'ok']);
  pass(2600);
  for (let i = 0; i < 40; i++) assert.equal(await code(describe(sdk, id)), 'ok');
  await lab.vpc.act('DeleteNetworkInterface', { NetworkInterfaceId: id });
  pass(2500);
  const after = new Set<string>();
  for (let i = 0; i < 40; i++) after.add(await code(describe(sdk, id)));
  assert.deepEqual([...after].sort(), ['InvalidNetworkInterfaceID.NotFound', 'ok']);
  assert.equal(lab.vpc.state().networkInterfaces[id], undefined);
});

test('a stale describe is of the time at which its fault began', async () => {
  const { clock, pass } = stillClock();
  await using scene = await asked({ clock });
  const { lab, sdk, subnetId } = scene;
  const old = await newEni(lab.vpc, subnetId);
  pass(60_000);
  lab.vpc.faults.add(fault('DescribeNetworkInterfaces', { kind: 'stale', ms: 3_600_000 }));
  const fresh = await newEni(lab.vpc, subnetId);
  await lab.vpc.act('DeleteNetworkInterface', { NetworkInterfaceId: old });
  pass(60_000);
  assert.equal(await code(describe(sdk, fresh)), 'InvalidNetworkInterfaceID.NotFound');
  assert.equal(await code(describe(sdk, old)), 'ok');
  lab.vpc.faults.clear();
  assert.equal(await code(describe(sdk, fresh)), 'ok');
});

/** What IMDS says for paths below the interfaces' directory; the status where it is not 200. */
async function metadata(lab: TestVpc, instanceId: string) {
  await lab.vpc.act('ModifyInstanceMetadataOptions', { InstanceId: instanceId, HttpTokens: 'optional' });
  const server = await listen(
    (request, response) => void lab.vpc.imdsHandler(request, response, { instanceId }),
  );
  return {
    async get(path: string): Promise<string> {
      const answer = await fetch(`${server.url}/latest/meta-data/${path}`);
      return answer.status === 200 ? answer.text() : String(answer.status);
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}
const MACS = 'network/interfaces/macs/';

test('IMDS fails, is empty, is stale, or does not answer, where a fault says so', async () => {
  await using lab = testVpc();
  const { instanceId } = await smallShape(lab.vpc);
  await using imds = await metadata(lab, instanceId);
  const { mac } = primaryOf(lab.vpc, instanceId);
  const { faults } = lab.vpc;
  faults.add(fault(`imds:${MACS}*/local-ipv4s`, error('404'), { count: 1 }));
  assert.equal(await imds.get(`${MACS}${mac}/local-ipv4s`), '404');
  assert.equal(await imds.get(`${MACS}${mac}/local-ipv4s`), primaryOf(lab.vpc, instanceId).privateIps[0]);
  faults.add(fault('imds:network/interfaces/macs', { kind: 'empty' }, { count: 1 }));
  assert.equal(await imds.get(MACS), '');
  assert.equal(await imds.get(MACS), `${mac}/`);
  faults.add(fault('imds:*', { kind: 'drop-answer' }, { count: 1 }));
  await assert.rejects(imds.get(MACS));
  faults.add(fault('imds:network/*', { kind: 'stale', ms: 3_600_000 }));
  await lab.vpc.act('AssignPrivateIpAddresses', {
    NetworkInterfaceId: primaryOf(lab.vpc, instanceId).id,
    SecondaryPrivateIpAddressCount: 2,
  });
  const count = async () => (await imds.get(`${MACS}${mac}/local-ipv4s`)).split('\n').length;
  assert.equal(await count(), 1);
  faults.clear();
  assert.equal(await count(), 3);
});

test('IMDS lags per key: directory, keys, further addresses, and what is gone lingers', async () => {
  const { clock, pass } = stillClock();
  const imdsLag = { directory: 1000, keys: 2000, added: 4000, removed: 3000 };
  await using lab = testVpc({ clock, settings: { imdsLag } });
  const { instanceId, subnetId } = await smallShape(lab.vpc);
  await using imds = await metadata(lab, instanceId);
  pass(60_000);
  const id = await newEni(lab.vpc, subnetId, { SecondaryPrivateIpAddressCount: 2 });
  const { AttachmentId } = await attach(lab.vpc, id, instanceId, 1);
  const { mac, privateIps } = lab.vpc.state().networkInterfaces[id]!;
  const shown = async () => ({
    listed: (await imds.get(MACS)).includes(mac),
    id: await imds.get(`${MACS}${mac}/interface-id`),
    ips: (await imds.get(`${MACS}${mac}/local-ipv4s`)).split('\n').length,
  });
  assert.deepEqual(await shown(), { listed: false, id: '404', ips: 1 });
  pass(1000);
  assert.deepEqual(await shown(), { listed: true, id: '404', ips: 1 });
  pass(1000);
  assert.deepEqual(await shown(), { listed: true, id, ips: 1 });
  assert.equal(await imds.get(`${MACS}${mac}/local-ipv4s`), privateIps[0]);
  pass(2000);
  assert.deepEqual(await shown(), { listed: true, id, ips: 3 });
  await lab.vpc.act('UnassignPrivateIpAddresses', {
    NetworkInterfaceId: id,
    PrivateIpAddresses: privateIps.slice(1, 2),
  });
  assert.equal((await shown()).ips, 3);
  pass(3001);
  assert.equal((await shown()).ips, 2);
  await lab.vpc.act('DetachNetworkInterface', { AttachmentId: AttachmentId! });
  await lab.vpc.act('DeleteNetworkInterface', { NetworkInterfaceId: id });
  assert.deepEqual(await shown(), { listed: true, id, ips: 2 });
  pass(3001);
  assert.equal((await shown()).listed, false);
});

test('with realistic latency the seed decides how long an attach takes', async () => {
  const attachTime = async (seed: number) => {
    const { clock } = stillClock();
    const waiting = clock.sleep;
    await using lab = testVpc({ clock });
    const { instanceId, subnetId } = await smallShape(lab.vpc);
    const id = await newEni(lab.vpc, subnetId);
    Object.assign(lab.vpc.settings, { ec2Latency: 'realistic', ec2Seed: seed });
    clock.sleep = async () => {};
    await attachAs(lab.vpc, { kind: 'admin', arn: '', userId: '' }, id, instanceId);
    clock.sleep = waiting;
    const state = lab.vpc.state() as unknown as { transitions: Record<string, { due: number }> };
    return state.transitions[`attached:${id}`]!.due - clock.now();
  };
  const first = await attachTime(1);
  assert.ok(first > 200 && first <= 10_000, String(first));
  assert.notEqual(await attachTime(2), first);
});
const attachAs = (
  vpc: VpcService,
  caller: Parameters<VpcService['actByName']>[2],
  NetworkInterfaceId: string,
  InstanceId: string,
) => vpc.actByName('AttachNetworkInterface', { NetworkInterfaceId, InstanceId, DeviceIndex: 1 }, caller);

test('a role meets faults with its own keys', async () => {
  await using scene = await asked();
  const { lab, instanceId } = scene;
  lab.vpc.faults.add(fault('DescribeVpcs', error('UnauthorizedOperation'), { node: instanceId }));
  await using server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const sdk = new ec2.EC2Client({
    endpoint: server.url,
    region: REGION,
    maxAttempts: 1,
    credentials: await roleOf(lab.vpc, instanceId),
  });
  assert.equal(await code(sdk.send(new ec2.DescribeVpcsCommand({}))), 'UnauthorizedOperation');
  sdk.destroy();
});
