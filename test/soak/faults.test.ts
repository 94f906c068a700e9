// Storms of faults: errors, lost requests and answers, delays, stale and empty answers of random EC2 actions and of IMDS,
// while pods come and go and agents are killed. When the faults end, EC2 and the pools agree to the last address, no
// address is held twice, `ipam check` is clean, and the streams of the pods that nobody touched have gone on.
// PODWAY_SOAK=1: 200 seeds; else ten. PODWAY_SEED=N: from that seed; PODWAY_SEEDS=N: so many.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatIp } from '../../src/base/ip.ts';
import type { Cloud } from '../../src/cloud/port.ts';
import type { FaultEffect, FaultRequest } from '../../src/lab/vpc/faults/index.ts';
import { heldTwice } from '../support/lab.ts';
import { cloudOf } from '../support/leaks.ts';
import { BACK_WITHIN_MS, full, KEEPERS, NODES, skip, storm } from '../support/storm.ts';
import { eventually, seeded } from '../support/wait.ts';

const FIRST = Number(process.env['PODWAY_SEED'] ?? 1);
const SEEDS = Number(process.env['PODWAY_SEEDS'] ?? (full ? 200 : 10));
/** What happens in one storm, and how far apart (ms). */
const STEPS = 14;
const STEP_MS = 200;
/** Pods of a storm at once, on a node with room for 27. */
const MOST_PODS = 24;

const { lab, streams } = storm(`storm-f${process.pid}`, '2s');

type Random = () => number;
const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random() * list.length)]!;

const ACTIONS = [
  'AssignPrivateIpAddresses',
  'UnassignPrivateIpAddresses',
  'CreateNetworkInterface',
  'AttachNetworkInterface',
  'ModifyNetworkInterfaceAttribute',
  'DetachNetworkInterface',
  'DeleteNetworkInterface',
  'DescribeNetworkInterfaces',
  'DescribeSubnets',
  'Describe*',
  '*',
];
const CODES = [
  'InternalError',
  'Unavailable',
  'RequestLimitExceeded',
  'UnauthorizedOperation',
  'InsufficientFreeAddressesInSubnet',
  'InvalidNetworkInterfaceID.NotFound',
  'InvalidParameterValue',
  'IncorrectState',
  'SomethingNew',
];
const PATHS = ['*', 'token', 'network/interfaces/macs', 'network/interfaces/macs/*', 'mac', 'iam/*'];

function randomFault(random: Random): FaultRequest {
  const imds = random() < 0.25;
  const delay = (): FaultEffect => ({ kind: 'delay', ms: 50 + Math.floor(random() * 900) });
  const effect: FaultEffect = pick<() => FaultEffect>(random, [
    () => ({ kind: 'error', code: imds ? pick(random, ['404', '500', '503', '429']) : pick(random, CODES) }),
    () => ({ kind: 'drop-answer' }),
    () => ({ kind: 'drop-request' }),
    delay,
    () => ({ kind: 'stale', ms: 1000 + Math.floor(random() * 9000) }),
    () => (imds ? { kind: 'empty' } : { kind: 'drop-answer' }),
  ])();
  // Only what is read has a past.
  const actions =
    effect.kind === 'stale' ? ACTIONS.filter((action) => action.startsWith('Describe')) : ACTIONS;
  return {
    action: imds ? `imds:${pick(random, PATHS)}` : pick(random, actions),
    effect,
    rate: 0.15 + random() * 0.6,
    seed: Math.floor(random() * 2 ** 32),
    ...(random() < 0.3 ? { node: pick(random, NODES) } : {}),
  };
}

/** One storm; what it did, in words. Pods that it made are gone again when it ends. */
async function rage(seed: number): Promise<string> {
  const random = seeded(seed);
  const faults = Array.from({ length: 3 + Math.floor(random() * 4) }, () => randomFault(random));
  for (const fault of faults) await lab.control.call('POST', '/v1/faults', fault);
  const alive: string[] = [];
  const done: string[] = [];
  const calls: Promise<unknown>[] = [];
  let made = 0;
  for (let step = 0; step < STEPS; step++) {
    const dice = random();
    if (dice < 0.55 && alive.length < MOST_PODS) {
      for (let more = 1 + Math.floor(random() * 4); more > 0; more--) {
        const name = `f${seed}-${made++}`;
        alive.push(name);
        const request = { namespace: 'default', name, node: pick(random, NODES), labels: {}, command: [] };
        calls.push(
          lab.control.follow('POST', '/v1/pods', { ...request, timeoutMs: 60_000, wait: false }, () => {}),
        );
      }
      done.push(`${made} pods`);
    } else if (dice < 0.85 && alive.length > 0) {
      const gone = alive.splice(Math.floor(random() * alive.length), 1 + Math.floor(random() * 3));
      // It was asked for, and may not be there yet.
      await Promise.allSettled(calls);
      calls.push(lab.remove(gone));
    } else {
      const node = pick(random, NODES);
      lab.killAgent(node);
      done.push(`kill ${node}`);
    }
    await sleep(STEP_MS);
  }
  await Promise.allSettled(calls);
  await lab.control.call('POST', '/v1/faults/clear', {});
  if (alive.length > 0) await lab.remove(alive, 120_000);
  const words = faults.map(({ action, effect, rate }) => {
    const what =
      'code' in effect ? effect.code : 'ms' in effect ? `${effect.kind} ${effect.ms}` : effect.kind;
    return `${action} ${what} ${rate.toFixed(2)}`;
  });
  return `${words.join(', ')}; ${done.join(', ')}`;
}

/** What EC2 has for the lab's nodes and the pools do not, and the other way round. */
async function disagreements(cloud: Cloud): Promise<string[]> {
  const [shown, status] = await Promise.all([lab.show(), lab.status()]);
  const known = new Set<string>();
  const pooled = new Set<string>();
  for (const eni of shown.flatMap((node) => node.enis)) {
    known.add(eni.id);
    for (const { ip } of eni.addresses) pooled.add(ip);
  }
  const found: string[] = [];
  const given = new Set<string>();
  for (const subnet of status.vpcs.flatMap((vpc) => vpc.subnets)) {
    for (const eni of await cloud.describeNetworkInterfaces({ kind: 'subnet', subnetId: subnet.id })) {
      if (!known.has(eni.id)) found.push(`${eni.id} (${eni.status}) is in no pool`);
      for (const { ip, primary } of eni.addresses) {
        if (primary) continue;
        given.add(formatIp(ip));
        if (!pooled.has(formatIp(ip))) found.push(`${formatIp(ip)} of ${eni.id} is in no pool`);
      }
    }
  }
  for (const ip of pooled) if (!given.has(ip)) found.push(`${ip} is in a pool and on no ENI`);
  return found;
}

async function calm(cloud: Cloud): Promise<void> {
  let left: string[] = [];
  await eventually(
    'EC2 and the pools agree',
    async () => {
      left = await disagreements(cloud);
      return left.length === 0;
    },
    BACK_WITHIN_MS,
  ).catch((error: Error) => assert.fail(`${error.message}\n${left.join('\n')}`));
  const shown = await lab.agreed(BACK_WITHIN_MS);
  assert.deepEqual(heldTwice(shown), [], 'an address is held twice');
  for (const node of shown) assert.equal(node.totals.held, KEEPERS[node.node], `${node.node} holds more`);
  await streams.alive();
}

test(`${SEEDS} storms of faults leave nothing behind`, { skip, timeout: 7_200_000 }, async (t) => {
  const cloud = await cloudOf(lab);
  const took: number[] = [];
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    const began = performance.now();
    const what = await rage(seed);
    const raged = performance.now();
    try {
      await calm(cloud);
    } catch (error) {
      throw new Error(`PODWAY_SEED=${seed}: ${(error as Error).message}\n${what}`, { cause: error });
    }
    took.push(performance.now() - raged);
    t.diagnostic(
      `seed ${seed}: ${((raged - began) / 1000).toFixed(1)} s, calm after ${((performance.now() - raged) / 1000).toFixed(1)} s: ${what}`,
    );
  }
  t.diagnostic(`longest calm after ${(Math.max(...took) / 1000).toFixed(1)} s`);
});
