// Pods with branches under a storm on a lab: they come and go at random on two nodes while EC2 loses answers, throttles
// and fails, strangers take branches off their trunks, and controller and agents are killed. At no time have two pods
// of a node one VLAN id; in the end every pod that lives has its own branch with its address and answers, journal,
// kernel, EC2 and API agree, and no branch is left on a trunk. PODWAY_SOAK=1: 2,000 pods, and no interface is left at
// all; else 8.
// PODWAY_SEED=N: other random choices.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  DescribeNetworkInterfacesCommand,
  DescribeTrunkInterfaceAssociationsCommand,
  DisassociateTrunkInterfaceCommand,
  type EC2Client,
} from '@aws-sdk/client-ec2';
import { formatIp } from '../../src/base/ip.ts';
import {
  decodePodEnis,
  type KubeClient,
  nodes,
  POD_ENI,
  type Pod,
  pods,
  securityGroupPolicies,
} from '../../src/kube/index.ts';
import { controllerPaths } from '../../src/lab/cluster/controller.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { skip } from '../e2e/command.ts';
import { Lab, QUICK } from '../e2e/lab.ts';
import { full } from '../support/storm.ts';
import { eventually, seeded } from '../support/wait.ts';

const PODS = full ? 2_000 : 8;
/** A kill after about so many steps; the short storm has two, of a controller and of an agent, at its middle. */
const STEPS_PER_KILL = 40;
const NODES = ['node-1', 'node-2'];
/** An m5.xlarge takes 18. */
const LIVE = 30;
/** Pods at once that do not run yet. */
const COMING = 10;
const BOUND_MS = 180_000;
const SEED = Number(process.env['PODWAY_SEED'] ?? 1);
const random = seeded(SEED);
const chance = (share: number): boolean => random() < share;

const lab = new Lab('bstorm', [
  ...QUICK,
  ...['--nodes', '2', '--instance-type', 'm5.xlarge', '--set', 'controller=process'],
]);
let api: KubeClient;
let ec2: EC2Client;

before(async () => {
  if (skip) return;
  await lab.up();
  ({ api, ec2 } = await lab.clients());
});
after(async () => {
  if (!skip) await lab.down();
});

/** `which`: of controller and agents; absent: any. */
function kill(which?: number): void {
  const paths = labPaths(lab.name);
  const files = [controllerPaths(paths.controller).pid, ...NODES.map((node) => paths.node(node).agentPid)];
  const file = files[which ?? Math.floor(random() * files.length)]!;
  try {
    process.kill((JSON.parse(readFileSync(file, 'utf8')) as { pid: number }).pid, 'SIGKILL');
  } catch (error) {
    // It was killed a moment ago and is not started again yet.
    if (!['ESRCH', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
  }
}

const resources = { limits: { [POD_ENI]: '1' }, requests: { [POD_ENI]: '1' } };
/** With the resource, as the webhook is away with the controller. */
const podOf = (name: string): Pod => ({
  metadata: { name, namespace: 'default', labels: { app: 'storm' } },
  spec: { containers: [{ name: 'c', image: 'podway.lab/pod-server:1', resources }] },
});
const all = async (): Promise<Pod[]> => (await api.list(pods, { namespace: 'default' })).items;
const isRunning = ({ status }: Pod): boolean => status?.phase === 'Running';
const branchOf = ({ metadata }: Pod) => {
  const text = metadata.annotations?.[POD_ENI];
  return text === undefined ? undefined : decodePodEnis(text)[0]!;
};
const associations = async () =>
  (await ec2.send(new DescribeTrunkInterfaceAssociationsCommand({}))).InterfaceAssociations!;
const branches = async () =>
  (
    await ec2.send(
      new DescribeNetworkInterfacesCommand({ Filters: [{ Name: 'interface-type', Values: ['branch'] }] }),
    )
  ).NetworkInterfaces!;
const tagged = async () =>
  (
    await ec2.send(
      new DescribeNetworkInterfacesCommand({
        Filters: [{ Name: 'tag-key', Values: ['podway.io/pod-uid'] }],
      }),
    )
  ).NetworkInterfaces!;

/** Of all pods that the API has. */
function noVlanTwice(present: readonly Pod[]): void {
  const seen = new Map<string, string>();
  for (const pod of present) {
    const branch = branchOf(pod);
    if (!branch) continue;
    const key = `${pod.spec.nodeName} VLAN ${branch.vlanId}`;
    assert.equal(seen.get(key), undefined, `${key} is ${pod.metadata.name}'s and another's (seed ${SEED})`);
    seen.set(key, pod.metadata.name!);
  }
}

/** EC2 fails the stranger too. */
async function strangerTakesOne(): Promise<void> {
  try {
    const [first] = await associations();
    const AssociationId = first?.AssociationId;
    if (AssociationId) await ec2.send(new DisassociateTrunkInterfaceCommand({ AssociationId }));
  } catch {}
}

const faults = ['--drop-answer', '--error=RequestLimitExceeded', '--error=InternalError'];

test('pods with branches come and go in a storm: no VLAN id twice, nothing left, all agree', {
  skip,
  timeout: full ? 3_000_000 : 300_000,
}, async (t) => {
  const group = (await ec2.send(new DescribeNetworkInterfacesCommand({}))).NetworkInterfaces![0]!.Groups![0]!
    .GroupId!;
  await api.create(securityGroupPolicies, {
    metadata: { name: 'storm', namespace: 'default' },
    spec: { podSelector: { matchLabels: { app: 'storm' } }, securityGroups: { groupIds: [group] } },
  });
  await eventually(
    'the nodes take branches',
    async () => (await api.list(nodes)).items.every(({ status }) => status?.allocatable?.[POD_ENI] === '18'),
    BOUND_MS,
  );
  for (const [at, fault] of faults.entries())
    await lab.ok(
      ...['lab', 'fault', 'add', '--action', '*', ...fault.split('=')],
      ...['--rate', '0.05', '--seed', `${SEED + at}`],
    );
  const began = performance.now();
  const told = (what: string) =>
    t.diagnostic(`${((performance.now() - began) / 1000).toFixed(1)} s: ${what}`);
  const live = new Set<string>();
  let kills = 0;
  let made = 0;
  let coming = 0;
  for (let step = 0; made < PODS; step++) {
    if (step % 10 === 0 || coming >= COMING) {
      const present = await all();
      noVlanTwice(present);
      coming = present.filter((pod) => live.has(pod.metadata.name!) && !isRunning(pod)).length;
      if (coming >= COMING) await sleep(100);
    }
    if (live.size < LIVE && coming < COMING && chance(0.6)) {
      const name = `p-${made++}`;
      await api.create(pods, podOf(name));
      live.add(name);
      coming += 1;
    } else if (live.size > 0 && chance(0.6)) {
      const name = [...live][Math.floor(random() * live.size)]!;
      live.delete(name);
      await api.delete(pods, name, 'default', chance(0.2) ? { gracePeriodSeconds: 0 } : {});
    }
    if (full && chance(1 / STEPS_PER_KILL)) {
      kill();
      kills += 1;
    }
    for (; !full && made >= PODS / 2 && kills < 2; kills++) kill(kills);
    if (chance(0.01)) await strangerTakesOne();
    await sleep(random() * 50);
  }
  await lab.ok('lab', 'fault', 'clear');
  told(`${made} pods, ${kills} kills, ${live.size} pods live`);

  const settled = await eventually(
    'every pod that lives runs',
    async () => {
      const present = await all();
      noVlanTwice(present);
      return present.length === live.size && present.every(isRunning) && present;
    },
    BOUND_MS,
  );
  told('every pod that lives runs');
  await eventually(
    'each is on its trunk as its pod was told, and nothing else is',
    async () => {
      const on = new Map((await associations()).map((one) => [one.BranchInterfaceId!, one.VlanId]));
      const told = settled.map((pod) => branchOf(pod)!);
      return on.size === told.length && told.every(({ eniId, vlanId }) => on.get(eniId) === vlanId);
    },
    BOUND_MS,
  );
  told('each is on its trunk');
  const views = await lab.pods();
  for (const pod of settled) {
    const [ip] = views.find(({ name }) => name === pod.metadata.name)!.ips;
    // Not one of the node's, whose security groups would count.
    assert.equal(
      ip,
      formatIp(branchOf(pod)!.ip!),
      `${pod.metadata.name} has its branch's address (seed ${SEED})`,
    );
    const { answer } = await lab.ask(pod.spec.nodeName!, 'tcp', ip!, '8080');
    assert.match(answer ?? '', new RegExp(`^${pod.metadata.name} `));
  }
  told('each answers');
  await lab.agreed(BOUND_MS);
  told('journal, kernel, EC2 and API agree');
  for (const name of live) await api.delete(pods, name, 'default', { gracePeriodSeconds: 0 });
  await eventually(
    'no branch is on a trunk',
    async () => (await associations()).length === 0 && (await all()).length === 0,
    BOUND_MS,
  );
  told('no branch is on a trunk');
  await lab.agreed(BOUND_MS);
  told('all agree again');
  if (full)
    await eventually(
      'no interface is left',
      async () => (await branches()).length === 0 && (await tagged()).length === 0,
      BOUND_MS,
    );
});
