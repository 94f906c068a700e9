// memory-families: resident memory of a node's agent with pods of IPv4, of both families and of IPv6, in labs of one node
// that are up together. Each agent is started anew first, so that none of them has just filled the compile cache.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { labPaths } from '../src/lab/daemon/paths.ts';
import { treeRss } from './agent.ts';
import { oneSubnet, podway, scratch } from './run.ts';
import { type BenchResult, round } from './stats.ts';

const FAMILIES = ['ipv4', 'dual', 'ipv6'] as const;
const PODS = [2, 30];
const READY_MS = 60_000;
const labOf = (families: string): string => `bench-m-${families}`;
const pidOf = (families: string): number =>
  JSON.parse(readFileSync(labPaths(labOf(families)).node('node-1').agentPid, 'utf8')).pid;

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = performance.now() + READY_MS;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`${what}: not within ${READY_MS / 1000} s`);
    await sleep(100);
  }
}

const running = (families: string): number =>
  (JSON.parse(podway('pod', 'list', '--lab', labOf(families), '-o', 'json')) as { phase: string }[]).filter(
    ({ phase }) => phase === 'Running',
  ).length;

export async function bench(): Promise<BenchResult[]> {
  const { dir, remove } = scratch();
  try {
    const file = join(dir, 'lab.yaml');
    writeFileSync(file, oneSubnet('{ name: node-1, type: m5.4xlarge, subnet: a }'));
    const settings = ['cooldown=0s', 'warm=5'].flatMap((one) => ['--set', one]);
    for (const families of FAMILIES)
      podway(
        'lab',
        'up',
        '--lab',
        labOf(families),
        '-f',
        file,
        ...settings,
        '--set',
        `families=${families}`,
        '--quiet',
      );
    for (const families of FAMILIES) {
      const before = pidOf(families);
      process.kill(before, 'SIGKILL');
      await until('the agent is started again', () => pidOf(families) !== before);
    }
    const rss: number[][] = FAMILIES.map(() => []);
    let there = 0;
    for (const wanted of PODS) {
      for (const families of FAMILIES) {
        for (let i = there; i < wanted; i++)
          podway('pod', 'run', `m-${i}`, '--lab', labOf(families), '--no-wait', '--quiet');
        await until(`${wanted} pods run`, () => running(families) >= wanted);
      }
      there = wanted;
      for (const [i, families] of FAMILIES.entries()) rss[i]!.push(treeRss(pidOf(families)) / 2 ** 20);
    }
    return [
      {
        title: "memory-families: resident memory of a node's agent, MiB, warm compile cache",
        head: ['families', ...PODS.map((count) => `${count} pods`)],
        rows: FAMILIES.map((families, i) => [families, ...rss[i]!.map((mib) => round(mib, 1))]),
        numbers: Object.fromEntries(FAMILIES.map((families, i) => [families, rss[i]])),
      },
    ];
  } finally {
    for (const families of FAMILIES) podway('lab', 'down', '--lab', labOf(families), '--quiet');
    remove();
  }
}
