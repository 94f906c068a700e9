// The chart in a lab with real kubelets whose nodes wait for somebody to install it: install, upgrade and rollback under
// traffic, then off the drained nodes, which are as they were before. With each Helm. `npm run test:chart`, some minutes.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { LabError } from '../../src/lab/daemon/errors.ts';
import { findBinaries } from '../../src/lab/kubernetes/binaries.ts';
import { labImage } from '../../src/lab/kubernetes/images.ts';
import { chart, helms } from '../../tools/chart.ts';
import { execute, executeOk, skip as notRoot, PODWAY, ROOT } from '../e2e/command.ts';

const archive = join(ROOT, 'build/podway.oci.tar');
const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };
const own = `localhost/podway:${version}`;
const programs = helms();
const nodes = ['node-1', 'node-2'];
const lab = `e2e-chart-${process.pid}`;
const SERVER = 'http://169.254.169.10';
const STEP_MS = 300_000;
const namespace = ['-n', 'kube-system'];

function missing(): string | false {
  if (!process.env['PODWAY_CHART']) return 'takes minutes (npm run test:chart)';
  if (programs.length === 0) return 'no helm (podway lab kubernetes install builds one)';
  if (!existsSync(archive)) return 'no image (npm run image)';
  try {
    findBinaries({});
    return false;
  } catch (error) {
    return (error as LabError).message;
  }
}
const skip = notRoot || missing();

let env: Record<string, string>;
const run = (command: string[]): Promise<string> => executeOk(command, env, STEP_MS);
const kubectl = (...args: string[]) => run([findBinaries({}).programs.kubectl, ...args]);
const on = (node: string, script: string) =>
  run([PODWAY, 'lab', 'exec', '--lab', lab, node, '--', 'sh', '-c', script]);

/** What an agent leaves on a node: nothing, apart from ENIs. `view` is the lab's own file. */
const traces = (node: string): Promise<string> =>
  on(
    node,
    'ip rule; ip -o link | grep -o " pw[0-9a-f]*" || true; ip route show table all proto 80; nft list tables | grep podway || true; ' +
      "ls -A /run/podway/ /opt/cni/bin/ /etc/cni/net.d/ | grep -v '^view$'; sysctl net.ipv4.ip_forward net.ipv4.conf.eth0.rp_filter",
  );

before(
  async () => {
    if (skip) return;
    await executeOk(
      [PODWAY, 'lab', 'up', '--lab', lab, '--kubernetes', '--nodes', '2', '--set', 'agent=none', '--quiet'],
      {},
      STEP_MS,
    );
    env = JSON.parse(await executeOk([PODWAY, 'lab', 'env', '--lab', lab, '-o', 'json'])) as Record<
      string,
      string
    >;
    const { ctr } = findBinaries({}).programs;
    for (const node of nodes) await on(node, `${ctr} -n k8s.io images import ${archive}`);
  },
  { timeout: 2 * STEP_MS },
);
after(async () => {
  if (!skip) await execute([PODWAY, 'lab', 'down', '--lab', lab]);
});

/** One request after another by a connection that is kept, and by new ones: good, lost, kept connections used. */
const ASK = `
const { Agent, get } = require('node:http');
const { existsSync } = require('node:fs');
let good = 0, lost = 0;
const kept = new Agent({ keepAlive: true, maxSockets: 1 });
const used = new Set();
const ask = (agent) => new Promise((done) => {
  const fail = () => { lost++; done(); };
  const request = get({ host: process.argv[1], port: 8080, path: '/hostname', agent, timeout: 20000 }, (answer) => {
    answer.resume().on('end', () => { good++; done(); });
  });
  request.on('socket', (socket) => agent === kept && used.add(socket)).on('error', fail);
  request.on('timeout', () => request.destroy(new Error('late')));
});
(async () => {
  while (!existsSync('/tmp/stop')) { await ask(kept); await ask(new Agent()); }
  console.log(good, lost, used.size);
  process.exit();
})();
`;

async function pod(name: string, node: string, image: string, command: string[]): Promise<string> {
  const spec = {
    nodeName: node,
    terminationGracePeriodSeconds: 0,
    containers: [{ name, image, imagePullPolicy: 'Never', command }],
  };
  await kubectl('run', name, `--image=${image}`, `--overrides=${JSON.stringify({ spec })}`);
  await kubectl('wait', '--for=condition=Ready', `pod/${name}`, '--timeout=120s');
  return kubectl('get', 'pod', name, '-o', 'jsonpath={.status.podIP}');
}

const agents = async () =>
  (await kubectl(...namespace, 'get', 'pods', '-l', 'app.kubernetes.io/component=agent', '-o', 'name'))
    .trim()
    .split('\n')
    .sort();

for (const helm of skip ? [''] : programs) {
  const what = /helm-[^/]+/.exec(helm)?.[0] ?? 'helm';
  const chartArgs = ['podway', chart, ...namespace];
  test(`${what}: install, upgrade, rollback, uninstall`, { skip, timeout: 4 * STEP_MS }, async () => {
    const before = await Promise.all(nodes.map(traces));
    await run([
      helm,
      'install',
      ...chartArgs,
      '--set',
      `aws.ec2Endpoint=${SERVER},cluster=${lab}`,
      '--wait',
      '--timeout',
      '3m',
    ]);
    await kubectl('wait', '--for=condition=Ready', 'nodes', '--all', '--timeout=120s');
    const server = await pod('server', nodes[1]!, labImage('agnhost'), [
      '/agnhost',
      'netexec',
      '--http-port=8080',
    ]);
    await pod('asker', nodes[0]!, own, ['node', '-e', 'setInterval(() => {}, 60_000)']);

    const asked = kubectl('exec', 'asker', '--', 'node', '-e', ASK, server);
    const first = await agents();
    await run([
      helm,
      'upgrade',
      ...chartArgs,
      '--reuse-values',
      '--set',
      'logLevel=debug',
      '--wait',
      '--timeout',
      '3m',
    ]);
    const second = await agents();
    await run([helm, 'rollback', 'podway', '1', ...namespace, '--wait', '--timeout', '3m']);
    const third = await agents();
    await kubectl('exec', 'asker', '--', 'sh', '-c', ': > /tmp/stop');
    const [good, lost, connections] = (await asked).trim().split(' ').map(Number);
    assert.equal(new Set([...first, ...second, ...third]).size, 3 * nodes.length);
    assert.ok(good! > 0);
    assert.deepEqual([lost, connections], [0, 1], `${lost} of ${good! + lost!} requests were lost`);

    for (const node of nodes)
      await kubectl(
        'drain',
        node,
        '--ignore-daemonsets',
        '--delete-emptydir-data',
        '--force',
        '--timeout=120s',
      );
    await run([helm, 'upgrade', ...chartArgs, '--reuse-values', '--set', 'uninstall.enabled=true']);
    await kubectl(...namespace, 'rollout', 'status', 'daemonset/podway-uninstall', '--timeout=180s');
    await run([helm, 'uninstall', 'podway', ...namespace, '--wait']);
    assert.deepEqual(await Promise.all(nodes.map(traces)), before);
    assert.equal(
      (await kubectl('get', 'all,sa,clusterroles,clusterrolebindings', '-A', '-o', 'name')).match(
        /podway-(agent|uninstall)/,
      ),
      null,
    );
    for (const node of nodes) await kubectl('uncordon', node);
  });
}
