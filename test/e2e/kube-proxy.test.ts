// Services beside Podway: ClusterIP, NodePort and externalTrafficPolicy Local to pods of every ENI of a node, from pods,
// nodes, a plain instance and the internet. By rules as kube-proxy makes them, and by kube-proxy itself in its two modes
// where its program is (`podway lab kubernetes install`).
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { cachePaths, KUBERNETES_VERSION } from '../../src/lab/kubernetes/version.ts';
import { INTERNET, Neighbours, skip } from '../support/neighbours.ts';
import { eventually } from '../support/wait.ts';

const ground = new Neighbours('kp');
const NODES = ['node-1', 'node-2'];
const NODE_PORT = 30_080;
const LOCAL_PORT = 30_081;
/** Questions of each kind: with eight pods behind a Service, one of them missing is a chance of 1 in 20. */
const TIMES = 24;

/** The Services' own addresses. */
let clusterIp: string;
let enis: { address: string; pod: string }[];
let near: string[];

before(async () => {
  if (skip) return;
  await ground.up();
  enis = await ground.enis();
  near = ground.status.pods.filter(({ node }) => node === 'node-1').map(({ name }) => name);
  for (const [name, nodePort, externalTrafficPolicy] of [
    ['all', NODE_PORT, 'Cluster'],
    ['local', LOCAL_PORT, 'Local'],
  ] as const) {
    const spec = {
      type: 'NodePort',
      externalTrafficPolicy,
      selector: { app: 'all' },
      ports: [{ port: 80, targetPort: 8080, nodePort }],
    };
    const made = await ground.core.createNamespacedService({
      namespace: 'default',
      body: { metadata: { name }, spec },
    });
    if (name === 'all') clusterIp = made.spec!.clusterIP!;
  }
});
after(async () => {
  if (!skip) await ground.down();
});

/** The names and the seen addresses of what answered. */
async function ask(
  place: string,
  host: string,
  port: number,
): Promise<{ names: Set<string>; seen: Set<string> }> {
  const answers = await ground.asker(place).ask(Array(TIMES).fill({ host, port }));
  const parts = answers.map((answer) => answer.split(' '));
  for (const [at, part] of parts.entries())
    assert.equal(part.length, 2, `${place} asks ${host}:${port}: ${answers[at]}`);
  return { names: new Set(parts.map(([name]) => name!)), seen: new Set(parts.map(([, ip]) => ip!)) };
}

async function servicesWork(): Promise<void> {
  const node = ground.status.nodes.find(({ name }) => name === 'node-1')!;
  const own = node.ips[0]!;
  const [, second] = enis;
  const pods = [...enis.map(({ pod }) => pod), 'far'];
  const reached = new Set<string>();
  for (const place of [...pods, ...NODES]) {
    const { names } = await ask(place, clusterIp, 80);
    for (const name of names) reached.add(name);
    const byPort = await ask(place, own, NODE_PORT);
    for (const name of byPort.names) reached.add(name);
  }
  assert.deepEqual([...reached].sort(), [...near, 'far'].sort(), 'every pod is behind the Service');
  // From elsewhere: by any ENI's address where the rules take it, to pods of any ENI; the client is seen with Local alone.
  const outside: [string, string, string][] = [
    ['plain', own, ground.address('plain')],
    ['node-2', own, ground.address('node-2')],
    ['far', own, ground.pod('far').ips[0]!],
    ['internet', node.publicIps[0]!, INTERNET],
  ];
  for (const [place, host, client] of outside) {
    await ask(place, host, NODE_PORT);
    const local = await ask(place, host, LOCAL_PORT);
    assert.deepEqual([...local.seen], [client], place);
    assert.deepEqual(
      [...local.names].filter((name) => !near.includes(name)),
      [],
      `Local leads ${place} to another node`,
    );
  }
  for (const place of ['plain', second!.pod]) await ask(place, second!.address, NODE_PORT);
}

/** What kube-proxy makes, in a table: destination translation before ours, its mark, and masquerade after routing. */
function rulesOf(node: string): string {
  const choice = (pods: readonly { ips: string[] }[]) =>
    `dnat to numgen random mod ${pods.length} map { ${pods.map(({ ips }, at) => `${at} : ${ips[0]}`).join(', ')} } : 8080`;
  const all = choice(ground.status.pods);
  const local = choice(ground.status.pods.filter((pod) => pod.node === node));
  const services = `
    ip daddr ${clusterIp} tcp dport 80 ${all}
    fib daddr type local tcp dport ${NODE_PORT} meta mark set meta mark | 0x4000 ${all}
    fib daddr type local tcp dport ${LOCAL_PORT} ${local}`;
  return `table ip by-hand {
  chain services {${services}
  }
  chain before { type nat hook prerouting priority -100; jump services; }
  chain own { type nat hook output priority -100; jump services; }
  chain after {
    type nat hook postrouting priority 100;
    mark & 0x4000 != 0 meta mark set meta mark ^ 0x4000 masquerade fully-random
    ct status dnat ip saddr . ip daddr { ${ground.status.pods.map(({ ips }) => `${ips[0]} . ${ips[0]}`).join(', ')} } masquerade
  }
}`;
}

test('by rules as kube-proxy makes them', { skip }, async () => {
  for (const node of NODES) await ground.on(node, 'nft', rulesOf(node));
  await servicesWork();
  for (const node of NODES) await ground.on(node, 'nft', 'delete', 'table', 'ip', 'by-hand');
});

const kubeProxy = join(cachePaths(KUBERNETES_VERSION).bin, 'kube-proxy');
const lacks = existsSync(kubeProxy) ? false : 'kube-proxy is not here: podway lab kubernetes install';

for (const mode of ['nftables', 'iptables'])
  test(`by kube-proxy in ${mode} mode`, { skip: skip || lacks }, async () => {
    const started: ChildProcess[] = [];
    let said = '';
    const run = (node: string, ...more: string[]): ChildProcess => {
      const flags = [
        `--kubeconfig=${labPaths(ground.lab.name).node(node).kubeconfig}`,
        `--hostname-override=${node}`,
        `--proxy-mode=${mode}`,
        // Every address of the node, the second ENI's too.
        '--nodeport-addresses=10.0.0.0/16',
        // Settings of the whole machine.
        ...['max-per-core', 'tcp-timeout-established', 'tcp-timeout-close-wait'].map(
          (key) => `--conntrack-${key}=0`,
        ),
        ...['--healthz-bind-address=', '--metrics-bind-address=127.0.0.1:10249', ...more],
      ];
      const child = spawn('nsenter', [`--net=${ground.netns(node)}`, '--', kubeProxy, ...flags], {
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      child.stderr!.setEncoding('utf8').on('data', (text: string) => {
        said = `${said}${text}`.slice(-4000);
      });
      return child;
    };
    const ended = (child: ChildProcess) =>
      new Promise<void>((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) resolve();
        else child.once('exit', () => resolve());
      });
    try {
      for (const node of NODES) started.push(run(node));
      for (const node of NODES)
        await eventually(`kube-proxy of ${node} has its rules`, async () => {
          if (started.some(({ exitCode }) => exitCode !== null)) assert.fail(said);
          const [answer] = await ground.asker(node).ask([{ host: clusterIp, port: 80 }], 500);
          return / /.test(answer!);
        });
      await servicesWork();
    } finally {
      for (const child of started) child.kill('SIGTERM');
      await Promise.all(started.map(ended));
      await Promise.all(NODES.map((node) => ended(run(node, '--cleanup'))));
    }
  });
