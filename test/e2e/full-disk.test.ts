// The run directory of a node's agent is full, then read-only: no pod loses its network, ADD and STATUS say why and where,
// DEL works, and with room again all goes on as if nothing had been. Then others take it away from under the agent, which
// makes again what it needs of it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFileSync, cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { TestLab } from '../support/lab.ts';
import { Prober } from '../support/prober.ts';
import { eventually } from '../support/wait.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root for network namespaces';
const NODE = 'node-1';
// A type whose first ENI has room for every pod of the test: an ENI more would be the first to miss the disk.
const lab = new TestLab(`e2e-disk-${process.pid}`, {
  nodes: 1,
  instanceType: 'm5.4xlarge',
  set: ['cooldown=1s'],
});
const run = (): string => lab.paths.node(NODE).run;
let mounts = 0;
let prober: Prober | undefined;

const sh = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: 'utf8' });
function mount(...args: string[]): void {
  sh('mount', ...args);
  mounts++;
}
function unmount(): void {
  sh('umount', '-l', run());
  mounts--;
}

async function restart(change: () => void = () => {}): Promise<void> {
  const from = lab.agentOf(NODE)?.pid;
  process.kill(from!, 'SIGSTOP');
  change();
  lab.killAgent(NODE);
  await eventually('another agent runs', () => {
    const now = lab.agentOf(NODE)?.pid;
    return now !== undefined && now !== from;
  });
}

const readyz = (): string =>
  sh('curl', '-s', '--unix-socket', lab.paths.node(NODE).apiSocket, 'http://agent/readyz').trim();
const running = async () => (await lab.pods()).filter((pod) => pod.phase === 'Running');

async function allAnswer(): Promise<void> {
  const pods = await running();
  prober ??= new Prober(pods[0]!.netnsPath);
  assert.deepEqual(await prober.silent(pods.map((pod) => `${pod.ips[0]}:8080`)), []);
}

before(async () => {
  if (skip) return;
  await lab.up();
  await Promise.all(['a', 'b', 'c'].map((name) => lab.run(name, NODE)));
});
after(async () => {
  prober?.close();
  while (mounts > 0) unmount();
  if (!skip) await lab.down();
});

test('a full directory', { skip, timeout: 280_000 }, async () => {
  const kept = mkdtempSync(join(tmpdir(), 'podway-full-'));
  await restart(() => {
    for (const name of ['journal', 'sysctls.json', 'vpc.json', 'queue'])
      cpSync(join(run(), name), join(kept, name), { recursive: true });
    mount('-t', 'tmpfs', '-o', 'size=64k,mode=700', 'podway-test', run());
    cpSync(kept, run(), { recursive: true });
  });
  rmSync(kept, { recursive: true });
  await lab.agreed();
  const filler = join(run(), 'filler');
  const fill = () => {
    try {
      for (;;) appendFileSync(filler, Buffer.alloc(1_024));
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
    }
  };
  const why = new RegExp(`${join(run(), 'journal')} cannot be written: ENOSPC \\(no space left on device\\)`);
  // What is left of the journal's last page takes a few more (4096 bytes, a hold is about 560). Filled again each time,
  // because the agent frees pages meanwhile, which the journal's next one may be: its rehearsal ends a moment after the start.
  const refused = async (names: string) => {
    for (let more = 0; ; more++) {
      assert.ok(more < 20, 'the journal still takes holds');
      fill();
      const name = `${names}-${more}`;
      const request = { namespace: 'default', name, node: NODE, labels: {}, command: [], timeoutMs: 0 };
      await lab.control.follow('POST', '/v1/pods', { ...request, wait: false }, () => {});
      const { phase, message } = await eventually(`${name} runs, or is told why not`, async () => {
        const pod = (await lab.pods()).find((one) => one.name === name);
        return (pod?.phase === 'Running' || why.test(pod?.message?.text ?? '')) && pod;
      });
      if (phase === 'Running') continue;
      assert.equal(message!.text.split('ENOSPC').length, 2, message!.text);
      return;
    }
  };
  await refused('more');
  assert.match(readyz(), why);
  await lab.remove(['a']);
  assert.ok(!(await running()).some((pod) => pod.name === 'a'));
  await allAnswer();
  await restart();
  // The rest of the page may have taken the DEL's record: then it learns of the disk by the next ADD.
  await eventually('the next agent serves', () => readyz() === 'ok' || why.test(readyz()));
  await refused('next');
  assert.match(readyz(), why);
  await allAnswer();
  rmSync(filler);
  await eventually('there is room', () => readyz() === 'ok');
  await lab.run('after', NODE);
  await lab.agreed();
  await allAnswer();
});

test('a read-only directory', { skip, timeout: 280_000 }, async () => {
  const said = () =>
    lab.lastWords(200).split('agent.sock cannot be written: EROFS (read-only file system)').length;
  await restart(() => {
    mount('--bind', run(), run());
    sh('mount', '-o', 'remount,bind,ro', run());
  });
  await eventually('the agent says why it cannot start', () => said() > 1);
  await allAnswer();
  unmount();
  await eventually('the agent serves', async () => (await lab.show()).length === 1);
  await lab.run('late', NODE);
  await lab.agreed();
  await allAnswer();
});

test('sockets, journal and directory that others take away under the agent', {
  skip,
  timeout: 280_000,
}, async () => {
  const pid = lab.agentOf(NODE)!.pid;
  const losses = () => lab.lastWords(2_000).split('"loss":').length;
  const before = losses();
  const steps: [string, () => void][] = [
    ['sockets', () => void ['agent.sock', 'api.sock'].map((name) => rmSync(join(run(), name)))],
    // What was there before the first test is there again.
    ['mount', unmount],
    ['directory', () => rmSync(run(), { recursive: true })],
    ['journal', () => rmSync(join(run(), 'journal'))],
  ];
  for (const [what, take] of steps) {
    await lab.run(`before-${what}`, NODE);
    take();
    await eventually(`${what}: the agent makes it again`, () =>
      ['agent.sock', 'api.sock', 'journal'].every((name) => existsSync(join(run(), name))),
    );
    await lab.run(`after-${what}`, NODE);
    await lab.remove([`before-${what}`]);
    await lab.agreed();
    await allAnswer();
  }
  assert.equal(lab.agentOf(NODE)!.pid, pid, 'the agent has not ended');
  await restart();
  await lab.agreed();
  await allAnswer();
  assert.equal(losses(), before, 'the next agent finds a whole journal');
});
