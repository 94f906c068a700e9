// An agent's upgrade under traffic: a second agent starts while the first serves, and takes over its sockets and journal.
// No ADD or DEL fails meanwhile, also none that waits for an ENI that the first has begun to make; no stream stops. When
// the successor is gone, the program that it replaced makes room for the supervisor's next one.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { after, afterEach, before, type TestContext, test } from 'node:test';
import { CoreV1Api, KubeConfig } from '@kubernetes/client-node';
import { AGENT_NODE_FLAGS } from '../../src/base/node-flags.ts';
import { netnsPath } from '../../src/lab/daemon/paths.ts';
import { Churn } from '../support/churn.ts';
import { heldTwice, TestLab } from '../support/lab.ts';
import { Streams } from '../support/streams.ts';
import { eventually, seeded } from '../support/wait.ts';
import { ROOT, skip } from './command.ts';

const NODE = 'node-1';
/** More than the primary ENI takes, so that some wait for another one. */
const BURST = 14;
const ROUNDS = 3;

const lab = new TestLab(`e2e-upgr-${process.pid}`, {
  nodes: 2,
  set: ['cooldown=0s', 'idleRelease=5s', 'ec2Latency=realistic'],
});
const streams = new Streams();
let churn: Churn | undefined;
const agents: Successor[] = [];

/** An agent beside the lab's own, with the same configuration. */
class Successor {
  readonly #child: ChildProcess;
  log = '';

  constructor(node: string) {
    const program = [process.execPath, ...AGENT_NODE_FLAGS, join(ROOT, 'src/agent/main.ts')];
    const command = [...program, '--config', lab.paths.node(node).agentConfig];
    this.#child = spawn('nsenter', [`--net=${netnsPath(lab.paths.netns(node))}`, '--', ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout!, this.#child.stderr!])
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.log += text;
      });
  }

  says(text: string): Promise<boolean> {
    return eventually(`an agent says "${text}"`, () => {
      assert.equal(this.#child.exitCode, null, this.log);
      return this.log.includes(text);
    });
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGTERM');
    await ended;
  }
}

async function failures(): Promise<string[]> {
  const config = new KubeConfig();
  config.loadFromFile(lab.paths.kubeconfig);
  const { items } = await config.makeApiClient(CoreV1Api).listEventForAllNamespaces();
  return items.filter((one) => /^Failed/.test(one.reason ?? '')).map((one) => `${one.reason} ${one.message}`);
}

before(async () => {
  if (skip) return;
  await lab.up();
  const [a, b, c] = await Promise.all([
    lab.run('keep-a', NODE),
    lab.run('keep-b', NODE),
    lab.run('keep-c', 'node-2'),
  ]);
  await streams.open(a.netnsPath, [`${b.ips[0]}:8080`, `${c.ips[0]}:8080`, '203.0.113.10:8080']);
  await streams.open(c.netnsPath, [`${a.ips[0]}:8080`]);
});
afterEach((t) => {
  if (!skip && !(t as TestContext).passed)
    console.error(lab.lastWords(), ...agents.map((one) => `\n${one.log}`));
});
after(async () => {
  churn?.abandon();
  streams.close();
  await Promise.all(agents.map((one) => one.end()));
  if (!skip) await lab.down();
});

test('agents take over from each other while pods come, go and wait', { skip }, async () => {
  churn = new Churn({ lab, nodes: [NODE], workers: 2, each: 2, random: seeded(1) });
  await eventually('pods come and go', () => churn!.made > 4);
  for (let round = 0; round < ROUNDS; round++) {
    const burst = Array.from({ length: BURST }, (_, i) => `burst-${round}-${i}`);
    const running = Promise.all(burst.map((name) => lab.run(name, NODE)));
    const next = new Successor(NODE);
    agents.push(next);
    await next.says('took over from the agent before');
    await next.says('the agent is ready');
    await running;
    const made = churn.made;
    await eventually('pods come and go with it', () => churn!.made > made + 2);
    await streams.alive();
    await lab.remove(burst);
  }
  await churn.stop();
  assert.deepEqual(await failures(), []);
  assert.deepEqual(heldTwice(await lab.agreed()), []);
});

test('when the successors are gone, the supervisor’s next agent serves', { skip }, async () => {
  const pid = lab.agentOf(NODE)?.pid;
  for (const one of agents) await one.end();
  await eventually('another agent of the supervisor’s', () => {
    const now = lab.agentOf(NODE)?.pid;
    return now !== undefined && now !== pid;
  });
  await lab.run('later', NODE);
  assert.deepEqual(heldTwice(await lab.agreed()), []);
  await streams.alive();
});
