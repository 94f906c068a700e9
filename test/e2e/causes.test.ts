// Causes that only EC2 or others bring about, as a pod's Event and as the CNI error tell them: the same name, numbers, next
// try and page in both. The limits of a type and of a subnet have tests of their own (limits, addressing).
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  AttachNetworkInterfaceCommand,
  CreateNetworkInterfaceCommand,
  DescribeNetworkInterfacesCommand,
  type EC2Client,
} from '@aws-sdk/client-ec2';
import { CoreV1Api, type CoreV1Event } from '@kubernetes/client-node';
import { type Cause, causes, docOf, eventReason } from '../../src/base/causes.ts';
import type { ExplainedCause } from '../../src/base/errors.ts';
import type { Explanation } from '../../src/ipam/views/explain.ts';
import { eventually } from '../support/wait.ts';
import { execute, podway, skip } from './command.ts';
import { downAll, Lab } from './lab.ts';

/** EC2's pauses and the runtime's own waits between two tries add up. */
const BACK_MS = 120_000;

// t3.nano: two ENIs of one pod address each, so that one pod fills an ENI.
const lab = new Lab('why', [
  '--nodes',
  '1',
  '--instance-type',
  't3.nano',
  '--set',
  'warm=0',
  '--set',
  'cooldown=0s',
  '--set',
  'idleRelease=1s',
]);
let ec2: EC2Client;

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
});
after(async () => {
  ec2?.destroy();
  if (!skip) await downAll([lab]);
});

/** Without a free address, and with the primary ENI alone; it stays so while EC2 gives none. */
const isEmpty = () =>
  eventually(
    'the node has no address left',
    async () => {
      const { enis, totals } = await lab.ipam('node-1');
      return enis.length === 1 && totals.free === 0 && totals.held === 0;
    },
    BACK_MS,
  );

async function eventOf(pod: string, cause: Cause): Promise<CoreV1Event> {
  const api = (await lab.kube()).makeApiClient(CoreV1Api);
  return eventually(
    `an Event of ${pod} says ${cause}`,
    async () => {
      const { items } = await api.listNamespacedEvent({
        namespace: 'default',
        fieldSelector: `involvedObject.name=${pod}`,
      });
      return items.find((event) => event.reason === eventReason(cause));
    },
    BACK_MS,
  );
}

function assertTold(event: CoreV1Event, cause: Cause, ...parts: string[]): void {
  assert.equal(event.type, 'Warning');
  const { does, next } = causes[cause];
  for (const part of [`${cause}: `, ` Podway: ${does}`, ` You: ${next}`, docOf(cause), ...parts])
    assert.ok(event.message!.includes(part), `${part} is not in: ${event.message}`);
}

const refused = [
  ['CLOUD_DENIED', 'UnauthorizedOperation'],
  ['CLOUD_THROTTLED', 'RequestLimitExceeded'],
] as const;
for (const [cause, code] of refused)
  test(`${cause}: the Event names the action and the next try; later the pod runs`, { skip }, async () => {
    const pod = code.toLowerCase();
    // One that is refused an address for an ENI gets one with a new ENI.
    for (const action of ['AssignPrivateIpAddresses', 'CreateNetworkInterface'])
      await lab.ok('lab', 'fault', 'add', '--action', action, '--error', code);
    try {
      await isEmpty();
      await lab.ok('pod', 'run', pod, '--no-wait');
      assertTold(await eventOf(pod, cause), cause, code, ' Next at 2');
      assert.equal((await lab.json<Explanation>('ipam', 'explain', pod)).cause?.code, cause);
    } finally {
      await lab.ok('lab', 'fault', 'clear');
    }
    await eventually(
      'it runs',
      async () => (await lab.pods()).some((one) => one.phase === 'Running'),
      BACK_MS,
    );
    await lab.delete(pod);
  });

test('ENI_LIMIT: the Event names the ENI that holds the slot, and the CNI error says the same', {
  skip,
}, async () => {
  const { instanceId, cniConfDir } = (await lab.status()).nodes[0]!;
  const Filters = [{ Name: 'attachment.instance-id', Values: [instanceId] }];
  const { NetworkInterfaces } = await ec2.send(new DescribeNetworkInterfacesCommand({ Filters }));
  const SubnetId = NetworkInterfaces![0]!.SubnetId!;
  const { NetworkInterface } = await ec2.send(
    new CreateNetworkInterfaceCommand({ SubnetId, Description: 'somebody else' }),
  );
  const { NetworkInterfaceId } = NetworkInterface!;
  await lab.ok(
    'lab',
    'fault',
    'add',
    '--action',
    'CreateNetworkInterface',
    '--error',
    'RequestLimitExceeded',
  );
  await isEmpty();
  await ec2.send(
    new AttachNetworkInterfaceCommand({ NetworkInterfaceId, InstanceId: instanceId, DeviceIndex: 1 }),
  );
  await lab.ok('lab', 'fault', 'clear');
  await lab.run('first');
  await lab.ok('pod', 'run', 'second', '--no-wait');
  assertTold(await eventOf('second', 'ENI_LIMIT'), 'ENI_LIMIT', NetworkInterfaceId!, 't3.nano', '2 ENIs');

  const sandbox = `${lab.name}-by-hand`;
  await execute(['ip', 'netns', 'add', sandbox]);
  const ran = await podway(
    ...['cni', 'add', '--conf', cniConfDir, '--netns', `/run/netns/${sandbox}`, '--container-id', 'by-hand'],
  );
  await execute(['ip', 'netns', 'del', sandbox]);
  assert.equal(ran.code, 1);
  const error = JSON.parse(ran.stdout) as { code: number; msg: string; details: string };
  assert.equal(error.code, causes.ENI_LIMIT.cni);
  assert.match(error.msg, /^ENI_LIMIT: /);
  const { does, next } = causes.ENI_LIMIT;
  const details = JSON.parse(error.details) as ExplainedCause;
  const { since, ...rest } = details;
  assert.deepEqual(rest, {
    ...{ cause: 'ENI_LIMIT', object: NetworkInterfaceId, has: 2, limit: 2, does, next },
    doc: 'docs/causes.md#eni_limit',
  });
  assert.ok(since! > 0 && since! <= Date.now());
});
