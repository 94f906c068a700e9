// The command line's contract, row by row, on a machine of its own where no other lab is: exit codes, the one line of a
// failure, the shapes of the JSON, which lab is meant, and the exit codes of `exec`.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { PODWAY, type Ran, skip } from './command.ts';
import { Machine } from './machine.ts';

/** `podway: CAUSE: sentence (next step)` and nothing else. */
const FAILURE = /^podway: [A-Z][A-Z0-9_]*: [^\n]+ \([^\n]+\)\n$/;

let machine: Machine;

before(async () => {
  if (skip) return;
  machine = await Machine.start();
  await machine.ok('lab', 'up', '--demo', '--quiet', '--lab', 'one');
});
after(async () => {
  if (!skip) await machine.stop();
});

function assertFailed(ran: Ran, code: number, cause?: string): void {
  assert.equal(ran.code, code, ran.stdout + ran.stderr);
  assert.match(ran.stderr, FAILURE);
  if (cause) assert.ok(ran.stderr.startsWith(`podway: ${cause}: `), ran.stderr);
}

/** Every key of the contract with a value of its kind: 's'tring, 'n'umber, 'b'oolean, an object's shape, a list's item. */
type Shape = string | readonly [Shape] | { readonly [key: string]: Shape };

function assertShape(value: unknown, shape: Shape, path: string): void {
  if (typeof shape === 'string') {
    assert.ok(shape.includes((typeof value)[0]!), `${path} is ${JSON.stringify(value)}`);
  } else if (Array.isArray(shape)) {
    assert.ok(Array.isArray(value), `${path} is no list: ${JSON.stringify(value)}`);
    for (const [index, item] of value.entries()) assertShape(item, shape[0], `${path}[${index}]`);
  } else {
    for (const [key, inner] of Object.entries(shape)) {
      const optional = key.endsWith('?');
      const name = optional ? key.slice(0, -1) : key;
      const found = (value as Record<string, unknown>)?.[name];
      if (!optional || found !== undefined) assertShape(found, inner, `${path}.${name}`);
    }
  }
}

const pod: Shape = {
  namespace: 's',
  name: 's',
  node: 's',
  ips: ['s'],
  phase: 's',
  netns: 's',
  netnsPath: 's',
  'message?': { code: 's', text: 's' },
};
const place = {
  name: 's',
  instanceId: 's',
  instanceType: 's',
  ips: ['s'],
  netns: 's',
  netnsPath: 's',
} as const;
const node: Shape = { ...place, ready: 'b', cniConfDir: 's', cniBinDir: 's', agentSocket: 's' };
const subnet: Shape = { id: 's', name: 's', zone: 's', cidr: 's', availableIpAddressCount: 'n' };
const status: Shape = {
  name: 's',
  state: 's',
  ec2Endpoint: 's',
  kubeconfig: 's',
  vpcs: [{ id: 's', cidrs: ['s'], subnets: [subnet] }],
  nodes: [node],
  instances: [place],
  pods: [pod],
};
const count: Shape = { held: 'n', free: 'n', cooling: 'n' };
const eni: Shape = {
  id: 's',
  deviceIndex: 'n',
  networkCard: 'n',
  mac: 's',
  ifname: 's',
  subnetId: 's',
  type: 's',
  trunk: 'b',
  primaryIp: 's',
  addresses: [{ ip: 's', state: 's', 'containerId?': 's', 'pod?': 's', 'coolingUntil?': 's' }],
  prefixes: ['o'],
  ipv6Prefixes: ['o'],
  branches: ['o'],
};
const ipam: Shape = [
  {
    node: 's',
    instanceType: 's',
    family: 's',
    limits: { enis: 'n', ipv4PerEni: 'n', pods: 'n' },
    warm: { target: 'n', cooldownSeconds: 'n' },
    enis: [eni],
    totals: count,
    totals6: count,
  },
];
const check: Shape = { name: 's', from: 's', to: 's', expected: 's', observed: 's', ok: 'b', ms: 'n' };

const shapes: [string[], Shape][] = [
  [['lab', 'status'], status],
  [['lab', 'list'], [{ name: 's' }]],
  [['pod', 'list'], [pod]],
  [['node', 'list'], [{ name: 's' }]],
  [['ipam', 'show'], ipam],
  [['ipam', 'show', '--node', 'node-1'], ipam],
  [['ipam', 'check'], { ok: 'b', differences: ['o'] }],
  [['connectivity', 'test'], { ok: 'b', checks: [check] }],
  [['doctor'], { ok: 'b' }],
  [['explain', 'COOLDOWN'], { code: 's', meaning: 's', next: 's' }],
  [['version'], { podway: 's' }],
  [['lab', 'env'], { AWS_ENDPOINT_URL_EC2: 's', KUBECONFIG: 's' }],
];

for (const [command, shape] of shapes) {
  test(`${command.join(' ')} -o json`, { skip }, async () => {
    assertShape(await machine.json(...command), shape, command.join(' '));
  });
}

test('pod run, once, twice; pod delete, once, twice', { skip }, async () => {
  const made = await machine.json<{ ips: string[]; phase: string; node: string }>(
    'pod',
    'run',
    'web',
    '--node',
    'node-2',
    '--label',
    'app=web',
  );
  assertShape(made, pod, 'pod run');
  assert.deepEqual([made.phase, made.node, made.ips.length], ['Running', 'node-2', 1]);
  assertFailed(await machine.podway('pod', 'run', 'web'), 1, 'POD_EXISTS');
  assert.equal((await machine.podway('pod', 'delete', 'web')).code, 0);
  const all = JSON.stringify(await machine.json('ipam', 'show', '--node', 'node-2'));
  assert.equal(all.includes('default/web'), false, 'the address is not released');
  assert.equal((await machine.podway('pod', 'delete', 'web', 'never')).code, 0);
});

test('a failure is one line on stderr, and with -o json an object on stdout', { skip }, async () => {
  const missing = await machine.podway('ipam', 'show', '--node', 'node-9', '-o', 'json');
  assertFailed(missing, 1);
  assertShape(JSON.parse(missing.stdout), { error: { code: 's', message: 's', next: 's' } }, 'error');
  const text = await machine.podway('ipam', 'show', '--node', 'node-9');
  assertFailed(text, 1);
  assert.equal(text.stdout, '');
  assertFailed(await machine.podway('lab', 'status', '--lab', 'none-such'), 1, 'LAB_NOT_UP');
  assertFailed(await machine.podway('pod', 'logs', 'none-such'), 1);
});

test('a pod whose command ends has that in its phase; one that cannot be placed says why', {
  skip,
}, async () => {
  const phases: [string, string[], string, string | undefined][] = [
    ['ends', ['sh', '-c', 'exit 3'], 'Failed', 'EXITED'],
    ['absent', ['/no/such/program'], 'Failed', undefined],
    ['done', ['true'], 'Succeeded', undefined],
  ];
  for (const [name, command, phase, cause] of phases) {
    await machine.podway('pod', 'run', name, '--', ...command);
    const over = await eventually(`pod ${name} is ${phase}`, async () => {
      const pods = await machine.json<PodView[]>('pod', 'list');
      return pods.find((each) => each.name === name && each.phase === phase);
    });
    if (cause) assert.equal(over.message?.code, cause);
  }
  const ran = await machine.podway('pod', 'run', 'nowhere', '--node', 'node-9', '--timeout', '1s');
  assertFailed(ran, 1);
  await machine.ok('pod', 'delete', 'ends', 'absent', 'done', 'nowhere');
});

const wrongUsage: string[][] = [
  ['lab'],
  ['lab', 'upp'],
  ['lab', 'up', '--nodes', 'two'],
  ['lab', 'up', '--set', 'cooldown=soon'],
  ['lab', 'up', '--set', 'colour=red'],
  ['lab', 'up', '--instance-type', 'm5.enormous'],
  ['lab', 'up', '--lab', 'No_Such_Name'],
  ['lab', 'up', '-f', '/none/such.yaml'],
  ['lab', 'down', '--all', '--lab', 'one'],
  ['pod', 'run'],
  ['pod', 'run', 'Bad_Name'],
  ['pod', 'run', 'x', '--label', 'novalue'],
  ['pod', 'run', 'x', '--timeout', 'soon'],
  ['pod', 'list', '--frobnicate'],
  ['ipam', 'show', '-o', 'xml'],
  ['explain'],
  ['lab', 'exec'],
  ['cni', 'add'],
  ['lab', 'status', '--lab', 'one', '--name', 'other'],
];

test('wrong usage is exit 2, with what is wrong and where to look', { skip }, async () => {
  for (const command of wrongUsage) {
    const ran = await machine.podway(...command);
    assert.equal(ran.code, 2, `${command.join(' ')}: exit ${ran.code}\n${ran.stdout}${ran.stderr}`);
    assert.match(ran.stderr, FAILURE, command.join(' '));
  }
});

test('an unknown cause is not explained', { skip }, async () => {
  const ran = await machine.podway('explain', 'NONE_SUCH');
  assert.ok(ran.code === 1 || ran.code === 2, String(ran.code));
  assert.match(ran.stderr, FAILURE);
  assert.match(await machine.ok('explain', '100'), /ADDRESS_LIMIT/);
});

const commands = [
  [],
  ['lab'],
  ['pod'],
  ['ipam'],
  ['cni'],
  ['node'],
  ['connectivity'],
  ...['up', 'down', 'list', 'status', 'logs', 'exec', 'env'].map((name) => ['lab', name]),
  ...['run', 'delete', 'list', 'logs', 'exec'].map((name) => ['pod', name]),
  ...['add', 'del', 'check', 'gc', 'status', 'version'].map((name) => ['cni', name]),
  ['node', 'list'],
  ['ipam', 'show'],
  ['ipam', 'check'],
  ['connectivity', 'test'],
  ['doctor'],
  ['explain'],
  ['version'],
];

test('--help on every command, with examples', { skip }, async () => {
  for (const command of commands) {
    const ran = await machine.podway(...command, '--help');
    assert.equal(ran.code, 0, command.join(' '));
    assert.match(ran.stdout, /Usage: podway/, command.join(' '));
    assert.match(ran.stdout, /\nExamples:\n {2}\S*.*podway/, command.join(' '));
  }
});

test("exec's exit code is the command's; 125 ours, 126 not executable, 127 not found", { skip }, async () => {
  await machine.shell('echo data >/tmp/plain && chmod 644 /tmp/plain');
  for (const where of [
    ['lab', 'exec', 'node-1'],
    ['lab', 'exec', 'db'],
    ['lab', 'exec', 'vpc'],
    ['lab', 'exec', 'internet'],
    ['pod', 'exec', 'demo-1'],
  ]) {
    const exec = (...command: string[]) => machine.podway(...where, '--', ...command);
    const text = where.join(' ');
    assert.deepEqual(
      await exec('sh', '-c', 'echo out; echo err >&2; exit 7'),
      { code: 7, stdout: 'out\n', stderr: 'err\n' },
      text,
    );
    assert.equal((await exec('sh', '-c', 'exit 0')).code, 0, text);
    assert.equal((await exec('/tmp/plain')).code, 126, text);
    assert.equal((await exec('/none/such')).code, 127, text);
    assert.equal((await exec('sh', '-c', 'kill -9 $$')).code, 137, text);
  }
  for (const where of [
    ['lab', 'exec', 'node-9'],
    ['pod', 'exec', 'none-such'],
    ['lab', 'exec', '../one'],
  ]) {
    assertFailed(await machine.podway(...where, '--', 'true'), 125);
  }
  // Options of the user's command are the command's.
  assert.equal(
    (await machine.ok('lab', 'exec', 'node-1', '--', 'echo', '-o', '--lab', 'x')).trim(),
    '-o --lab x',
  );
});

test('lab logs of a node, an instance, the router and the internet host; pod logs', { skip }, async () => {
  assert.match(await machine.ok('lab', 'logs', 'node-1'), /the agent is ready/);
  for (const where of ['db', 'internet', 'vpc'])
    assert.equal((await machine.podway('lab', 'logs', where)).code, 0, where);
  assertFailed(await machine.podway('lab', 'logs', 'node-9'), 1);
  assert.equal((await machine.podway('pod', 'logs', 'demo-1')).code, 0);
});

test('lab env is for a shell, and its endpoint answers', { skip }, async () => {
  const text = await machine.ok('lab', 'env');
  for (const name of [
    'AWS_ENDPOINT_URL',
    'AWS_ENDPOINT_URL_EC2',
    'AWS_REGION',
    'AWS_ACCESS_KEY_ID',
    'AWS_SECRET_ACCESS_KEY',
    'KUBECONFIG',
    'PODWAY_LAB',
  ])
    assert.match(text, new RegExp(`^export ${name}='[^']+'$`, 'm'));
  assert.match(text, /^unset AWS_SESSION_TOKEN AWS_PROFILE$/m);
  const seen = await machine.run([
    'sh',
    '-ec',
    `${text}\ncurl -s -m 10 -o /dev/null -w '%{http_code}' "$AWS_ENDPOINT_URL"; test -r "$KUBECONFIG"; echo " $PODWAY_LAB"`,
  ]);
  assert.match(seen.stdout, /^[1-5]\d\d one$/m);
  // kubectl podway of this lab's cluster asks the lab, which has the agents; --cluster asks for pods that have them.
  const asPlugin = (flag: string) =>
    machine.run(['sh', '-ec', `${text}\nln -sf ${PODWAY} /tmp/kubectl-podway; /tmp/kubectl-podway ${flag}`]);
  const shown = await asPlugin('ipam show --node node-1');
  assert.equal(shown.code, 0, shown.stderr);
  assert.match(shown.stdout, /^node-1 /);
  assertFailed(await asPlugin('ipam show --cluster'), 1, 'NO_AGENTS');
});

test('files are for root alone, endpoints on loopback alone', { skip }, async () => {
  const open = await machine.shell(
    'find /run/podway -type l -prune -o \\( -perm /077 ! -path "*/cni/*" \\) -print; true',
  );
  assert.equal(open, '');
  assert.equal((await machine.shell('stat -c %a /run/podway/labs')).trim(), '700');
  const listening = await machine.shell("ss -Htln | awk '{print $4}'");
  for (const address of listening.trim().split('\n')) assert.match(address, /^127\.0\.0\.1:\d+$/);
});

test('which lab is meant: the flag, PODWAY_LAB, the only one that is up', { skip }, async () => {
  assert.equal((await machine.json<{ name: string }>('lab', 'status')).name, 'one');
  await machine.ok('lab', 'up', '--quiet', '--nodes', '1', '--name', 'two');
  const labs = await machine.json<{ name: string }[]>('lab', 'list');
  assert.deepEqual(labs.map((lab) => lab.name).sort(), ['one', 'two']);
  const unclear = await machine.podway('lab', 'status');
  assertFailed(unclear, 2);
  assert.match(unclear.stderr, /one.*two/);
  assertFailed(await machine.podway('pod', 'list'), 2);
  const named = async (args: string[], env: Record<string, string> = {}) => {
    const ran = await machine.run([PODWAY, 'lab', 'status', '-o', 'json', ...args], env);
    return (JSON.parse(ran.stdout) as { name: string }).name;
  };
  assert.equal(await named([], { PODWAY_LAB: 'two' }), 'two');
  assert.equal(await named(['--lab', 'one'], { PODWAY_LAB: 'two' }), 'one');
  assert.equal(await named(['--name', 'two']), 'two');
});

test('lab up again, in another shape, and with a check that fails', { skip }, async () => {
  const again = await machine.podway('lab', 'up', '--demo', '--lab', 'one');
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stdout, /up already/);
  assertFailed(await machine.podway('lab', 'up', '--lab', 'one', '--nodes', '3', '--quiet'), 1);
  const settings = await machine.podway('lab', 'up', '--lab', 'one', '--set', 'cooldown=7s', '--quiet');
  assertFailed(settings, 1);
  assert.match(settings.stderr, /cooldown/);
});

test('lab down: the named one, what is not up, all', { skip }, async () => {
  assertFailed(await machine.podway('lab', 'down'), 2);
  assert.equal((await machine.podway('lab', 'down', '--lab', 'none-such')).code, 0);
  await machine.ok('lab', 'down', '--lab', 'two');
  assert.deepEqual(
    (await machine.json<{ name: string }[]>('lab', 'list')).map((lab) => lab.name),
    ['one'],
  );
  await machine.ok('lab', 'down', '--all');
  assert.deepEqual(await machine.json('lab', 'list'), []);
  assert.equal((await machine.podway('lab', 'down')).code, 0);
  assertFailed(await machine.podway('pod', 'list'), 1, 'LAB_NOT_UP');
});
