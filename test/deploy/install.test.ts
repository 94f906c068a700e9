// The chart in a lab with real kubelets whose nodes wait for somebody to install it: install, upgrade and rollback under
// traffic, then off the drained nodes, which are as they were before. With each Helm. `npm run test:chart`, some minutes.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { DescribeNetworkInterfacesCommand } from '@aws-sdk/client-ec2';
import type { V1Node } from '@kubernetes/client-node';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { IpamNode } from '../../src/lab/daemon/protocol.ts';
import { labImage } from '../../src/lab/kubernetes/images.ts';
import { controlPlanePaths } from '../../src/lab/kubernetes/layout.ts';
import { helms } from '../../tools/chart.ts';
import { told } from '../e2e/command.ts';
import { ChartLab, missing, OWN_IMAGE, RELEASE_NAMESPACE, STEP_MS } from '../kubernetes/chart-lab.ts';
import { ec2ClientOf } from '../support/ec2.ts';
import { difference, timeless } from '../support/timeless.ts';
import { eventually } from '../support/wait.ts';
import { manifests, right, rights } from './manifest.ts';

const skip = process.env['PODWAY_CHART'] ? missing() : 'takes minutes (npm run test:chart)';
/** Of the cluster and of the release's namespace. */
const granted = (account: string): string[] =>
  manifests()
    .filter(({ kind, metadata }) => /^(Cluster)?Role$/.test(kind) && metadata.name.startsWith(account))
    .flatMap(({ rules }) => rights(rules!));
const lab = new ChartLab(`e2e-chart-${process.pid}`);
const { nodes, run, kubectl, on } = lab;

/** What an agent leaves on a node: nothing, apart from ENIs. `view` is the lab's own file. */
const traces = (node: string): Promise<string> =>
  on(
    node,
    'ip rule; ip -o link | grep -o " pw[0-9a-f]*" || true; ip route show table all proto 80; nft list tables | grep podway || true; ' +
      "ls -A /run/podway/ /opt/cni/bin/ /etc/cni/net.d/ | grep -v '^view$'; sysctl net.ipv4.ip_forward net.ipv4.conf.eth0.rp_filter",
  );

before(() => (skip ? undefined : lab.up()), { timeout: 2 * STEP_MS });
after(() => (skip ? undefined : lab.down()));

/** One request after another by a connection that is kept, and by new ones: good, lost, kept connections used. */
const ASK = `
const { Agent, get } = require('node:http');
const { existsSync } = require('node:fs');
let good = 0, lost = 0;
const kept = new Agent({ keepAlive: true, maxSockets: 1 });
const used = new Set();
const ask = (agent) => new Promise((done) => {
  const fail = () => { lost++; done(); };
  const request = get({ host: process.argv[1], port: 8080, path: '/hostname', agent, timeout: 20000 }, (answer) => {
    answer.resume().on('end', () => { good++; done(); });
  });
  request.on('socket', (socket) => agent === kept && used.add(socket)).on('error', fail);
  request.on('timeout', () => request.destroy(new Error('late')));
});
(async () => {
  while (!existsSync('/tmp/stop')) { await ask(kept); await ask(new Agent()); }
  console.log(good, lost, used.size);
  process.exit();
})();
`;

async function pod(name: string, node: string, image: string, command: string[]): Promise<string> {
  const spec = {
    nodeName: node,
    terminationGracePeriodSeconds: 0,
    containers: [{ name, image, imagePullPolicy: 'Never', command }],
  };
  await kubectl('run', name, `--image=${image}`, `--overrides=${JSON.stringify({ spec })}`);
  await kubectl('wait', '--for=condition=Ready', `pod/${name}`, '--timeout=120s');
  return kubectl('get', 'pod', name, '-o', 'jsonpath={.status.podIP}');
}

const agents = async () =>
  (
    await kubectl(
      ...RELEASE_NAMESPACE,
      'get',
      'pods',
      '-l',
      'app.kubernetes.io/component=agent',
      '-o',
      'name',
    )
  )
    .trim()
    .split('\n')
    .sort();

for (const helm of skip ? [''] : helms()) {
  const what = /helm-[^/]+/.exec(helm)?.[0] ?? 'helm';
  test(`${what}: install, upgrade, rollback, uninstall`, { skip, timeout: 4 * STEP_MS }, async () => {
    const before = await Promise.all(nodes.map(traces));
    // The lab asks only nodes that somebody has given an agent.
    const withAgent = async () =>
      (JSON.parse(await lab.podway('ipam', 'show', '-o', 'json')) as IpamNode[]).length;
    assert.equal(await withAgent(), 0);
    await lab.install([], helm);
    await lab.nodesReady();
    assert.equal(await withAgent(), nodes.length);
    const server = await pod('server', nodes[1]!, labImage('agnhost'), [
      '/agnhost',
      'netexec',
      '--http-port=8080',
    ]);
    await pod('asker', nodes[0]!, OWN_IMAGE, ['node', '-e', 'setInterval(() => {}, 60_000)']);

    const asked = kubectl('exec', 'asker', '--', 'node', '-e', ASK, server);
    const first = await agents();
    await lab.upgrade(['logLevel=debug'], helm);
    const second = await agents();
    await run([helm, 'rollback', 'podway', '1', ...RELEASE_NAMESPACE, '--wait', '--timeout', '3m']);
    const third = await agents();
    await kubectl('exec', 'asker', '--', 'sh', '-c', ': > /tmp/stop');
    const [good, lost, connections] = (await asked).trim().split(' ').map(Number);
    assert.equal(new Set([...first, ...second, ...third]).size, 3 * nodes.length);
    assert.ok(good! > 0);
    assert.deepEqual([lost, connections], [0, 1], `${lost} of ${good! + lost!} requests were lost`);
    await asPlugin();
    await asDump();
    await asJob();
    for (const account of ['podway-agent', 'podway-controller'])
      assert.deepEqual(
        [...auditedCalls(account)].filter((call) => !granted(account).includes(call)),
        [],
        `${account} called what its roles do not grant`,
      );
    // What every agent does; the rest of its rights is for pods without a network and for configuration that is there.
    const calls = auditedCalls('podway-agent');
    for (const call of ['list nodes', 'watch nodes', 'list pods', 'watch pods', 'patch nodes/status'])
      assert.ok(calls.has(call), `no agent was seen to ${call}: ${[...calls].join(', ')}`);

    for (const node of nodes)
      await kubectl(
        ...['drain', node, '--ignore-daemonsets', '--delete-emptydir-data', '--force', '--timeout=120s'],
      );
    await run([helm, 'upgrade', ...lab.chartArgs(['uninstall.enabled=true']), '--reuse-values']);
    await kubectl(...RELEASE_NAMESPACE, 'rollout', 'status', 'daemonset/podway-uninstall', '--timeout=180s');
    const enis = await attached();
    await run([helm, 'uninstall', 'podway', ...RELEASE_NAMESPACE, '--wait', '--timeout', '8m']);
    // The release's last act, and nothing of it reaches EC2.
    assert.deepEqual(await left(), []);
    assert.deepEqual(await attached(), enis);
    assert.deepEqual(await Promise.all(nodes.map(traces)), before);
    // The pods of what Helm has deleted may take a moment more.
    const objects = ['get', 'all,sa,clusterroles,clusterrolebindings', '-A', '-o', 'name'];
    await eventually(
      'no object is left',
      async () => (await kubectl(...objects)).match(/\S*podway-(agent|uninstall)\S*/g) === null,
    );
    for (const node of nodes) await kubectl('uncordon', node);
  });
}

/** What agents and controller keep in the API beside the release's own objects. */
async function left(): Promise<string[]> {
  const names = async (...what: string[]) =>
    (await kubectl('get', ...what, '-o', 'name')).split('\n').filter((name) => name !== '');
  const { items } = JSON.parse(await kubectl('get', 'nodes', '-o', 'json')) as { items: V1Node[] };
  return [
    ...(await names('podwaynodes,cninodes')),
    ...(await names(...RELEASE_NAMESPACE, 'leases')).filter((name) => name.includes('podway')),
    ...(await names('mutatingwebhookconfigurations,validatingwebhookconfigurations')),
    ...(await names('jobs', '-A')),
    ...items.flatMap(({ metadata, spec, status }) => [
      ...(metadata?.finalizers ?? []),
      ...(spec?.taints ?? []).map(({ key }) => key).filter((key) => key.startsWith('podway.dev/')),
      ...(status?.conditions ?? [])
        .map(({ type }) => type as string)
        .filter((type) => type.startsWith('Podway')),
    ]),
  ];
}

/** The nodes' ENIs as EC2 has them. */
async function attached(): Promise<string[]> {
  const ec2 = ec2ClientOf(lab.env);
  try {
    const { NetworkInterfaces = [] } = await ec2.send(new DescribeNetworkInterfacesCommand({}));
    return NetworkInterfaces.map(
      ({ NetworkInterfaceId, Attachment }) => `${NetworkInterfaceId} ${Attachment?.InstanceId}`,
    ).sort();
  } finally {
    ec2.destroy();
  }
}

type Audited = {
  user: { username: string };
  verb: string;
  objectRef?: { apiGroup?: string; resource: string; subresource?: string };
};

/** What a service account asked the API server for, by its own audit log. */
function auditedCalls(account: string): Set<string> {
  const { auditLog } = controlPlanePaths(labPaths(lab.name));
  const lines = readFileSync(auditLog, 'utf8').trim().split('\n');
  return new Set(
    lines.flatMap((line) => {
      const { user, verb, objectRef } = JSON.parse(line) as Audited;
      if (!objectRef || !user.username.endsWith(`:${account}`)) return [];
      const { apiGroup = '', resource, subresource } = objectRef;
      return [right(verb, apiGroup, subresource ? `${resource}/${subresource}` : resource)];
    }),
  );
}

/** Each command of `kubectl podway`, which asks the agents by pods/exec. */
async function asPlugin(): Promise<void> {
  const json = async <T>(...args: string[]): Promise<T> => {
    const ran = await lab.kubectlPodway(...args, '-o', 'json');
    assert.equal(ran.code, 0, told(['kubectl', 'podway', ...args], ran));
    return JSON.parse(ran.stdout) as T;
  };
  const status = await json<{ node: string; cause: unknown; host: { conflist: string } }[]>('status');
  assert.deepEqual(
    status.map(({ node, cause, host }) => [node, cause, host.conflist]),
    nodes.map((node) => [node, null, 'installed']),
  );
  const shown = await json<IpamNode[]>('ipam', 'show');
  assert.deepEqual(
    shown.map(({ node }) => node),
    nodes,
  );
  const held = shown[0]!.enis.flatMap(({ addresses }) =>
    addresses.filter(({ pod }) => pod === 'default/asker'),
  );
  assert.deepEqual(
    held.map(({ state }) => state),
    ['held'],
  );
  const { ok } = await json<{ ok: boolean }>('ipam', 'check');
  assert.ok(ok);
  for (const args of [
    ['ipam', 'explain', 'asker'],
    ['ipam', 'explain', nodes[0]!],
    ['doctor'],
    ['connectivity', 'test'],
  ]) {
    const ran = await lab.kubectlPodway(...args);
    assert.equal(ran.code, 0, told(['kubectl', 'podway', ...args], ran));
  }
}

const READING = [
  ['status'],
  ['doctor'],
  ['ipam', 'show'],
  ['ipam', 'show', '--node', nodes[1]!],
  ['ipam', 'check'],
  ['ipam', 'explain', nodes[0]!],
  ['ipam', 'explain', 'asker'],
  ['ipam', 'explain', 'nobody'],
  ['sg', 'show', 'asker'],
  ['policy', 'list'],
  ['policy', 'lint'],
  ['policy', 'show', 'default/asker'],
  ['policy', 'trace', 'asker', 'server:8080'],
];
const MOST_DUMPS = 5;

/** A dump of the cluster shows what the cluster showed. */
async function asDump(): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'podway-chart-dump-'));
  const file = join(folder, 'cluster.tgz');
  const shown = async (...args: string[]) => {
    const { code, stdout } = await lab.kubectlPodway(...args, '-o', 'json');
    return `${timeless(stdout)}exit ${code}`;
  };
  const differing = async (): Promise<string | null> => {
    const live: string[] = [];
    for (const args of READING) live.push(await shown(...args));
    const made = await lab.kubectlPodway('sysdump', '--out', file, '-o', 'json');
    assert.equal(made.code, 0, told(['kubectl', 'podway', 'sysdump'], made));
    for (const [index, args] of READING.entries()) {
      const differs = difference(await shown(...args, '--from', file), live[index]!);
      if (differs !== null) return `${args.join(' ')}, ${differs}`;
    }
    return null;
  };
  try {
    // Pools go on between an answer and the dump: what a node keeps free falls.
    let last = await differing();
    for (let tries = 1; tries < MOST_DUMPS && last !== null; tries++) last = await differing();
    assert.equal(last, null);
    const subnets = await lab.kubectlPodway('ipam', 'subnets', '--from', file);
    assert.equal(subnets.code, 0, told(['ipam', 'subnets', '--from'], subnets));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** A command in a pod of the cluster asks all agents by its service account. */
async function asJob(): Promise<void> {
  await kubectl(
    ...['create', 'clusterrolebinding', 'asker', '--clusterrole=cluster-admin'],
    '--serviceaccount=default:default',
  );
  try {
    const ask = ['podway', 'ipam', 'check', '--cluster', '-o', 'json'];
    const { ok } = JSON.parse(await kubectl('exec', 'asker', '--', ...ask)) as { ok: boolean };
    assert.ok(ok);
  } finally {
    await kubectl('delete', 'clusterrolebinding', 'asker');
  }
}
