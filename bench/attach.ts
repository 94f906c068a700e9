// attach: ADD and DEL by exec of the plugin against Debian's ptp with host-local, rounds interleaved, same launcher.
// The lab runs one m5.4xlarge node with cooldown 0 (said in the title): every address may be given again at once.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { podway, run, runAsync, scratch } from './run.ts';
import { type BenchResult, round, type Summary, summarise } from './stats.ts';

const LAB = 'bench-attach';
const HOST = 'podway-bench-host';
const SANDBOXES = 50;
const ROUNDS = 5;
/** Rounds that are not counted, of both sides: an agent runs for weeks, and what its first pods cost is the compiler's work. */
const WARM_UP = 2;
const PEER_DIR = '/usr/lib/cni';

type Call = { id: string; exit: number; ms: number };
type Batch = { calls: Call[]; totalMs: number };
type Side = { name: string; plugin: string; config: string; linksIn: string; netns?: string };

const ms = (nanoseconds: string) => Number(nanoseconds) / 1e6;

function parseLaunch(text: string): Batch {
  const calls: Call[] = [];
  let totalMs = 0;
  for (const line of text.trim().split('\n')) {
    const [id = '', a = '0', b = '0'] = line.split(' ');
    if (id === 'total') totalMs = ms(a);
    else calls.push({ id, exit: Number(a), ms: ms(b) });
  }
  return { calls, totalMs };
}

function launcherArgs(
  side: Side,
  launcher: string,
  verb: string,
  atOnce: number,
  out: string,
): [string, string[]] {
  const args = [side.plugin, verb, String(atOnce), side.config, 'eth0', out];
  return side.netns ? ['nsenter', [`--net=/run/netns/${side.netns}`, launcher, ...args]] : [launcher, args];
}

function check(side: Side, verb: string, batch: Batch, out: string): Batch {
  const failed = batch.calls.find((call) => call.exit !== 0);
  if (failed)
    throw new Error(`${side.name} ${verb} of ${failed.id} failed: ${readFileSync(out, 'utf8').slice(-2000)}`);
  return batch;
}

/** Waits until no host link of a pod is left in the side's namespace, in milliseconds from now. */
async function untilLinksGone(side: Side): Promise<number> {
  const started = performance.now();
  const deadline = started + 30_000;
  while (
    /^(pw|veth)/m.test(await runAsync('ip', ['-n', side.linksIn, '-br', 'link', 'show', 'type', 'veth']))
  ) {
    if (performance.now() > deadline) throw new Error(`links of ${side.name} are left after 30 s`);
  }
  return performance.now() - started;
}

export async function bench(): Promise<BenchResult[]> {
  if (!existsSync(join(PEER_DIR, 'ptp')))
    throw new Error('the peer is missing: apt-get install containernetworking-plugins');
  const { dir, launcher, remove } = scratch();
  const sandboxes = Array.from({ length: SANDBOXES }, (_, i) => `podway-bench-${i}`);
  const cleanUp = () => {
    podway('lab', 'down', '--lab', LAB, '--quiet');
    for (const name of [HOST, ...sandboxes])
      if (existsSync(`/run/netns/${name}`)) run('ip', ['netns', 'del', name]);
    remove();
  };
  try {
    podway(
      'lab',
      'up',
      '--lab',
      LAB,
      '--nodes',
      '1',
      '--instance-type',
      'm5.4xlarge',
      '--set',
      'cooldown=0s',
      '--set',
      `warm=${SANDBOXES + 10}`,
      '--quiet',
    );
    const status = JSON.parse(podway('lab', 'status', '--lab', LAB, '-o', 'json'));
    const node = status.nodes[0];
    for (const name of [HOST, ...sandboxes]) run('ip', ['netns', 'add', name]);
    run('ip', ['-n', HOST, 'link', 'set', 'lo', 'up']);

    const list = JSON.parse(readFileSync(join(node.cniConfDir, '10-podway.conflist'), 'utf8'));
    const ourConfig = join(dir, 'podway.json');
    writeFileSync(ourConfig, JSON.stringify({ ...list.plugins[0], name: list.name, cniVersion: '1.0.0' }));
    const peerConfig = join(dir, 'ptp.json');
    mkdirSync(join(dir, 'host-local'));
    writeFileSync(
      peerConfig,
      JSON.stringify({
        cniVersion: '1.0.0',
        name: 'peer',
        type: 'ptp',
        mtu: 1500,
        ipam: {
          type: 'host-local',
          dataDir: join(dir, 'host-local'),
          ranges: [[{ subnet: '10.99.0.0/22' }]],
          routes: [{ dst: '0.0.0.0/0' }],
        },
      }),
    );
    const ours: Side = {
      name: 'podway',
      plugin: join(node.cniBinDir, 'podway-cni'),
      config: ourConfig,
      linksIn: node.netns,
    };
    const peer: Side = {
      name: 'ptp',
      plugin: join(PEER_DIR, 'ptp'),
      config: peerConfig,
      linksIn: HOST,
      netns: HOST,
    };
    process.env['CNI_PATH'] = PEER_DIR;

    let round_ = 0;
    const input = (count: number, tag: string) =>
      sandboxes
        .slice(0, count)
        .map((name) => `${tag} /run/netns/${name}`.replace(tag, `${tag}-${name}`))
        .join('\n');
    const call = (side: Side, verb: string, atOnce: number, count: number, tag: string): Batch => {
      const out = join(dir, `${side.name}-${round_++}.out`);
      const [command, args] = launcherArgs(side, launcher, verb, atOnce, out);
      return check(side, verb, parseLaunch(run(command, args, { input: input(count, tag) })), out);
    };

    const rows: (string | number)[][] = [];
    const numbers: Record<string, unknown> = {};
    for (const atOnce of [1, 8, 50]) {
      const samples = {
        podway: {
          add: [] as number[],
          del: [] as number[],
          addRate: [] as number[],
          delRate: [] as number[],
          gone: [] as number[],
        },
        ptp: {
          add: [] as number[],
          del: [] as number[],
          addRate: [] as number[],
          delRate: [] as number[],
          gone: [] as number[],
        },
      };
      for (let i = atOnce === 1 ? -WARM_UP : 0; i < ROUNDS; i++) {
        for (const side of i % 2 === 0 ? [ours, peer] : [peer, ours]) {
          const into = samples[side.name as 'podway' | 'ptp'];
          const tag = `c${atOnce}r${i}`;
          const add = call(side, 'ADD', atOnce, SANDBOXES, tag);
          const del = call(side, 'DEL', atOnce, SANDBOXES, tag);
          const gone = await untilLinksGone(side);
          if (i < 0) continue;
          into.add.push(...add.calls.map((c) => c.ms));
          into.addRate.push(add.calls.length / (add.totalMs / 1000));
          into.del.push(...del.calls.map((c) => c.ms));
          into.delRate.push(del.calls.length / ((del.totalMs + gone) / 1000));
          into.gone.push(gone);
        }
      }
      const a = { us: summarise(samples.podway.add), them: summarise(samples.ptp.add) };
      const d = { us: summarise(samples.podway.del), them: summarise(samples.ptp.del) };
      const rate = (list_: number[]) => summarise(list_).p50;
      const row = (verb: string, who: string, s: Summary, perSecond: number, gone: number | string) => [
        `${atOnce}`,
        verb,
        who,
        round(s.p50),
        round(s.p90),
        round(s.p99),
        Math.round(perSecond),
        gone,
      ];
      rows.push(
        row('ADD', 'podway', a.us, rate(samples.podway.addRate), ''),
        row('ADD', 'ptp', a.them, rate(samples.ptp.addRate), ''),
      );
      rows.push([
        `${atOnce}`,
        'ADD',
        'podway / ptp',
        round(a.us.p50 / a.them.p50),
        round(a.us.p90 / a.them.p90),
        round(a.us.p99 / a.them.p99),
        round(rate(samples.podway.addRate) / rate(samples.ptp.addRate)),
        '',
      ]);
      rows.push(
        row('DEL', 'podway', d.us, rate(samples.podway.delRate), round(summarise(samples.podway.gone).p50)),
        row('DEL', 'ptp', d.them, rate(samples.ptp.delRate), round(summarise(samples.ptp.gone).p50)),
      );
      rows.push([
        `${atOnce}`,
        'DEL',
        'podway / ptp',
        round(d.us.p50 / d.them.p50, 3),
        round(d.us.p90 / d.them.p90, 3),
        round(d.us.p99 / d.them.p99, 3),
        round(rate(samples.podway.delRate) / rate(samples.ptp.delRate)),
        '',
      ]);
      numbers[`atOnce${atOnce}`] = {
        add: a,
        del: d,
        addPerSecond: { us: rate(samples.podway.addRate), them: rate(samples.ptp.addRate) },
        delPerSecond: { us: rate(samples.podway.delRate), them: rate(samples.ptp.delRate) },
      };
    }

    // ADD while a storm of DELs drains: half of the sandboxes are deleted, the others are added at once.
    const storm: number[] = [];
    for (let i = 0; i < ROUNDS; i++) {
      const half = SANDBOXES / 2;
      call(ours, 'ADD', 8, half, `storm${i}`);
      const [command, args] = launcherArgs(ours, launcher, 'DEL', 8, join(dir, 'storm-del.out'));
      const draining = runAsync(command, args, input(half, `storm${i}`));
      const rest = sandboxes
        .slice(half)
        .map((name) => `s${i}-${name} /run/netns/${name}`)
        .join('\n');
      const out = join(dir, `storm-${i}.out`);
      const [addCommand, addArgs] = launcherArgs(ours, launcher, 'ADD', 1, out);
      const added = check(ours, 'ADD', parseLaunch(await runAsync(addCommand, addArgs, rest)), out);
      storm.push(...added.calls.map((c) => c.ms));
      await draining;
      const [delCommand, delArgs] = launcherArgs(ours, launcher, 'DEL', 8, out);
      await runAsync(delCommand, delArgs, rest);
      await untilLinksGone(ours);
    }
    const s = summarise(storm);
    rows.push(['1', 'ADD during DEL storm', 'podway', round(s.p50), round(s.p90), round(s.p99), '', '']);
    numbers['addDuringDelStorm'] = s;
    return [
      {
        title: `attach: ms a call by exec of the plugin, ${SANDBOXES} sandboxes, ${ROUNDS} interleaved rounds after 2 that are not counted, m5.4xlarge, cooldown 0; DELs per second until the links are gone`,
        head: ['at once', 'verb', 'who', 'p50', 'p90', 'p99', 'per second', 'links gone after, ms'],
        rows,
        numbers,
      },
    ];
  } finally {
    cleanUp();
  }
}
