// A lab whose policies, labels and pods change at random, all pairs compared with the objects at each rest: first by
// itself, then with faults. Agents are killed at any moment of a change or held still, tables deleted or all rules
// flushed, the lab's process killed and with it the API and its watches. All the while one pod may not reach another,
// and a connection that is allowed goes on.
// PODWAY_SOAK=1: 1,000 changes and 100 rounds; else 50 and 4.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Lab } from '../e2e/lab.ts';
import { agentsBack, killDaemon, signalAgents } from '../support/agents.ts';
import { IN, ingress, pod, policy } from '../support/policy-case.ts';
import { PORTS, PolicyGround } from '../support/policy-ground.ts';
import { PROTOCOLS, probe } from '../support/policy-probes.ts';
import { RandomChanges } from '../support/policy-random.ts';
import { Talk } from '../support/policy-talk.ts';
import { full, skip } from '../support/storm.ts';
import { seeded } from '../support/wait.ts';

const seed = Number(process.env['PODWAY_SEED'] ?? Date.now() % 1_000_000);
const CHANGES = full ? 1_000 : 50;
/** Changes that meet each other before a rest, at most. */
const BURST = 12;
const ROUNDS = full ? 100 : 4;
const NODES = ['node-1', 'node-2'];
/** Ms after a change at which a fault falls, at most. */
const WITHIN_MS = 60;
/** Ms that an agent is held still, at most. */
const HELD_MS = 3_000;
/** Ms from a fault to packets that do as the objects say: agents start again in it, on a busy machine. */
const CONVERGES_MS = 60_000;
/** Of each agent's log. */
const LINES = 15;
const FAULTS = ['kill', 'flush', 'api', 'hold', 'kill', 'delete'] as const;

/** What the agents say of themselves, for who looks into a failure. */
async function said(lab: Lab): Promise<string> {
  const { stdout, stderr } = await lab.podway('policy', 'show');
  const logs = await Promise.all(
    NODES.map(async (node) => (await lab.podway('lab', 'logs', node)).stdout.split('\n').slice(-LINES)),
  );
  return [stdout, stderr, ...logs.flat()].join('\n');
}

describe(`policies that change at random, seed ${seed}`, { skip, timeout: 1_800_000 }, () => {
  const lab = new Lab('pol-chg');
  const ground = new PolicyGround(lab, { namespaces: ['x', 'y', 'z', 'guard'], convergesMs: CONVERGES_MS });
  const random = seeded(seed);
  const guard = policy('guard', 'guard', {
    podSelector: pod('b'),
    policyTypes: IN,
    ingress: [ingress([{ podSelector: pod('a') }])],
  });
  const changes = new RandomChanges(ground, random, [guard]);
  let talk: Talk | undefined;
  const rests = (what: string) =>
    ground
      .expect(what, PROTOCOLS, PORTS)
      .catch(async (error: Error) => assert.fail([error.message, await said(lab), changes.text].join('\n')));

  before(async () => {
    await lab.up();
    await ground.start();
    await ground.policies([guard]);
    await rests('guarded');
  });
  after(async () => {
    talk?.end();
    ground.close();
    await lab.down();
  });

  it(`after ${CHANGES} changes, at each rest, the packets do as the objects say`, async () => {
    for (let made = 0; made < CHANGES; ) {
      const burst: string[] = [];
      for (let left = 1 + changes.below(BURST); left > 0 && made < CHANGES; left--, made++)
        burst.push(await changes.one());
      await rests(`after ${burst.join(', ')}`);
    }
  });

  it(`in ${ROUNDS} rounds of faults no forbidden packet arrives, no allowed connection ends`, async () => {
    ground.echoes = true;
    talk = new Talk(ground, 'guard/a', 'guard/b');
    await talk.says();
    ground.echoes = false;

    let isOver = false;
    let looks = 0;
    const forbidden: string[] = [];
    const to = ground.place('guard/b');
    const watch = (async () => {
      const asks = ['guard/c', 'x/a', 'x/b'].flatMap((key) =>
        to.ips.flatMap((address) =>
          PROTOCOLS.map((protocol) => ({ from: ground.place(key), to, address, protocol, port: 80 })),
        ),
      );
      for (; !isOver; looks++)
        for (const [at, came] of (await probe(asks)).entries())
          if (came) forbidden.push(`${asks[at]!.from.key} ${asks[at]!.protocol}`);
    })();
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const fault = FAULTS[round % FAULTS.length]!;
        const node = NODES[Math.floor(random() * NODES.length)]!;
        // Awaited below: it must not be told as unhandled before.
        const change = changes.one();
        change.catch(() => {});
        await sleep(random() * WITHIN_MS);
        if (fault === 'kill') signalAgents(lab.name, [node], 'SIGKILL');
        else if (fault === 'hold') {
          signalAgents(lab.name, [node], 'SIGSTOP');
          // A change that makes or ends a pod of the node waits for the agent that is held.
          const both = change.then(() => changes.one());
          await Promise.race([both, sleep(HELD_MS)]).finally(() => signalAgents(lab.name, [node], 'SIGCONT'));
          await both;
        } else if (fault === 'api') {
          await change;
          killDaemon(lab.name);
          await lab.up();
        } else {
          const what =
            fault === 'delete' ? ['delete', 'table', 'inet', 'podway-policy'] : ['flush', 'ruleset'];
          await lab.podway('lab', 'exec', node, '--', 'nft', ...what);
        }
        await change;
        await changes.one();
        await agentsBack(lab.name, NODES);
        await rests(`round ${round}, ${fault} of ${node}`);
        await talk.says();
      }
    } finally {
      isOver = true;
      await watch;
    }
    assert.deepEqual(forbidden, []);
    assert.equal(talk.ended, false);
    assert.ok(looks > ROUNDS, `${looks} looks`);
  });
});
