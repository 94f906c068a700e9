// A good citizen: standard plugins behind ours, and what others do on a node, on real packets. Pods hold addresses of each
// of the node's three ENIs; questions come from pods, nodes, a plain instance and the internet. docs/neighbours.md.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import type { Question } from '../support/asker.ts';
import { INTERNET, Neighbours, pod, SOMAXCONN, skip } from '../support/neighbours.ts';
import { full } from '../support/storm.ts';
import { eventually } from '../support/wait.ts';
import { execute, ok, PODWAY } from './command.ts';

const ground = new Neighbours('nb');
/** One of each ENI. */
let enis: { address: string; pod: string }[];

before(async () => {
  if (skip) return;
  await ground.up();
  enis = await ground.enis();
  assert.equal(enis.length, 3);
  // Told within half a minute; until the last test, rules accept what is forwarded here.
  await ground.on('node-1', ...IPTABLES, '-P', 'FORWARD', 'DROP');
  for (const way of ['-s', '-d'])
    await ground.on('node-1', ...IPTABLES, '-A', 'FORWARD', way, '10.0.0.0/8', '-j', 'ACCEPT');
});
after(async () => {
  if (!skip) await ground.down();
});

/** The API server's absence: with PODWAY_SOAK=1 as long as an upgrade of it takes. */
const AWAY_MS = full ? 300_000 : 3_000;
const IPTABLES = ['iptables', '-w'];
const portOf = (name: string): number => 8080 + Number(name.slice(1));

test('a host port leads to its pod on every ENI, by every ENI, from everywhere', { skip }, async () => {
  const [first, second] = enis.map(({ address }) => address) as [string, string, string];
  const node = ground.status.nodes.find(({ name }) => name === 'node-1')!;
  const near = ground.status.pods.filter(({ name }) => name.startsWith('a')).map(({ name }) => name);
  /** Place, the addresses that it asks, and the address that pods must see; null: the node's translation is right. */
  const cases: [string, string[], string | null][] = [
    ['node-2', [first, second], ground.address('node-2')],
    ['plain', [first, second], ground.address('plain')],
    ['far', [first, second], ground.pod('far').ips[0]!],
    ['internet', [node.publicIps[0]!], INTERNET],
    ['node-1', [first, second, '127.0.0.1'], null],
    ...near.map((name): [string, string[], null] => [name, [first, second], null]),
  ];
  for (const [place, hosts, seen] of cases) {
    const asked = hosts.flatMap((host) =>
      enis.flatMap(({ pod: name }) =>
        (['tcp', 'udp'] as const).map((protocol) => ({ name, protocol, host, port: portOf(name) })),
      ),
    );
    const answers = await ground.asker(place).ask(asked);
    for (const [at, { name, protocol, host, port }] of asked.entries())
      assert.match(
        answers[at]!,
        new RegExp(`^${name} ${(seen ?? '').replaceAll('.', '\\.')}`),
        `${place} asks ${name} by ${protocol} ${host}:${port}`,
      );
  }
});

test('a host port is free again when its pod is gone', { skip }, async () => {
  const host = ground.address('node-1');
  await ground.lab.delete('a1');
  const [gone] = await ground.asker('node-2').ask([{ host, port: 8081 }]);
  assert.equal(gone, 'ECONNREFUSED');
  await ground.run(pod('b1', 'node-1', 8081));
  assert.match((await ground.asker('node-2').ask([{ host, port: 8081 }]))[0]!, /^b1 /);
  enis = await ground.enis();
});

test('bandwidth limits a pod both ways by its annotations; tuning sets sysctls of it alone', {
  skip,
}, async () => {
  const limits = { 'kubernetes.io/ingress-bandwidth': '8M', 'kubernetes.io/egress-bandwidth': '4Mi' };
  await ground.run(pod('slow', 'node-2', undefined, { metadata: { name: 'slow', annotations: limits } }));
  const shaped = async () => (await ground.on('node-2', 'tc', 'qdisc', 'show')).match(/tbf .* rate \S+/g);
  assert.deepEqual((await shaped())!.map((line) => line.replace(/.* rate /, '')).sort(), [
    '4194Kbit',
    '8Mbit',
  ]);
  const host = ground.pod('slow').ips[0]!;
  assert.match((await ground.asker(enis[1]!.pod).ask([{ host, port: 8080 }]))[0]!, /^slow /);
  assert.equal((await ground.on('slow', 'sysctl', '-n', 'net.core.somaxconn')).trim(), SOMAXCONN);
  assert.notEqual((await ground.on('node-2', 'sysctl', '-n', 'net.core.somaxconn')).trim(), SOMAXCONN);
  await ground.lab.delete('slow');
  // Links of pods that went are deleted together, a moment later.
  await eventually('its shaping is gone', async () => (await shaped()) === null);

  const refused = { 'kubernetes.io/egress-bandwidth': 'fast' };
  const body = pod('fast', 'node-2', undefined, { metadata: { name: 'fast', annotations: refused } });
  await ground.core.createNamespacedPod({ namespace: 'default', body });
  await eventually('the pod says why it waits', async () =>
    /egress-bandwidth is .*fast.*, not a quantity/.test(
      JSON.stringify((await ground.core.readNamespacedPod({ namespace: 'default', name: 'fast' })).status),
    ),
  );
  await ground.lab.delete('fast');
});

test('the runtime checks and collects through the whole chain; loopback stands beside it', {
  skip,
}, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-chain-'));
  const node = ground.status.nodes.find(({ name }) => name === 'node-1')!;
  const name = `${ground.lab.name}-chain`;
  const netns = join('/run/netns', name);
  const ip = (...command: string[]) => ground.on('node-1', 'ip', ...command);
  const cni = (verb: string, ...more: string[]) =>
    ground.on('node-1', PODWAY, 'cni', verb, '--cache-dir', dir, ...more);
  const conf = ['--conf', node.cniConfDir, '--bin-dir', node.cniBinDir];
  const one = [...conf, '--netns', netns, '--container-id', 'chain'];
  // Bandwidth too: CHECK of Debian's (1.1.1) ends in a panic for an attachment without any.
  const offered = {
    portMappings: [{ hostPort: 9000, containerPort: 8080, protocol: 'tcp' }],
    bandwidth: { ingressRate: 8e6, ingressBurst: 8e6, egressRate: 8e6, egressBurst: 8e6 },
  };
  const capabilities = ['--cap', JSON.stringify(offered)];
  try {
    await ip('netns', 'add', name);
    const lo = join(dir, '99-lo.conflist');
    writeFileSync(lo, '{"cniVersion":"1.0.0","name":"cni-loopback","plugins":[{"type":"loopback"}]}');
    const bin = ['/opt/cni/bin', '/usr/lib/cni'].find((each) => existsSync(join(each, 'loopback')))!;
    const loopback = [
      '--conf',
      lo,
      '--bin-dir',
      bin,
      '--netns',
      netns,
      '--container-id',
      'chain',
      '--ifname',
      'lo',
    ];
    await cni('add', ...loopback);
    await cni('add', ...one, ...capabilities);
    assert.match(await ip('-n', name, '-br', 'addr'), /^lo +UNKNOWN +127\.0\.0\.1\/8.*\neth0@\S+ +UP +10\./);
    // Without the host port: portmap 1.1.1 looks for it in IPv6 too, where a pod without such an address has none.
    await cni('check', ...one, '--cap', JSON.stringify({ bandwidth: offered.bandwidth }));
    await cni('check', ...loopback);
    await cni('status', ...conf);
    const rules = () => ground.on('node-1', ...IPTABLES, '-t', 'nat', '-S');
    assert.match(await rules(), /--dport 9000 /);
    // What lives is named: at 1.1.0 GC reaches our agent, which keeps nothing else.
    const { enis: shown } = await ground.lab.ipam('node-1');
    const live = shown.flatMap(({ addresses }) => addresses.map(({ containerId }) => containerId));
    const valid = live.filter((id) => id !== undefined && id !== 'chain').map((id) => `${id}/eth0`);
    await cni('gc', ...conf, '--valid', ...valid);
    assert.doesNotMatch(await rules(), /--dport 9000 /);
    // The answer comes when the link is down; it goes with the next group.
    await eventually('the link is gone', async () => !/eth0/.test(await ip('-n', name, '-br', 'link')));
    await cni('del', ...loopback);
  } finally {
    await ip('netns', 'del', name);
    rmSync(dir, { recursive: true, force: true });
  }
  await ground.lab.agreed();
});

test('pods ask themselves by loopback and by address; a pod on the host network is its node', {
  skip,
}, async () => {
  for (const { pod: name } of enis) {
    const own = ground.pod(name).ips[0]!;
    const asked: Question[] = ['127.0.0.1', own].map((host) => ({ host, port: 8080 }));
    assert.deepEqual(await ground.asker(name).ask(asked), [`${name} 127.0.0.1`, `${name} ${own}`]);
  }
  const host = pod('host', 'node-2');
  await ground.run({ ...host, spec: { ...host.spec!, hostNetwork: true } });
  const to = { host: ground.address('node-2'), port: 8080 };
  for (const { pod: name } of enis)
    assert.deepEqual(await ground.asker(name).ask([to]), [`host ${ground.pod(name).ips[0]}`]);
  await ground.lab.delete('host');
});

test("a node's own services: node-local DNS without tracking, the credentials' address", {
  skip,
}, async () => {
  const [dns, credentials, service] = ['169.254.20.10', '169.254.170.23', '172.20.0.10'] as const;
  // As their agents make it, but for the link's kind: not every kernel has dummy.
  await ground.on('node-1', 'ip', 'link', 'add', 'nodelocaldns', 'type', 'bridge');
  for (const address of [dns, credentials, service])
    await ground.on('node-1', 'ip', 'addr', 'add', `${address}/32`, 'dev', 'nodelocaldns');
  const untracked = (address: string, protocol: string): string[][] =>
    [
      ['PREROUTING', '-d', '--dport'],
      ['OUTPUT', '-d', '--dport'],
      ['OUTPUT', '-s', '--sport'],
    ].map(([chain, at, port]) => [chain!, at!, address, '-p', protocol, port!, '8080', '-j', 'NOTRACK']);
  for (const rule of [dns, service].flatMap((each) => ['udp', 'tcp'].flatMap((one) => untracked(each, one))))
    await ground.on('node-1', ...IPTABLES, '-t', 'raw', '-A', ...rule);
  const server = pod('dns', 'node-1');
  await ground.run({ ...server, spec: { ...server.spec!, hostNetwork: true } });
  const asked = [dns, credentials, service].flatMap((host) =>
    (['tcp', 'udp'] as const).map((protocol) => ({ protocol, host, port: 8080 })),
  );
  for (const { pod: name } of enis)
    assert.deepEqual(
      await ground.asker(name).ask(asked),
      asked.map(() => `dns ${ground.pod(name).ips[0]}`),
    );
  assert.deepEqual(
    await ground.asker('node-1').ask(asked),
    asked.map(({ host }) => `dns ${host}`),
  );
  await ground.lab.delete('dns');
  await ground.on('node-1', ...IPTABLES, '-t', 'raw', '-F');
  await ground.on('node-1', 'ip', 'link', 'del', 'nodelocaldns');
});

test('the API server away: pods start while addresses last, also by an agent that starts meanwhile', {
  skip,
}, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-away-'));
  const node = ground.status.nodes.find(({ name }) => name === 'node-2')!;
  const conf = ['--conf', node.cniConfDir, '--bin-dir', node.cniBinDir, '--cache-dir', dir];
  const name = (n: number) => `${ground.lab.name}-away-${n}`;
  const agent = () =>
    (JSON.parse(readFileSync(labPaths(ground.lab.name).node('node-2').agentPid, 'utf8')) as { pid: number })
      .pid;
  /** As a runtime for a pod that it was told of before. */
  const call = async (verb: 'add' | 'del', n: number): Promise<string> => {
    const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=away-${n};K8S_POD_UID=${n}`;
    const one = ['--netns', join('/run/netns', name(n)), '--container-id', `away${n}`, '--args', args];
    return ground.on('node-2', PODWAY, 'cni', verb, ...conf, ...one);
  };
  const start = async (n: number): Promise<void> => {
    await ground.on('node-2', 'ip', 'netns', 'add', name(n));
    // A runtime tries again while an agent starts.
    const result = await eventually(`ADD of away-${n}`, () => call('add', n));
    const { ips } = JSON.parse(result) as { ips: { address: string }[] };
    const [address] = ips[0]!.address.split('/');
    const pinged = ['ip', 'netns', 'exec', name(n), 'ping', '-c1', '-W30', ground.pod('far').ips[0]!];
    assert.match(await ground.on('node-2', ...pinged), / 0% packet loss/, `from ${address}`);
  };
  const rule = 'chain c { type filter hook output priority 0; ip daddr 169.254.169.11 drop\n}';
  await ground.on('node-2', 'nft', `table ip away {\n${rule}\n}`);
  try {
    await sleep(AWAY_MS);
    await start(1);
    await start(2);
    const before = agent();
    process.kill(before, 'SIGKILL');
    await eventually('another agent', () => existsSync(`/proc/${agent()}`) && agent() !== before);
    await start(3);
    for (const n of [1, 2, 3]) await call('del', n);
  } finally {
    await ground.on('node-2', 'nft', 'delete', 'table', 'ip', 'away');
    for (const n of [1, 2, 3]) await execute(['ip', 'netns', 'del', name(n)]);
    rmSync(dir, { recursive: true, force: true });
  }
  await ground.lab.agreed();
});

test('FORWARD DROP: probes reach pods, the rest is told by name until it is let through', {
  skip,
}, async () => {
  const drop = 'chain FORWARD of nft table ip filter drops what is forwarded unless a rule accepts it';
  const far = { host: ground.pod('far').ips[0]!, port: 8080 };
  const alive = enis.map(({ pod: name }) => ({ host: ground.pod(name).ips[0]!, port: 8080 }));
  await ground.on('node-1', ...IPTABLES, '-F', 'FORWARD');
  const probes = await ground.asker('node-1').ask(alive);
  assert.deepEqual(
    probes,
    enis.map(({ pod: name }) => `${name} ${ground.address('node-1')}`),
  );
  assert.deepEqual(await ground.asker(enis[1]!.pod).ask([far], 1000), ['silent']);
  assert.ok((await ground.on('node-1', PODWAY, 'doctor')).includes(drop));
  assert.match(await ok('doctor', '--lab', ground.lab.name), new RegExp(`^node-1 .*${drop}`, 'm'));
  await eventually(
    'an Event of the node tells',
    async () => {
      const { items } = await ground.core.listEventForAllNamespaces();
      return items.some(
        ({ reason, message, involvedObject }) =>
          reason === 'ForwardingObstructed' && message === drop && involvedObject.name === 'node-1',
      );
    },
    60_000,
  );
  for (const way of ['-i', '-o'])
    await ground.on('node-1', ...IPTABLES, '-I', 'FORWARD', way, 'pw+', '-j', 'ACCEPT');
  const name = enis[1]!.pod;
  assert.deepEqual(await ground.asker(name).ask([far]), [`far ${ground.pod(name).ips[0]}`]);
  assert.ok(!(await ground.on('node-1', PODWAY, 'doctor')).includes(drop));
  await ground.on('node-1', ...IPTABLES, '-P', 'FORWARD', 'ACCEPT');
  await ground.on('node-1', ...IPTABLES, '-F', 'FORWARD');
});
