// The lab by its commands: up, used, killed, stopped, down, and nothing left. Each test makes labs of its own name.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  RebootInstancesCommand,
  StartInstancesCommand,
  StopInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { ec2ClientOf } from '../../test/support/ec2.ts';
import { cidrContains, parseCidr, parseIp } from '../base/ip.ts';
import { packageRoot, programsDir } from '../lab/daemon/parts.ts';
import { LABS_ROOT, labPaths } from '../lab/daemon/paths.ts';
import type { LabStatus, PodView } from '../lab/daemon/protocol.ts';

const isRoot = process.getuid?.() === 0;
const options = { skip: isRoot ? false : 'needs root: makes network namespaces', timeout: 240_000 };
const launcher = join(packageRoot, 'bin', 'podway');
/** With the process's id: two checkouts test side by side, and a sweep knows whose they were. */
const labs = ['a', 'b', 'c', 'd'].map((letter) => `pwt-${letter}-${process.pid}`);

type Ran = { status: number | null; stdout: string; stderr: string };
function podway(lab: string, ...args: string[]): Ran {
  const env = { ...process.env, PODWAY_LAB: lab };
  const { status, stdout, stderr } = spawnSync(process.execPath, [launcher, ...args], {
    encoding: 'utf8',
    timeout: 120_000,
    env,
  });
  return { status, stdout, stderr };
}
function done(lab: string, ...args: string[]): string {
  const ran = podway(lab, ...args);
  if (ran.status !== 0)
    assert.fail(`podway ${args.join(' ')}: exit ${ran.status}: ${ran.stderr}\nlab.log: ${lastLines(lab)}`);
  return ran.stdout;
}
const lastLines = (lab: string): string =>
  existsSync(labPaths(lab).log)
    ? readFileSync(labPaths(lab).log, 'utf8').trim().split('\n').slice(-3).join('\n')
    : 'none';
const json = <T>(lab: string, ...args: string[]): T => JSON.parse(done(lab, ...args, '-o', 'json')) as T;
const run = (program: string, ...args: string[]): string => execFileSync(program, args, { encoding: 'utf8' });

after(() => {
  if (isRoot) for (const lab of labs) podway(lab, 'lab', 'down', '--quiet');
});

/** All of ours on this machine, as far as it belongs to the labs of this test: for before and after. */
function residue(): string[] {
  const ours = (text: string) => labs.some((lab) => text.includes(lab));
  const left: string[] = [];
  const netns = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
  left.push(...netns.filter(ours).map((name) => `netns ${name}`));
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      if (ours(command) && Number(pid) !== process.pid && !command.includes('--test'))
        left.push(`process ${pid} ${command}`);
    } catch {
      // It ended.
    }
  }
  left.push(...labs.filter((lab) => existsSync(join(LABS_ROOT, lab))).map((lab) => `folder ${lab}`));
  left.push(
    ...readFileSync('/proc/net/unix', 'utf8')
      .split('\n')
      .filter(ours)
      .map((line) => `socket ${line}`),
  );
  return left;
}

/** What a lab could change outside of its namespaces: links, rules, routes, tables of the machine. */
function machine(): string {
  const links = run('ip', '-o', 'link', 'show')
    .split('\n')
    .map((line) => line.split(' ')[1]);
  return JSON.stringify([
    links,
    run('ip', 'rule'),
    run('ip', 'route', 'show', 'table', 'all'),
    run('nft', 'list', 'tables'),
  ]);
}

const pidOf = (file: string): number => (JSON.parse(readFileSync(file, 'utf8')) as { pid: number }).pid;

async function eventually(what: string, look: () => boolean, boundMs = 60_000): Promise<void> {
  const end = performance.now() + boundMs;
  while (!look()) {
    assert.ok(performance.now() < end, `not within ${boundMs} ms: ${what}`);
    await sleep(50);
  }
}

test('up with the demo, every command, down, and nothing is left', options, () => {
  const lab = labs[0]!;
  const before = machine();
  const up = podway(lab, 'lab', 'up', '--demo');
  assert.equal(up.status, 0, up.stderr);
  assert.match(up.stdout, /pod-to-pod-across-nodes/);
  const status = json<LabStatus>(lab, 'lab', 'status');
  assert.deepEqual(
    status.nodes.map((node) => [node.name, node.ready]),
    [
      ['node-1', true],
      ['node-2', true],
    ],
  );
  assert.equal(status.pods.length, 4);
  assert.deepEqual(
    status.instances.map((each) => each.name),
    ['db'],
  );
  const subnets = ['10.0.0.0/19', '10.0.32.0/19'].map((text) => parseCidr(text));
  for (const [index, node] of status.nodes.entries())
    assert.ok(cidrContains(subnets[index]!, parseIp(node.ips[0]!)), `${node.name} has ${node.ips}`);
  for (const node of status.nodes)
    assert.ok(
      existsSync(node.cniConfDir) &&
        existsSync(node.cniBinDir) &&
        existsSync(node.agentSocket) &&
        existsSync(node.netnsPath),
      node.name,
    );

  assert.match(done(lab, 'lab', 'up', '--demo'), /up already in this shape/);
  assert.match(done(lab, 'lab', 'up'), /up already in this shape/);
  const other = podway(lab, 'lab', 'up', '--nodes', '3');
  assert.equal(other.status, 1);
  assert.match(other.stderr, /SHAPE_DIFFERS: .*2 nodes, asked for 3/);

  assert.equal(
    json<{ state: string; name: string }[]>(lab, 'lab', 'list').find((each) => each.name === lab)?.state,
    'up',
  );
  assert.match(done(lab, 'lab', 'logs', 'db'), / tcp 10\.0\./);
  assert.match(done(lab, 'lab', 'logs', 'node-1'), /the agent is ready/);
  assert.ok(done(lab, 'lab', 'logs', 'vpc').length >= 0);
  assert.match(done(lab, 'lab', 'exec', 'internet', '--', 'ip', 'address'), /203\.0\.113\.10/);
  assert.equal(podway(lab, 'lab', 'exec', 'node-1', '--', 'sh', '-c', 'exit 9').status, 9);
  assert.equal(podway(lab, 'lab', 'exec', 'nowhere', '--', 'true').status, 125);
  assert.equal(podway(lab, 'lab', 'exec', 'node-1', '--', 'no-such-program').status, 127);

  const web = json<PodView>(lab, 'pod', 'run', 'web', '--node', 'node-2', '--label', 'app=web');
  assert.deepEqual([web.node, web.phase, web.message], ['node-2', 'Running', undefined]);
  assert.equal(podway(lab, 'pod', 'run', 'web').status, 1);
  assert.match(
    done(lab, 'pod', 'exec', 'web', '--', 'ip', 'address'),
    new RegExp(web.ips[0]!.replaceAll('.', '\\.')),
  );
  assert.equal(podway(lab, 'pod', 'exec', 'web', '--', 'sh', '-c', 'exit 7').status, 7);
  done(lab, 'pod', 'run', 'talker', '--', 'sh', '-c', 'echo said by $HOSTNAME; sleep 1000');
  assert.equal(done(lab, 'pod', 'logs', 'talker'), 'said by talker\n');
  done(lab, 'pod', 'delete', 'web', 'talker', 'never-there');
  assert.equal(json<PodView[]>(lab, 'pod', 'list').length, 4);
  assert.equal(existsSync(web.netnsPath), false);
  assert.deepEqual(json(lab, 'ipam', 'check'), { ok: true, differences: [] });
  assert.equal(json<unknown[]>(lab, 'ipam', 'show').length, 2);
  assert.equal(json<unknown[]>(lab, 'ipam', 'show', '--node', 'node-1').length, 1);

  const { root, keys, kubeconfig, control } = labPaths(lab);
  assert.deepEqual(
    [root, keys, kubeconfig, control].map((file) => statSync(file).mode & 0o777),
    [0o700, 0o600, 0o600, 0o600],
  );
  done(lab, 'lab', 'down');
  assert.deepEqual(residue(), []);
  assert.equal(machine(), before);
  done(lab, 'lab', 'down');
});

test('killed at any moment it goes on, and packets never stop', options, async () => {
  const lab = labs[1]!;
  const paths = labPaths(lab);
  done(lab, 'lab', 'up', '--demo', '--quiet');
  const before = json<LabStatus>(lab, 'lab', 'status');
  const [from, to] = [
    before.pods.find((pod) => pod.node === 'node-1')!,
    before.pods.find((pod) => pod.node === 'node-2')!,
  ];
  // A TCP stream over two nodes that outlives both kills and both starts.
  const stream = spawn(
    'nsenter',
    [
      `--net=${from.netnsPath}`,
      '--',
      join(programsDir(), 'pod-probe'),
      'tcp',
      to.ips[0]!,
      '8080',
      '1',
      '4000',
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let told = '';
  stream.stdout.on('data', (chunk: Buffer) => {
    told += chunk;
  });
  const over = new Promise((resolve) => stream.once('exit', resolve));
  process.kill(pidOf(paths.pid), 'SIGKILL');
  process.kill(pidOf(paths.node('node-1').agentPid), 'SIGKILL');
  assert.equal(podway(lab, 'pod', 'list').status, 1);
  done(lab, 'lab', 'up', '--quiet');
  const now = json<LabStatus>(lab, 'lab', 'status');
  const facts = (status: LabStatus) => [
    status.ec2Endpoint,
    status.kubernetesEndpoint,
    status.pods,
    status.nodes.map((node) => node.instanceId),
  ];
  assert.deepEqual(facts(now), facts(before));
  await over;
  const result = JSON.parse(told) as { streamBytes?: number; streamUs?: number; error?: string };
  assert.equal(result.error, undefined);
  assert.ok(result.streamUs! > 3_500_000 && result.streamBytes! > 1e6, told);
  await eventually('the agent is back', () => podway(lab, 'ipam', 'check').status === 0);

  // Agent and daemon die while pods come and go.
  const busy = Array.from({ length: 6 }, (_, index) => `churn-${index}`);
  for (const name of busy) done(lab, 'pod', 'run', name, '--no-wait');
  process.kill(pidOf(paths.node('node-2').agentPid), 'SIGKILL');
  process.kill(pidOf(paths.pid), 'SIGKILL');
  done(lab, 'lab', 'up', '--quiet');
  await eventually('all pods run', () =>
    json<PodView[]>(lab, 'pod', 'list').every((pod) => pod.phase === 'Running'),
  );
  done(lab, 'pod', 'delete', ...busy);
  assert.deepEqual(json(lab, 'ipam', 'check'), { ok: true, differences: [] });
  const { ok } = json<{ ok: boolean }>(lab, 'connectivity', 'test');
  assert.equal(ok, true);

  // A daemon that is dead is no hindrance to lab down.
  process.kill(pidOf(paths.pid), 'SIGKILL');
  done(lab, 'lab', 'down', '--quiet');
  assert.deepEqual(residue(), []);
});

test('a daemon that dies in the middle of up leaves what up or down goes on with', options, async () => {
  const lab = labs[2]!;
  const paths = labPaths(lab);
  for (const ms of [150, 300, 500, 700, 900]) {
    const up = spawn(process.execPath, [launcher, 'lab', 'up', '--nodes', '1', '--quiet', '--lab', lab], {
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => up.once('exit', resolve));
    await sleep(ms);
    if (existsSync(paths.pid)) process.kill(pidOf(paths.pid), 'SIGKILL');
    await ended;
    if (ms % 200 === 100) {
      done(lab, 'lab', 'up', '--nodes', '1', '--quiet');
      assert.equal(json<PodView>(lab, 'pod', 'run', 'one').phase, 'Running');
    }
    done(lab, 'lab', 'down', '--quiet');
    assert.deepEqual(residue(), [], `killed after ${ms} ms`);
  }
});

test('instances stop, start, reboot and go; two labs live side by side', options, async () => {
  const [lab, beside] = [labs[3]!, labs[2]!];
  done(lab, 'lab', 'up', '--demo', '--quiet', '--set', 'cooldown=0s');
  done(beside, 'lab', 'up', '--nodes', '1', '--quiet');
  assert.equal(json<PodView>(beside, 'pod', 'run', 'other').phase, 'Running');
  const tested = podway(beside, 'connectivity', 'test');
  assert.equal(tested.status, 0, tested.stderr);
  assert.match(tested.stderr, /^pod connectivity-1: waiting$/m);
  const named = spawnSync(process.execPath, [launcher, 'lab', 'status'], {
    encoding: 'utf8',
    env: { ...process.env, PODWAY_LAB: '' },
  });
  assert.equal(named.status, 2);
  assert.match(named.stderr, new RegExp(`${beside}.*${lab}`));

  const env = json<Record<string, string>>(lab, 'lab', 'env');
  const ec2 = ec2ClientOf(env);
  const nodeOf = (name: string) =>
    json<LabStatus>(lab, 'lab', 'status').nodes.find((node) => node.name === name);
  const podsOn = (name: string) => json<PodView[]>(lab, 'pod', 'list').filter((pod) => pod.node === name);
  const ids = { InstanceIds: [nodeOf('node-1')!.instanceId] };
  const rundir = labPaths(lab).node('node-1').run;
  const agent = pidOf(labPaths(lab).node('node-1').agentPid);

  await ec2.send(new StopInstancesCommand(ids));
  assert.equal(nodeOf('node-1')?.ready, false);
  assert.deepEqual(readdirSync(rundir), []);
  assert.equal(existsSync(`/proc/${agent}`), false);
  const waiting = podsOn('node-1');
  assert.ok(waiting.length > 0 && waiting.every((pod) => pod.phase === 'Pending' && pod.netns === ''));
  const runs = () => podsOn('node-1').every((pod) => pod.phase === 'Running');
  await ec2.send(new StartInstancesCommand(ids));
  await eventually('the node is back', () => nodeOf('node-1')?.ready === true && runs());
  assert.ok(json<PodView[]>(lab, 'pod', 'list').every((pod) => pod.phase === 'Running'));

  await ec2.send(new RebootInstancesCommand(ids));
  await eventually('the node is back', () => nodeOf('node-1')?.ready === true && runs());
  assert.equal(json<PodView>(lab, 'pod', 'run', 'after-reboot', '--node', 'node-1').phase, 'Running');

  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [nodeOf('node-2')!.instanceId] }));
  assert.equal(nodeOf('node-2'), undefined);
  assert.deepEqual(podsOn('node-2'), []);
  done(lab, 'lab', 'up', '--demo', '--quiet');
  assert.equal(nodeOf('node-2')?.ready, true);
  assert.deepEqual(json(lab, 'ipam', 'check'), { ok: true, differences: [] });

  done(lab, 'lab', 'down', '--quiet');
  assert.equal(json<PodView[]>(beside, 'pod', 'list')[0]?.phase, 'Running');
  assert.equal(json<PodView>(beside, 'pod', 'run', 'second').phase, 'Running');
  done(beside, 'lab', 'down', '--quiet');
  assert.deepEqual(residue(), []);
});
