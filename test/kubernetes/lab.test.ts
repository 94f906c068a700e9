// The life of a lab with a real Kubernetes on a machine of its own: up, the lab's process killed, up again with every pod as
// it was, killed again in the middle of its work, down, and nothing left: no process, mount, cgroup, namespace, link, nft
// table, file or changed sysctl. Then the same with agents from the chart. Builds nothing: skipped, with the reason, where the programs are not in the cache.
import assert from 'node:assert/strict';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { LabStatus } from '../../src/lab/daemon/protocol.ts';
import { labImage } from '../../src/lab/kubernetes/images.ts';
import { skip as notRoot, PODWAY, type Ran } from '../e2e/command.ts';
import { type Census, Machine } from '../e2e/machine.ts';
import { missingKubernetes } from '../support/kubernetes.ts';
import { eventually } from '../support/wait.ts';
import { ChartLab, missing as noChart, STEP_MS } from './chart-lab.ts';

const UP_BOUND_MS = 150_000;
const LAB = 'real';
const FOLDER = `/run/podway/labs/${LAB}`;
const cache = { XDG_CACHE_HOME: process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache') };

/** `npm test` gives a real Kubernetes three minutes, which smoke.test.ts takes. */
const unasked = process.env['PODWAY_KUBERNETES']
  ? false
  : 'takes two minutes more (npm run test:kubernetes-lab)';
const skip = notRoot || unasked || missingKubernetes();

let machine: Machine;
let clean: Census;

before(async () => {
  if (skip) return;
  machine = await Machine.start();
  // A folder that something was ever made in has a copy in the layer over /var.
  await machine.shell('mkdir /var/lib/seen && rmdir /var/lib/seen');
  clean = await machine.census();
});
after(async () => {
  if (skip) return;
  // What a failed test leaves is in the real machine's cgroups too.
  await machine.run([PODWAY, 'lab', 'down', '--lab', LAB], cache);
  await machine.stop();
});

async function podway(...args: string[]): Promise<string> {
  const ran: Ran = await machine.run([PODWAY, ...args], cache, UP_BOUND_MS);
  assert.equal(ran.code, 0, `${args.join(' ')}: ${ran.stdout}${ran.stderr}`);
  return ran.stdout;
}

const up = (): Promise<string> => podway('lab', 'up', '--lab', LAB, '--kubernetes', '--quiet');
const status = async (): Promise<LabStatus> =>
  JSON.parse(await podway('lab', 'status', '--lab', LAB, '-o', 'json')) as LabStatus;
const killed = (file: string): Promise<string> =>
  machine.shell(`kill -9 $(grep -o '"pid": *[0-9]*' ${FOLDER}/${file} | grep -o '[0-9]*$')`);
const containers = async (): Promise<string[]> =>
  (await machine.shell(`ls ${FOLDER}/nodes/*/containerd-run/io.containerd.runtime.v2.task/k8s.io`))
    .split('\n')
    .filter((line) => /^[0-9a-f]{64}$/.test(line));

test('two nodes are Ready, and a pod on each has an address that its node says it holds', {
  skip,
  timeout: UP_BOUND_MS,
}, async () => {
  await up();
  for (const node of ['node-1', 'node-2'])
    await podway('pod', 'run', `on-${node}`, '--node', node, '--lab', LAB, '--quiet');
  const { nodes, pods } = await status();
  assert.deepEqual(
    nodes.map(({ name, ready }) => [name, ready]),
    [
      ['node-1', true],
      ['node-2', true],
    ],
  );
  const own = pods.filter(({ name }) => name.startsWith('on-'));
  assert.ok(
    own.every(({ phase, ips, netnsPath }) => phase === 'Running' && ips.length === 1 && netnsPath !== ''),
    JSON.stringify(own),
  );
  await podway('ipam', 'check', '--lab', LAB);
});

test("a kill -9 of the lab's process leaves the pods as they are, and the next lab up goes on with them", {
  skip,
  timeout: UP_BOUND_MS,
}, async () => {
  const [before, ids] = [await status(), await containers()];
  await killed('lab.pid');
  await up();
  const own = ({ pods }: LabStatus) =>
    pods.filter(({ namespace }) => namespace === 'default').map(({ name, ips, netns }) => [name, ips, netns]);
  await eventually('the lab sees its pods again', async () => own(await status()).length === 2);
  assert.deepEqual(own(await status()), own(before));
  const now = new Set(await containers());
  assert.deepEqual(
    ids.filter((id) => !now.has(id)),
    [],
  );
});

test('lab down leaves nothing, although the lab and a containerd were killed before', {
  skip,
  timeout: UP_BOUND_MS,
}, async () => {
  const ids = await containers();
  await killed('lab.pid');
  await killed('nodes/node-1/containerd.pid');
  await podway('lab', 'down', '--lab', LAB, '--quiet');
  await nothingLeft(ids);
});

async function nothingLeft(ids: string[]): Promise<void> {
  await machine.isAgain(clean);
  const groups = await machine.shell("find /sys/fs/cgroup -path '*/k8s.io/*' -type d");
  assert.deepEqual(
    ids.filter((id) => groups.includes(id)),
    [],
  );
}

test('lab down leaves nothing of a lab whose agents came from the chart, with pods', {
  skip: skip || noChart(),
  timeout: 3 * STEP_MS,
}, async () => {
  // What kubectl and Helm keep is theirs: it goes where no census looks.
  const own = { ...cache, HOME: '/tmp/layers/home' };
  const lab = new ChartLab(LAB, 2, {
    runner: (command, env, boundMs) => machine.run(command, { ...own, ...env }, boundMs),
  });
  let ids: string[];
  try {
    await lab.up();
    await lab.install();
    await lab.nodesReady();
    const image = labImage('agnhost');
    await lab.kubectl(
      'create',
      'deployment',
      'web',
      `--image=${image}`,
      '--replicas=6',
      '--',
      '/agnhost',
      'netexec',
    );
    await lab.kubectl('rollout', 'status', 'deployment/web', '--timeout=180s');
    await lab.podway('ipam', 'check');
    ids = await containers();
    // The agents and CoreDNS too.
    assert.ok(ids.length > 6, ids.join());
  } finally {
    await lab.down();
  }
  await nothingLeft(ids);
});
