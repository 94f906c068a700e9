// The lab's EC2 endpoint by the stock AWS SDK: an interface's whole life, EC2's own errors at the limits, and nothing for
// whoever has not the secret. The same once more by examples/ec2.py where boto3 is installed.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  AssignPrivateIpAddressesCommand,
  AttachNetworkInterfaceCommand,
  CreateNetworkInterfaceCommand,
  DeleteNetworkInterfaceCommand,
  DescribeInstancesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeSubnetsCommand,
  DetachNetworkInterfaceCommand,
  type EC2Client,
  EC2ServiceException,
  type NetworkInterface,
  paginateDescribeNetworkInterfaces,
  UnassignPrivateIpAddressesCommand,
} from '@aws-sdk/client-ec2';
import { eventually } from '../support/wait.ts';
import { execute, ROOT, skip, told } from './command.ts';
import { Lab, QUICK } from './lab.ts';

/** The plain instance is a t3.small: 3 interfaces of 4 addresses each. */
const DB_ENIS = 3;
const DB_ADDRESSES = 4;

const lab = new Lab('ec2', [...QUICK, '--set', 'warm=2']);
let ec2: EC2Client;
let db: string;
let subnetId: string;

before(async () => {
  if (skip) return;
  await lab.up('--demo', '--nodes', '1');
  // The node is in the subnet that is counted.
  await lab.rested();
  ec2 = await lab.ec2();
  const status = await lab.status();
  db = status.instances.find((each) => each.name === 'db')!.instanceId;
  subnetId = status.vpcs[0]!.subnets[0]!.id;
});
after(async () => {
  ec2?.destroy();
  if (!skip) await lab.down();
});

async function describe(eniId: string): Promise<NetworkInterface> {
  const answer = await ec2.send(new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [eniId] }));
  assert.equal(answer.NetworkInterfaces?.length, 1);
  return answer.NetworkInterfaces[0]!;
}

const addresses = (eni: NetworkInterface): string[] =>
  (eni.PrivateIpAddresses ?? []).map((each) => each.PrivateIpAddress!);

async function create(count?: number): Promise<NetworkInterface> {
  const answer = await ec2.send(
    new CreateNetworkInterfaceCommand({
      SubnetId: subnetId,
      ...(count === undefined ? {} : { SecondaryPrivateIpAddressCount: count }),
    }),
  );
  return answer.NetworkInterface!;
}

async function refused(call: Promise<unknown>): Promise<EC2ServiceException> {
  const error = await call.then(
    () => assert.fail('the call was not refused'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof EC2ServiceException, String(error));
  assert.ok(error.$metadata.requestId ?? error.$metadata.httpStatusCode, 'no request id');
  return error;
}

/** Name and MAC of each link in the instance's namespace, as `ip` lists them. */
async function links(): Promise<Record<string, string>> {
  const text = await lab.ok('lab', 'exec', 'db', '--', 'ip', '-j', 'link');
  const all = JSON.parse(text) as { ifname: string; address: string }[];
  return Object.fromEntries(all.map((link) => [link.ifname, link.address]));
}

test('an interface from its creation to its deletion', { skip }, async (t) => {
  const made = await create(1);
  const eniId = made.NetworkInterfaceId!;
  assert.match(eniId, /^eni-[0-9a-f]{17}$/);
  assert.equal((await describe(eniId)).Status, 'available');
  assert.equal((await links())['eth1'], undefined);

  await t.test('attached, it is a link in the instance with its MAC', async () => {
    const { AttachmentId } = await ec2.send(
      new AttachNetworkInterfaceCommand({ NetworkInterfaceId: eniId, InstanceId: db, DeviceIndex: 1 }),
    );
    assert.match(AttachmentId!, /^eni-attach-/);
    const eni = await eventually('the interface is attached', async () => {
      const seen = await describe(eniId);
      return seen.Attachment?.Status === 'attached' && seen;
    });
    assert.deepEqual(
      [eni.Status, eni.Attachment!.InstanceId, eni.Attachment!.DeviceIndex],
      ['in-use', db, 1],
    );
    assert.equal((await links())['eth1'], eni.MacAddress);
  });

  await t.test('addresses are assigned and unassigned', async () => {
    const before = addresses(await describe(eniId));
    const answer = await ec2.send(
      new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: eniId, SecondaryPrivateIpAddressCount: 2 }),
    );
    const given = answer.AssignedPrivateIpAddresses!.map((each) => each.PrivateIpAddress!);
    assert.equal(given.length, 2);
    assert.deepEqual(addresses(await describe(eniId)).sort(), [...before, ...given].sort());
    await ec2.send(
      new UnassignPrivateIpAddressesCommand({ NetworkInterfaceId: eniId, PrivateIpAddresses: given }),
    );
    assert.deepEqual(addresses(await describe(eniId)).sort(), before.sort());
  });

  await t.test('attached, it cannot be deleted; detached, its link is gone and it can', async () => {
    const del = new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: eniId });
    const { Attachment } = await describe(eniId);
    assert.equal((await refused(ec2.send(del))).name, 'InvalidParameterValue');
    await ec2.send(new DetachNetworkInterfaceCommand({ AttachmentId: Attachment!.AttachmentId! }));
    await eventually(
      'the interface is available',
      async () => (await describe(eniId)).Status === 'available',
    );
    assert.equal((await links())['eth1'], undefined);
    await ec2.send(del);
    const error = await refused(describe(eniId));
    assert.equal(error.name, 'InvalidNetworkInterfaceID.NotFound');
    assert.equal((await refused(ec2.send(del))).name, 'InvalidNetworkInterfaceID.NotFound');
  });
});

test("the limits of the instance's type, in EC2's words", { skip }, async () => {
  const made: string[] = [];
  try {
    for (let index = 1; index <= DB_ENIS; index += 1) {
      const eniId = (await create()).NetworkInterfaceId!;
      made.push(eniId);
      const attach = ec2.send(
        new AttachNetworkInterfaceCommand({ NetworkInterfaceId: eniId, InstanceId: db, DeviceIndex: index }),
      );
      if (index < DB_ENIS) await attach;
      else assert.equal((await refused(attach)).name, 'AttachmentLimitExceeded');
    }
    const assign = (count: number) =>
      ec2.send(
        new AssignPrivateIpAddressesCommand({
          NetworkInterfaceId: made[0]!,
          SecondaryPrivateIpAddressCount: count,
        }),
      );
    assert.equal((await refused(assign(DB_ADDRESSES))).name, 'PrivateIpAddressLimitExceeded');
    await assign(DB_ADDRESSES - 1);
    const error = await refused(assign(1));
    assert.equal(error.name, 'PrivateIpAddressLimitExceeded');
    assert.equal(error.$metadata.httpStatusCode, 400);
  } finally {
    for (const eniId of made) {
      const { Attachment } = await describe(eniId);
      if (Attachment?.AttachmentId)
        await ec2.send(new DetachNetworkInterfaceCommand({ AttachmentId: Attachment.AttachmentId }));
      await eventually('it can be deleted', async () => (await describe(eniId)).Status === 'available');
      await ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: eniId }));
    }
  }
});

test('addresses of the subnet: counted, reserved ones and foreign ones refused', { skip }, async () => {
  const free = async () => {
    const { Subnets } = await ec2.send(new DescribeSubnetsCommand({ SubnetIds: [subnetId] }));
    return Subnets![0]!.AvailableIpAddressCount!;
  };
  const before = await free();
  const eni = await create(2);
  const eniId = eni.NetworkInterfaceId!;
  try {
    assert.equal(await free(), before - 3);
    const assign = (ip: string) =>
      refused(
        ec2.send(
          new AssignPrivateIpAddressesCommand({ NetworkInterfaceId: eniId, PrivateIpAddresses: [ip] }),
        ),
      );
    assert.match((await assign('10.0.0.1')).name, /^InvalidParameterValue$|^InvalidAddress/);
    assert.match((await assign('192.168.7.7')).name, /^InvalidParameterValue$/);
    const primary = new UnassignPrivateIpAddressesCommand({
      NetworkInterfaceId: eniId,
      PrivateIpAddresses: [eni.PrivateIpAddress!],
    });
    assert.equal((await refused(ec2.send(primary))).name, 'InvalidParameterValue');
  } finally {
    await ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: eniId }));
  }
  assert.equal(await free(), before);
});

test('pages, filters and a dry run', { skip }, async () => {
  const filter = [{ Name: 'vpc-id', Values: [(await lab.status()).vpcs[0]!.id] }];
  const whole = await ec2.send(new DescribeNetworkInterfacesCommand({ Filters: filter }));
  const made = await Promise.all([1, 2, 3, 4, 5].map(() => create()));
  try {
    const paged: string[] = [];
    let pages = 0;
    for await (const page of paginateDescribeNetworkInterfaces(
      { client: ec2, pageSize: 5 },
      { Filters: filter },
    )) {
      pages += 1;
      paged.push(...page.NetworkInterfaces!.map((each) => each.NetworkInterfaceId!));
    }
    assert.equal(pages > 1, true);
    assert.equal(new Set(paged).size, whole.NetworkInterfaces!.length + made.length);
    const dry = new DeleteNetworkInterfaceCommand({
      NetworkInterfaceId: made[0]!.NetworkInterfaceId!,
      DryRun: true,
    });
    assert.equal((await refused(ec2.send(dry))).name, 'DryRunOperation');
    assert.equal((await describe(made[0]!.NetworkInterfaceId!)).Status, 'available');
  } finally {
    for (const eni of made)
      await ec2.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: eni.NetworkInterfaceId! }));
  }
});

test('without the right secret there is nothing', { skip }, async () => {
  const stranger = await lab.ec2('wrong');
  try {
    const error = await refused(stranger.send(new DescribeInstancesCommand({})));
    assert.deepEqual([error.name, error.$metadata.httpStatusCode], ['AuthFailure', 401]);
    const create = new CreateNetworkInterfaceCommand({ SubnetId: subnetId });
    assert.equal((await refused(stranger.send(create))).name, 'AuthFailure');
  } finally {
    stranger.destroy();
  }
  const endpoint = (await lab.env())['AWS_ENDPOINT_URL_EC2']!;
  const unsigned = await fetch(endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: 'Action=DescribeInstances&Version=2016-11-15',
  });
  const text = await unsigned.text();
  assert.equal(unsigned.status >= 400 && unsigned.status < 500, true, text);
  assert.doesNotMatch(text, /i-[0-9a-f]{17}/);
});

test('examples/ec2.py: the same by boto3', { skip }, async (t) => {
  const python = await execute(['python3', '-c', 'import boto3']).catch(() => undefined);
  if (python?.code !== 0) return t.skip('boto3 is not installed');
  const command = ['python3', `${ROOT}/examples/ec2.py`];
  const env = { ...(await lab.env()), AWS_SESSION_TOKEN: undefined, AWS_PROFILE: undefined };
  const ran = await execute(command, env);
  assert.equal(ran.code, 0, told(command, ran));
  assert.match(ran.stdout, /^AttachmentLimitExceeded/m);
  assert.match(ran.stdout, /^PrivateIpAddressLimitExceeded/m);
  const wrong = await execute(command, { ...env, AWS_SECRET_ACCESS_KEY: 'wrong' });
  assert.equal(wrong.code, 1, told(command, wrong));
  assert.match(wrong.stderr, /AuthFailure/);
});
