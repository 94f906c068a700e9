// upgrade-chart: what pods notice of a rolling update of the agent on real kubelets, as the chart's DaemonSet does it: one
// node after the other, by `kubectl rollout restart`. Meanwhile one pod asks another 1,000 times a second on its node and on
// the other node; then the same time without an update. Goal: nothing lost. Not run, with the reason, where the programs,
// Helm or the image are missing.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ChartLab, missing, RELEASE_NAMESPACE } from '../test/kubernetes/chart-lab.ts';
import { podOf, shell } from '../test/scenarios/objects.ts';
import { ask, RATE } from './asked.ts';
import { root } from './run.ts';
import { type BenchResult, round } from './stats.ts';

/** Longer than the update of both nodes takes. */
const SECONDS = 45;
const NAMESPACE = 'scenarios';
const DAEMON_SET = 'daemonset/podway-agent';

export async function bench(): Promise<BenchResult[]> {
  const lack = missing();
  if (lack) return [{ title: `upgrade-chart: not run: ${lack}`, head: [], rows: [], numbers: {} }];
  const lab = new ChartLab('bench-chart');
  const servers: ChildProcess[] = [];
  try {
    await lab.up();
    await lab.install();
    await lab.nodesReady();
    await lab.kubectl('create', 'namespace', NAMESPACE);
    const [one, two] = lab.nodes as [string, string];
    await lab.apply(...[one, one, two].map((node, index) => podOf('abc'[index]!, node, shell('sleep 3600'))));
    const own = ['-n', NAMESPACE];
    await lab.kubectl(...own, 'wait', '--for=condition=Ready', 'pod/a', 'pod/b', 'pod/c', '--timeout=180s');
    const { pods } = await lab.status();
    const pod = (name: string) => pods.find((each) => each.namespace === NAMESPACE && each.name === name)!;
    // Before all that is not of real time, which a container may not be: whoever else is on the machine must not look
    // like a lost packet.
    for (const name of ['b', 'c']) {
      const inside = [
        'nsenter',
        `--net=${pod(name).netnsPath}`,
        join(root, 'build/pod-server'),
        '--name',
        name,
      ];
      servers.push(spawn('chrt', ['-f', '1', ...inside], { stdio: 'ignore' }));
    }
    await sleep(1_000);
    const paths = { 'same node': pod('b'), 'two nodes': pod('c') };
    const rows: (string | number)[][] = [];
    const numbers: Record<string, unknown> = {};
    for (const way of ['none', 'rollout restart'] as const) {
      const asking = Object.entries(paths).map(([name, to]) => ({
        name,
        ...ask(pod('a').netnsPath, to.ips[0]!, SECONDS),
      }));
      await Promise.all(asking.map(({ ready }) => ready));
      const began = performance.now();
      await sleep(1_000);
      if (way !== 'none') {
        await lab.kubectl(...RELEASE_NAMESPACE, 'rollout', 'restart', DAEMON_SET);
        await lab.kubectl(...RELEASE_NAMESPACE, 'rollout', 'status', DAEMON_SET, '--timeout=180s');
      }
      const took = way === 'none' ? 0 : (performance.now() - began) / 1000;
      for (const { name, done } of asking) {
        const { udp, tcp } = await done;
        numbers[`${way}, ${name}`] = { udp, tcp, updateSeconds: took };
        rows.push([
          ...[way, name, round(took, 0), udp.sent, udp.sent - udp.answered, round(udp.longestGapMs, 0)],
          ...[tcp.sent - tcp.answered, tcp.broken ?? 'none', round(tcp.longestGapMs, 0)],
        ]);
      }
      if (took > SECONDS) throw new Error(`the update took ${took} s, longer than was asked (${SECONDS} s)`);
    }
    return [
      {
        title: `upgrade-chart: a rolling update of the chart's agents on two nodes with kubelets, at ${RATE} requests a second by UDP and by one TCP connection, pod to pod`,
        head: [
          ...['update', 'path', 'update took (s)', 'sent', 'UDP lost', 'UDP longest gap (ms)'],
          ...['TCP unanswered', 'TCP broken', 'TCP longest gap (ms)'],
        ],
        rows,
        numbers,
      },
    ];
  } finally {
    for (const each of servers) each.kill('SIGKILL');
    await lab.down();
  }
}
