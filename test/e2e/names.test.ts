// Labs whose names begin alike (`s3a` with an instance `b-node-1`, `s3a-b` with `node-1`, `s3a-b-node` with `1`), up and
// down in every order, killed while they come and while they go: what one does leaves no trace in another, and `lab down`
// removes exactly what is its lab's. On a machine of its own, whose labs may have any names.
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { processesMarked } from '../../src/lab/daemon/mark.ts';
import { labPaths, namespacesOf } from '../../src/lab/daemon/paths.ts';
import type { ProcessId } from '../../src/lab/daemon/processes.ts';
import type { PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually, seeded } from '../support/wait.ts';
import { PODWAY, PROBE, skip, told } from './command.ts';
import { type Census, Machine } from './machine.ts';

/** With the separator of old, all three would have had a namespace `podway-s3a-b-node-1`. */
const INSTANCES: Readonly<Record<string, string>> = { s3a: 'b-node-1', 's3a-b': 'node-1', 's3a-b-node': '1' };
const LABS = Object.keys(INSTANCES);
const ORDERS = LABS.flatMap((a) =>
  LABS.filter((b) => b !== a).map((b) => [a, b, LABS.find((c) => c !== a && c !== b)!]),
);
/** Steps of the walk with kills; a step takes about a second on an idle machine. */
const STEPS = 16;

let machine: Machine;
let clean: Census;

before(async () => {
  if (skip) return;
  machine = await Machine.start();
  clean = await machine.census();
  for (const [lab, instance] of Object.entries(INSTANCES)) {
    await machine.write(
      `/tmp/${lab}.yaml`,
      [
        'vpcs:',
        '  - { name: vpc, cidrs: [10.0.0.0/16], subnets: [{ name: one, cidr: 10.0.0.0/24, zone: us-west-2a }] }',
        `instances: [{ name: "${instance}", subnet: one, agent: none, serve: true }]`,
      ].join('\n'),
    );
  }
  clean = await machine.census();
});
after(async () => {
  if (!skip) await machine.stop();
});

type Print = { namespaces: string[]; processes: ProcessId[]; files: string[] };

/** All that bears the lab's name or mark, with the identity of each: what is made anew is another. */
function printOf(lab: string): Print {
  const labs = join(machine.root, labPaths('').root);
  const folder = join(labs, lab);
  const mark = existsSync(join(folder, 'mark')) ? readFileSync(join(folder, 'mark'), 'utf8') : undefined;
  const namespaces = namespacesOf(lab, readdirSync(join(machine.root, 'run/netns')));
  return {
    namespaces: namespaces.map(
      (name) => `${name} ${statSync(join(machine.root, 'run/netns', name), { throwIfNoEntry: false })?.ino}`,
    ),
    processes: processesMarked(mark),
    // A journal of SQLite's comes and goes with each write.
    files: (existsSync(folder) ? readdirSync(folder, { recursive: true }) : [])
      .map(String)
      .filter((file) => !/-(journal|wal|shm)$|\.new$/.test(file))
      .sort(),
  };
}

/** What a lab runs for as long as it is up; anything else is a command that ends by itself. */
const lasts = ({ pid }: ProcessId): boolean =>
  /(lab\/daemon|agent|controller)\/main|pod-server|sleep/.test(commandOf(pid));
const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1');
  } catch {
    return ''; // It ended.
  }
};
const lastingPrintOf = (lab: string): Print => {
  const print = printOf(lab);
  return { ...print, processes: print.processes.filter(lasts) };
};

const REST_MS = 500;

/** The labs' prints once they run no commands and have not changed for a while: what a killed lab had started ends. */
async function atRest(labs: string[]): Promise<Print[]> {
  let [prints, since] = [labs.map(printOf), performance.now()];
  await eventually('the other labs rest', () => {
    const now = labs.map(printOf);
    const isBusy = now.some(({ processes }) => !processes.every(lasts));
    if (isBusy || JSON.stringify(now) !== JSON.stringify(prints)) [prints, since] = [now, performance.now()];
    return performance.now() - since > REST_MS;
  });
  return prints;
}

/** Does the step, and sees that the other labs are as they were. */
async function apart(lab: string, step: () => Promise<void>): Promise<void> {
  const others = LABS.filter((other) => other !== lab);
  const prints = await atRest(others);
  await step();
  assert.deepEqual(others.map(lastingPrintOf), prints, `a step of ${lab} touched another lab`);
}

async function up(lab: string): Promise<void> {
  await machine.ok('lab', 'up', '--lab', lab, '-f', `/tmp/${lab}.yaml`, '--quiet');
  const { namespaces, processes } = lastingPrintOf(lab);
  assert.equal(namespaces.length, 3, namespaces.join());
  assert.equal(processes.length, 3, 'the daemon and two servers');
  const answered = await machine.run([
    PODWAY,
    'lab',
    'exec',
    '--lab',
    lab,
    INSTANCES[lab]!,
    '--',
    'ip',
    '-br',
    'addr',
  ]);
  assert.match(answered.stdout, /eth0@\S+ +UP +10\.0\.0\.\d+\/24/, told(['lab', 'exec'], answered));
}

async function down(lab: string): Promise<void> {
  const marked = printOf(lab).processes;
  await machine.ok('lab', 'down', '--lab', lab, '--quiet');
  await goneIs(lab, marked);
}

async function goneIs(lab: string, marked: ProcessId[]): Promise<void> {
  assert.deepEqual(printOf(lab), { namespaces: [], processes: [], files: [] });
  await eventually('its processes are gone', () => marked.every(({ pid }) => !existsSync(`/proc/${pid}/ns`)));
}

test('up in every order and down in every order, nothing crosses', { skip }, async () => {
  for (const [index, order] of ORDERS.entries()) {
    for (const lab of order) await apart(lab, () => up(lab));
    // Each order of going once as well, and never the one that they came in alone.
    for (const lab of ORDERS[(index + 2) % ORDERS.length]!) await apart(lab, () => down(lab));
  }
  await machine.isAgain(clean);
});

test('lab down of a name that begins or ends as another lab removes nothing', { skip }, async () => {
  const lab = 's3a-b';
  await up(lab);
  const [before] = (await atRest([lab])) as [Print];
  for (const name of ['s3a', 's3a-b-node', 's3', 's3a-b-vpc', 's3a-b-node-1', 'b', 'vpc']) {
    assert.match(await machine.ok('lab', 'down', '--lab', name), /^no lab \S+ is up\n$/);
  }
  assert.deepEqual(lastingPrintOf(lab), before);
  await down(lab);
});

test('lab down of s3b-pod, there or not, leaves the pods of s3b as they are', { skip }, async () => {
  await machine.ok('lab', 'up', '--lab', 's3b', '--nodes', '1', '--quiet');
  const pod = await machine.json<PodView>('pod', 'run', 'web', '--lab', 's3b');
  const [before] = (await atRest(['s3b'])) as [Print];
  assert.equal(before.namespaces.length, 4, 'router, internet, node and pod');
  for (const comes of [false, true]) {
    if (comes) await machine.ok('lab', 'up', '--lab', 's3b-pod', '-f', '/tmp/s3a.yaml', '--quiet');
    assert.match(
      await machine.ok('lab', 'down', '--lab', 's3b-pod'),
      comes ? /^removed/ : /^no lab s3b-pod is up/,
    );
    const { namespaces, processes } = printOf('s3b');
    assert.deepEqual([namespaces, processes.filter(lasts)], [before.namespaces, before.processes]);
    const asked = ['lab', 'exec', 'node-1', '--lab', 's3b', '--', PROBE, 'tcp', pod.ips[0]!, '8080'];
    assert.match(await machine.ok(...asked), /"answer":"web /);
  }
  const { processes } = before;
  await machine.ok('lab', 'down', '--lab', 's3b', '--quiet');
  await goneIs('s3b', processes);
});

test('two lab down at once both succeed, and leave nothing', { skip }, async () => {
  const lab = 's3a';
  await up(lab);
  const { processes } = printOf(lab);
  const ends = await Promise.all([1, 2].map(() => machine.podway('lab', 'down', '--lab', lab)));
  for (const end of ends) assert.equal(end.code, 0, told(['lab', 'down'], end));
  await goneIs(lab, processes);
});

test('a process that left the lab for another namespace goes with it', { skip }, async () => {
  const lab = 's3a';
  await up(lab);
  const mark = readFileSync(join(machine.root, labPaths(lab).mark), 'utf8');
  await machine.shell(`PODWAY_MARK=${mark} setsid unshare --net sleep 300 >/dev/null 2>&1 &`);
  await eventually('it runs', () => printOf(lab).processes.length === 4);
  await down(lab);
});

test('a lab of the version before is removed by what its folder has on record', { skip }, async () => {
  const old = ['podway-old-vpc', 'podway-old-internet', 'podway-old-b.1', 'podway-old-pod-0123456789ab'];
  const [folder, uid] = ['/run/podway/labs/old', '12345678-0000-0000-0000-000000000000'];
  await machine.shell(
    [
      `mkdir -p ${folder}/fabric/netns ${folder}/pods/${uid}`,
      `touch ${folder}/fabric/netns/vpc ${folder}/fabric/netns/internet ${folder}/fabric/netns/b.1`,
      `echo '{"version": 1, "name": "old", "shape": {}, "ports": {}}' >${folder}/lab.json`,
      `echo '{"podUid": "${uid}", "node": "n", "netns": "${old[3]}", "hostNetwork": false}' >${folder}/pods/${uid}/sandbox.json`,
      ...[...old, 'podway-old-b-vpc'].map((name) => `ip netns add ${name}`),
      `ip netns exec ${old[3]} setsid sleep 300 >/dev/null 2>&1 &`,
    ].join('\n'),
  );
  const refused = await machine.podway('lab', 'up', '--lab', 'old');
  assert.match(refused.stderr, /LAB_EARLIER: .*earlier version.*podway lab down --lab old/);
  await machine.ok('lab', 'down', '--lab', 'old');
  assert.equal(
    await machine.shell('ip netns list'),
    'podway-old-b-vpc\n',
    'what is not on record is not its own',
  );
  await machine.shell('ip netns del podway-old-b-vpc');
  await machine.isAgain(clean);
});

/** kill -9 of the lab's own process as soon as there are so many things of the lab; resolves when `up` has ended. */
async function killedUp(lab: string, things: number): Promise<void> {
  let ended = false;
  const running = machine
    .podway('lab', 'up', '--lab', lab, '-f', `/tmp/${lab}.yaml`, '--quiet')
    .finally(() => {
      ended = true;
    });
  await eventually(
    'the moment or the end of lab up comes',
    () => {
      const { namespaces, processes, files } = printOf(lab);
      const daemon = processes.find(isDaemon);
      if (daemon && namespaces.length + processes.length + files.length >= things) {
        process.kill(daemon.pid, 'SIGKILL');
        return true;
      }
      return ended;
    },
    60_000,
  );
  const { code, stderr } = await running;
  assert.ok(code === 0 || /^podway: [A-Z_]+: [^\n]+\n$/.test(stderr), stderr);
}

const isDaemon = ({ pid }: ProcessId): boolean => commandOf(pid).includes('lab/daemon/main');

test('killed at random moments of up and of down, nothing crosses and nothing is left', {
  skip,
}, async () => {
  const seed = Date.now() % 1_000_000;
  const random = seeded(seed);
  const below = (n: number) => Math.floor(random() * n);
  const done: string[] = [];
  try {
    for (let step = 0; step < STEPS; step++) {
      const lab = LABS[below(LABS.length)]!;
      const what = ['up', 'killed up', 'killed up', 'down', 'two downs', 'killed down'][below(6)]!;
      const moment = what === 'killed up' ? 1 + below(24) : what === 'killed down' ? 0.02 + random() / 2 : 0;
      done.push(`${what} ${lab} ${moment}`);
      await apart(lab, async () => {
        if (what === 'up') return up(lab);
        if (what === 'killed up') return killedUp(lab, moment);
        if (what === 'down') return down(lab);
        if (what === 'two downs') {
          for (const end of await Promise.all([1, 2].map(() => machine.podway('lab', 'down', '--lab', lab))))
            assert.equal(end.code, 0, told(['lab', 'down'], end));
          return goneIs(lab, []);
        }
        await machine.run([
          'timeout',
          '-s',
          'KILL',
          String(moment),
          PODWAY,
          'lab',
          'down',
          '--lab',
          lab,
          '--quiet',
        ]);
      });
    }
    for (const lab of LABS) await apart(lab, () => down(lab));
    await machine.isAgain(clean);
  } catch (error) {
    throw new Error(`seed ${seed}, after ${done.join('; ')}: ${(error as Error).message}`, { cause: error });
  }
});
