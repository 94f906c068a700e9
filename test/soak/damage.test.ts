// What a node's agent keeps on disk is lost at random moments while pods come and go, and the agent is killed: no address
// is had twice, no pod that runs is without its network, and nothing is left in the end. First each kind of damage by
// itself, with a pod that was there and one that comes after.
// PODWAY_SOAK=1: 500 random damages; else 10.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { TAG_INSTANCE } from '../../src/ipam/ec2/tags.ts';
import type { IpamNode, PodView } from '../../src/lab/daemon/protocol.ts';
import { Churn } from '../support/churn.ts';
import { damageAtRandom, JOURNAL_DAMAGES } from '../support/damage.ts';
import { heldTwice } from '../support/lab.ts';
import { cloudOf, sameTraces, tracesAtRest } from '../support/leaks.ts';
import { Prober } from '../support/prober.ts';
import { BACK_WITHIN_MS, full, NODES, skip, storm } from '../support/storm.ts';
import { eventually, seeded } from '../support/wait.ts';

const DAMAGES = full ? 500 : 10;
const seed = Number(process.env['PODWAY_SEED'] ?? Date.now() % 1_000_000);
/** A damage falls this long after the agent serves again, at most: journals are written meanwhile. */
const LATEST_MS = 600;
/** A pod whose DEL is done is gone from the API within this. */
const GONE_WITHIN_MS = 30_000;
/** A lost creation's ENI goes after the check that tells it, two looks 30 to 46 s apart and a grace of a minute. */
const AGREED_MS = 180_000;
/** The lab starts an agent again at once that has lived this long (ms). */
const LIFE_MS = 1_050;

const { lab, streams } = storm(`storm-d${process.pid}`, '2s');
let prober: Prober | undefined;
after(() => prober?.close());

/** Targets that do not answer a keeper. */
async function silentOf(targets: string[]): Promise<string[]> {
  if (!prober) {
    const keeper = (await lab.pods()).find((pod) => pod.name === 'keep-a');
    prober = new Prober(keeper!.netnsPath);
  }
  return prober.silent(targets);
}

const journalOf = (node: string): string => join(lab.paths.node(node).run, 'journal');
const shown = async (node: string): Promise<IpamNode> =>
  (await lab.control.call<IpamNode[]>('GET', `/v1/ipam?node=${node}`))[0]!;
/** One whose sandbox is gone already has no namespace and runs by the API's word alone. */
const runningOn = async (node: string): Promise<PodView[]> =>
  (await lab.pods()).filter((pod) => pod.node === node && pod.phase === 'Running' && pod.netns !== '');

/** Kills the node's agent and waits for the next one to serve. */
async function restart(node: string): Promise<void> {
  const from = lab.agentOf(node)?.pid;
  lab.killAgent(node);
  await eventually(`the agent of ${node} serves again`, async () => {
    const now = lab.agentOf(node)?.pid;
    return now !== undefined && now !== from && (await shown(node)) !== undefined;
  });
}

/** Running pods whose address has no lease, or that do not answer at their address. */
async function hurt(node: string, pods: PodView[]): Promise<string[]> {
  const { enis, astray = [] } = await shown(node);
  // Until EC2 has answered, no ENI is known that an address could be on.
  const addresses = [...enis.flatMap((eni) => eni.addresses), ...astray];
  const held = new Set(addresses.filter(({ state }) => state === 'held').map(({ ip }) => ip));
  const silent = new Set(await silentOf(pods.map((pod) => `${pod.ips[0]}:8080`)));
  const now = await lab.pods();
  const runs = (old: PodView) => now.some((pod) => pod.netns === old.netns && pod.phase === 'Running');
  return pods.filter(runs).flatMap(({ name, ips: [ip] }) => {
    if (!held.has(ip!)) return [`nobody holds ${ip} of ${name}`];
    return silent.has(`${ip}:8080`) ? [`${name} does not answer at ${ip}`] : [];
  });
}

/** Asserts that pods that ran before and still run have their address and answer at it; no two share one. */
async function intact(node: string, before: PodView[], what: string): Promise<void> {
  const first = await hurt(node, before);
  // One that is being deleted runs, by the API's word, for a moment after its DEL.
  const lasts = async () => (await hurt(node, before)).filter((one) => first.includes(one));
  if (first.length > 0)
    await eventually(
      `${what}: ${first.join('; ')}`,
      async () => (await lasts()).length === 0,
      GONE_WITHIN_MS,
    );
  const running = (await lab.pods()).filter((pod) => pod.phase === 'Running');
  const ips = running.flatMap((pod) => pod.ips);
  assert.equal(new Set(ips).size, ips.length, `${what}: two pods have one address: ${ips}`);
  assert.deepEqual(heldTwice(await lab.show().catch(() => [])), [], what);
  assert.deepEqual(streams.broken(), [], what);
}

const lossLines = (node: string): number =>
  readFileSync(lab.paths.node(node).agentLog, 'utf8').split('"loss":').length - 1;

test('each kind of damage: who runs keeps its network, who comes gets another address', {
  skip,
  timeout: 600_000,
}, async () => {
  const random = seeded(seed);
  const kinds = Object.entries(JOURNAL_DAMAGES);
  const inTurn = async (node: string, place: number) => {
    for (const [index, [what, damage]] of kinds.entries()) {
      if (index % NODES.length !== place) continue;
      const [old, young] = [`old-${index}`, `young-${index}`];
      await lab.run(old, node);
      const running = await runningOn(node);
      const told = lossLines(node);
      damage(journalOf(node), random);
      await restart(node);
      await intact(node, running, what);
      const { ips } = await lab.run(young, node);
      assert.ok(!running.some((pod) => pod.ips.includes(ips[0]!)), `${what}: ${ips[0]} is had twice`);
      await streams.alive();
      // What a stale record names and EC2 does not have goes at the second describe, 31 s after the first.
      await lab.agreed(AGREED_MS);
      assert.ok(lossLines(node) > told, `${what}: nothing was told`);
      await lab.remove([old, young]);
      await restart(node);
      assert.equal(lossLines(node), told + 1, `${what}: the journal is not whole again`);
    }
  };
  await Promise.all(NODES.map(inTurn));
});

test('a link of the version before holds its address, is told, and goes by its DEL', {
  skip,
  timeout: 120_000,
}, async () => {
  const [node] = NODES as [string];
  const { ips } = await lab.run('earlier', node);
  const { netnsPath } = (await lab.status()).nodes.find(({ name }) => name === node)!;
  const ip = (...args: string[]) =>
    execFileSync('nsenter', [`--net=${netnsPath}`, '--', 'ip', ...args], { encoding: 'utf8' });
  const link = /dev (pw[0-9a-f]+)/.exec(ip('route', 'show', 'table', 'all', ips[0]!))![1]!;
  ip('link', 'set', link, 'alias', '');
  rmSync(journalOf(node));
  await restart(node);
  await eventually('ipam check tells it', async () =>
    (await lab.check()).differences.some(({ object }) => object === `${node}: ${link}`),
  );
  assert.deepEqual(await silentOf([`${ips[0]}:8080`]), []);
  const other = await lab.run('younger', node);
  assert.notDeepEqual(other.ips, ips);
  await lab.remove(['earlier', 'younger']);
  // DEL answers when the link is down; the link itself goes in a group a moment later.
  await eventually('its link is gone', () => !ip('link').includes(link));
  await lab.agreed(AGREED_MS);
});

test('an ENI whose record is lost, and nothing else, is deleted soon after ipam check has told it', {
  skip: skip || (!full && 'takes a minute and a half'),
  timeout: 300_000,
}, async () => {
  const [node] = NODES as [string];
  const cloud = await cloudOf(lab);
  const instanceId = (await lab.status()).nodes.find(({ name }) => name === node)!.instanceId;
  await lab.agreed(AGREED_MS);
  await restart(node);
  const [primary] = await cloud.describeNetworkInterfaces({ kind: 'instance', instanceId });
  const { id } = await cloud.createNetworkInterface({
    ...{ subnetId: primary!.subnetId, groupIds: [], description: '', secondaryCount: 1 },
    ...{ tags: { [TAG_INSTANCE]: instanceId }, clientToken: `lost-${process.pid}` },
  });
  const told = (await lab.check()).differences;
  assert.deepEqual(
    told.map(({ object }) => object),
    [`${node}: ${id}`],
  );
  await lab.agreed(AGREED_MS);
  await eventually('EC2 has it no more', async () => {
    const left = await cloud.describeNetworkInterfaces({ kind: 'instance', instanceId });
    const loose = await cloud.describeNetworkInterfaces({
      kind: 'tags',
      tags: { [TAG_INSTANCE]: instanceId },
    });
    return ![...left, ...loose].some((eni) => eni.id === id);
  });
});

test(`${DAMAGES} random damages under churn`, { skip, timeout: 3_600_000 }, async (t) => {
  const cloud = await cloudOf(lab);
  const before = await tracesAtRest(lab, cloud, BACK_WITHIN_MS);
  const random = seeded(seed + 1);
  let churn: Churn | undefined;
  let done = 0;
  const kinds = new Map<string, number>();
  const newChurn = () =>
    new Churn({ lab, nodes: NODES, workers: 4, each: 5, random, prefix: `d${done}`, tolerant: true });

  async function onNode(node: string, upTo: number): Promise<void> {
    while (done < upTo) {
      const number = done++;
      // The moment is what this test varies: no condition names it.
      await sleep(random() * LATEST_MS);
      const running = await runningOn(node);
      const journal = journalOf(node);
      if (!existsSync(journal)) await eventually('the journal is there', () => existsSync(journal));
      const what = damageAtRandom(lab.paths.node(node).run, random);
      kinds.set(what, (kinds.get(what) ?? 0) + 1);
      await sleep(random() * 50);
      const began = performance.now();
      await restart(node);
      await intact(node, running, `seed ${seed}, damage ${number} (${what}) on ${node}`);
      await sleep(Math.max(0, LIFE_MS - (performance.now() - began)));
    }
  }

  try {
    while (done < DAMAGES) {
      churn = newChurn();
      const upTo = Math.min(DAMAGES, done + 50);
      await Promise.all(NODES.map((node) => onNode(node, upTo)));
      await churn.stop();
      assert.deepEqual(heldTwice(await lab.agreed(AGREED_MS)), []);
      await streams.alive();
      t.diagnostic(`${done} damages; ${churn.made} pods made and ${churn.deleted} deleted meanwhile`);
    }
  } finally {
    churn?.abandon();
  }
  await sameTraces(lab, cloud, before, BACK_WITHIN_MS);
  await streams.alive();
  t.diagnostic(
    [...kinds]
      .map(([kind, count]) => `${kind}: ${count}`)
      .sort()
      .join('; '),
  );
  t.diagnostic(`seed ${seed}; slowest echo of the streams: ${streams.worstMs()} ms`);
});
