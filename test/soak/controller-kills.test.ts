// The sweep under kills: nodes end and come back under their names while the controller is killed at random times and EC2
// fails, throttles and loses answers of what it calls. In the end every ENI that a gone node left is deleted, every node
// that lives has all of its ENIs, and no deletion ever named one of a node that lived.
// PODWAY_SOAK=1: 50 kills; else three. PODWAY_SEED=N: other random times.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  DescribeNetworkInterfacesCommand,
  type EC2Client,
  ModifyNetworkInterfaceAttributeCommand,
  type NetworkInterface,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { CustomObjectsApi } from '@kubernetes/client-node';
import { controllerPaths } from '../../src/lab/cluster/controller.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { skip } from '../e2e/command.ts';
import { Lab } from '../e2e/lab.ts';
import { full } from '../support/storm.ts';
import { eventually, seeded } from '../support/wait.ts';

const KILLS = full ? 50 : 3;
/** A node ends after so many kills. */
const KILLS_PER_END = full ? 8 : 3;
const random = seeded(Number(process.env['PODWAY_SEED'] ?? 1));
const lab = new Lab('kills', [
  ...['--nodes', '3', '--instance-type', 't3.micro'],
  ...['--set', 'cooldown=0s', '--set', 'idleRelease=1h', '--set', 'warm=2'],
  ...['--set', 'controller=process', '--set', 'env=PODWAY_SWEEP_GAP=500ms'],
]);
let ec2: EC2Client;
let custom: CustomObjectsApi;

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
  custom = (await lab.kube()).makeApiClient(CustomObjectsApi);
});
after(async () => {
  if (skip) return;
  ec2?.destroy();
  await lab.down();
});

type Own = {
  metadata: { name: string };
  spec: { instanceId: string; enis?: { id: string; type: string }[] };
};
const owns = async (): Promise<Own[]> => {
  const of = { group: 'podway.dev', version: 'v1alpha1', plural: 'podwaynodes' };
  return ((await custom.listClusterCustomObject(of)) as { items: Own[] }).items;
};
const enis = async (): Promise<NetworkInterface[]> =>
  (await ec2.send(new DescribeNetworkInterfacesCommand({}))).NetworkInterfaces ?? [];
const idsOf = ({ spec }: Own): string[] => (spec.enis ?? []).map(({ id }) => id);

async function kill(): Promise<void> {
  const file = controllerPaths(labPaths(lab.name).controller).pid;
  const { pid } = JSON.parse(readFileSync(file, 'utf8')) as { pid: number };
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It was killed a moment ago and is not started again yet.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Ends a node whose second ENI stays behind. Answers that ENI. */
async function end(name: string): Promise<string> {
  const own = await eventually(`${name} has two ENIs`, async () => {
    const found = (await owns()).find(({ metadata }) => metadata.name === name);
    return found?.spec.enis?.length === 2 && found;
  });
  const { id } = own.spec.enis!.find(({ type }) => type === 'secondary')!;
  const { NetworkInterfaces = [] } = await ec2.send(
    new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] }),
  );
  const AttachmentId = NetworkInterfaces[0]!.Attachment!.AttachmentId;
  const Attachment = { AttachmentId, DeleteOnTermination: false };
  await ec2.send(new ModifyNetworkInterfaceAttributeCommand({ NetworkInterfaceId: id, Attachment }));
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [own.spec.instanceId] }));
  return id;
}

const FAULTS = [
  ['DescribeInstances', '--error', 'RequestLimitExceeded'],
  ['DescribeInstances', '--drop-answer'],
  ['DescribeNetworkInterfaces', '--stale', '10s'],
  ['DeleteNetworkInterface', '--error', 'InternalError'],
  ['DeleteNetworkInterface', '--drop-answer'],
] as const;

test(`${KILLS} kills of the controller while nodes end: what they left goes, nothing of a living node does`, {
  skip,
  timeout: full ? 900_000 : 120_000,
}, async () => {
  for (const [action, ...effect] of FAULTS)
    await lab.ok('lab', 'fault', 'add', '--action', action, ...effect, '--rate', '0.3', '--seed', '7');
  const left: string[] = [];
  for (let round = 0; round < KILLS; round++) {
    if (round % KILLS_PER_END === 0) {
      left.push(await end(`node-${2 + (Math.floor(round / KILLS_PER_END) % 2)}`));
      await sleep(random() * 1_000);
      // The same name, another instance.
      await lab.up();
    }
    await sleep(random() * 2_500);
    await kill();
  }
  await lab.ok('lab', 'fault', 'clear');
  await eventually(
    'all that was left is swept',
    async () => {
      const there = new Set((await enis()).map(({ NetworkInterfaceId }) => NetworkInterfaceId));
      return left.every((id) => !there.has(id));
    },
    60_000,
  );
  const living = await eventually('each node has said what it has', async () => {
    const all = await owns();
    return all.length === 3 && all.every((own) => idsOf(own).length === 2) && all;
  });
  const there = await enis();
  for (const own of living)
    for (const id of idsOf(own)) {
      const found = there.find(({ NetworkInterfaceId }) => NetworkInterfaceId === id);
      assert.equal(found?.Attachment?.InstanceId, own.spec.instanceId, `${id} of ${own.metadata.name}`);
    }
  await eventually('no PodwayNode waits for a gone instance', async () =>
    (await owns()).every(({ spec }) => ((spec as { former?: unknown[] }).former ?? []).length === 0),
  );
  await lab.agreed();
});
