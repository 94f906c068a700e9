// Pods with branch ENIs in strict mode, on the lab's fabric: who reaches whom, by which way, and as whom it is seen, port
// included. The branches are handed to the datapath as values; the fabric judges their tagged frames.
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { parseCidr, parseIp } from '../../src/base/ip.ts';
import { parseMac } from '../../src/base/mac.ts';
import type { Branch } from '../../src/datapath/branch.ts';
import { createDatapath, type Datapath } from '../../src/datapath/datapath.ts';
import { BRANCH_TABLE, hostLinkName } from '../../src/datapath/marks.ts';
import { quiet } from '../../src/datapath/testing.ts';
import type { Eni, HeldPod, NodeDatapath } from '../../src/datapath/types.ts';
import { programsOn, setProgram } from '../../src/kernel/bpf/hooks.ts';
import { createNetns, deleteNetns, type Netns, openNetns } from '../../src/kernel/netns.ts';
import { NfNetlink } from '../../src/kernel/nfnetlink.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { netnsName } from '../../src/lab/fabric/names.ts';
import {
  addEni,
  addGroup,
  addInstance,
  allow,
  type Bench,
  bench,
  edit,
  eniId,
  OPEN_GROUP,
  SUBNET_B,
  skipReason,
  smallVpc,
} from '../../src/lab/fabric/testing.ts';
import type { VpcState } from '../../src/lab/vpc/model.ts';

const TRUNK = 0x71;
const CLOSED_GROUP = 'sg-0cccccccccccccccc';
const NODE_GROUP = 'sg-0dddddddddddddddd';
const [DB, NODE, PLAIN] = ['10.0.0.10', '10.0.0.11', '10.0.0.20'];
const BRANCHES = [
  { pod: 'a', number: 0xb1, vlan: 7, ip: '10.0.32.71', group: OPEN_GROUP },
  { pod: 'b', number: 0xb2, vlan: 8, ip: '10.0.32.72', group: OPEN_GROUP },
  { pod: 'c', number: 0xb3, vlan: 9, ip: '10.0.32.73', group: CLOSED_GROUP },
] as const;
const [A, B, C] = BRANCHES.map(({ ip }) => ip) as [string, string, string];
const macOf = (number: number) => parseMac(`02:00:00:00:00:${number.toString(16).padStart(2, '0')}`);

function shape(): VpcState {
  const state = smallVpc();
  const open = [allow('ingress', '0.0.0.0/0'), allow('egress', '0.0.0.0/0')];
  addGroup(state, OPEN_GROUP, open);
  addGroup(state, CLOSED_GROUP, [allow('egress', '0.0.0.0/0')]);
  addGroup(state, NODE_GROUP, open);
  addInstance(state, 'db', 0x0a, { ips: [DB], groups: [OPEN_GROUP] });
  addInstance(state, 'node', 0x0b, { ips: [NODE, PLAIN], groups: [NODE_GROUP] });
  addEni(state, TRUNK, { ips: ['10.0.0.71'], groups: [NODE_GROUP], instance: 'i-node', deviceIndex: 1 });
  state.networkInterfaces[eniId(TRUNK)]!.interfaceType = 'trunk';
  for (const { number, ip, vlan, group } of BRANCHES) {
    addEni(state, number, { ips: [ip], subnetId: SUBNET_B, groups: [group] });
    const ends = { branchInterfaceId: eniId(number), trunkInterfaceId: eniId(TRUNK) };
    state.trunkAssociations[`trunk-assoc-${vlan}`] = { id: `trunk-assoc-${vlan}`, ...ends, vlanId: vlan };
  }
  return state;
}

const primary: Eni = {
  id: eniId(0x0b),
  mac: macOf(0x0b),
  deviceIndex: 0,
  networkCard: 0,
  primaryIp: parseIp(NODE),
  subnetCidr: parseCidr('10.0.0.0/19'),
  addresses: [parseIp(PLAIN)],
  prefixes: [],
};
const hostIfname = (pod: string) => hostLinkName({ network: 'test', containerId: pod, ifname: 'eth0' });
const pods = [{ pod: 'plain', ip: PLAIN }, ...BRANCHES];
const branchValues: Branch[] = BRANCHES.map(({ pod, number, vlan, ip }) => ({
  eniId: eniId(number),
  mac: macOf(number),
  vlan,
  subnetCidr: parseCidr('10.0.32.0/19'),
  hostIfname: hostIfname(pod),
  ips: [parseIp(ip)],
}));
const held = (of: readonly { pod: string; ip: string; vlan?: number }[]): HeldPod[] =>
  of.map(({ pod, ip, vlan }) => ({
    hostIfname: hostIfname(pod),
    ips: [parseIp(ip)],
    eni: { deviceIndex: 0, networkCard: 0 },
    ...(vlan === undefined ? {} : { vlan }),
  }));
const nodeState = (over: Partial<NodeDatapath> = {}): NodeDatapath => ({
  enis: [primary],
  vpcCidrs: [parseCidr('10.0.0.0/16')],
  snat: 'node',
  excludeSnatCidrs: [],
  eniMtu: 9001,
  pods: held(pods),
  trunk: { mac: macOf(TRUNK) },
  branches: branchValues,
  ...over,
});

describe('pods with branches, strict', { skip: skipReason }, () => {
  let lab: Bench;
  let datapath: Datapath;
  let node: Netns;
  const servers: ChildProcess[] = [];
  const place = (pod: string) => `pod-${pod}`;
  const nsName = (where: string) =>
    where.startsWith('pod-') ? netnsName(lab.lab, where) : lab.fabric.netnsOf(where);

  const SERVE =
    "require('net').createServer(s => { s.on('error', () => {}); s.end(s.remoteAddress.replace('::ffff:', '') + ' ' + s.remotePort) }).listen({ port: 8080, host: '::' }, () => console.log('up'))";
  async function serve(where: string): Promise<void> {
    const child = spawn('ip', ['netns', 'exec', nsName(where), process.execPath, '-e', SERVE]);
    servers.push(child);
    await new Promise((resolve) => child.stdout.once('data', resolve));
  }

  const ASK =
    "const [host, port] = process.argv.slice(1); let t = ''; const s = require('net').connect({ host, port: 8080, localPort: Number(port) }); s.setTimeout(900, () => s.destroy(new Error('silent'))); s.on('data', d => { t += d }); s.on('error', e => { console.log(e.code ?? e.message); process.exit() }); s.on('end', () => { console.log(t); process.exit() })";
  let port = 20_000;
  /** What the server sees; `same port` when it is the sender's own. */
  function seen(from: string, to: string): string {
    const own = String(++port);
    const out = execFileSync('ip', ['netns', 'exec', nsName(from), process.execPath, '-e', ASK, to, own]);
    return out.toString().trim().replace(` ${own}`, ', same port');
  }

  function wire(pod: string, ip: string, vlan?: number): void {
    using netns = openNetns(`/run/netns/${nsName(place(pod))}`);
    datapath.wirePod({
      containerId: pod,
      ifname: 'eth0',
      netns,
      netnsPath: `/run/netns/${nsName(place(pod))}`,
      ips: [parseIp(ip)],
      eni: { deviceIndex: 0, networkCard: 0 },
      mtu: 9001,
      hostIfname: hostIfname(pod),
      vlan,
    });
  }

  before(async () => {
    lab = bench();
    await lab.fabric.apply(shape());
    node = openNetns(`/run/netns/${lab.fabric.netnsOf('node')}`);
    datapath = createDatapath({ netns: node, log: quiet });
    // As an agent does: the branch's part is there before the pod's link, and the link's after it.
    await datapath.syncNode(nodeState());
    for (const { pod } of pods) createNetns(nsName(place(pod))).close();
    for (const { pod, ip, ...more } of pods) wire(pod, ip, 'vlan' in more ? more.vlan : undefined);
    await datapath.syncNode(nodeState());
    for (const where of ['db', 'node', ...pods.map(({ pod }) => place(pod))]) await serve(where);
  });
  after(async () => {
    for (const child of servers) child.kill('SIGKILL');
    await datapath?.close();
    node?.close();
    for (const { pod } of pods) deleteNetns(nsName(place(pod)));
    await lab?.[Symbol.asyncDispose]();
  });

  const rows: [from: string, to: string, as: string][] = [
    ['pod-a', DB, `${A}, same port`],
    ['pod-a', B, `${A}, same port`],
    ['pod-a', PLAIN, `${A}, same port`],
    ['pod-a', NODE, `${A}, same port`],
    ['pod-plain', A, `${PLAIN}, same port`],
    ['pod-plain', NODE, `${PLAIN}, same port`],
    ['pod-plain', DB, `${PLAIN}, same port`],
    ['db', A, `${DB}, same port`],
    ['node', A, `${NODE}, same port`],
    ['node', DB, `${NODE}, same port`],
    // Of a group that lets nothing in: the node's own probes need no rule.
    ['node', C, `${NODE}, same port`],
    ['pod-a', C, 'silent'],
    ['pod-plain', C, 'silent'],
    ['db', C, 'silent'],
    ['pod-c', DB, `${C}, same port`],
    ['pod-c', A, `${C}, same port`],
  ];
  for (const [from, to, as] of rows) {
    test(`${from} to ${to}: ${as}`, () => assert.equal(seen(from, to), as));
  }

  test('a pod reaches the VPC’s link-local services by the primary ENI', () => {
    const ping = ['ip', 'netns', 'exec', nsName('pod-a'), 'ping', '-nc1', '-W1', '169.254.169.254'];
    assert.match(execFileSync(ping[0]!, ping.slice(1)).toString(), / 1 received/);
  });

  test('a pod’s way to its own node is judged by the VPC, the node’s to the pod is not', async () => {
    const closed = edit(shape(), (copy) => {
      copy.securityGroups[NODE_GROUP]!.rules = [allow('egress', '0.0.0.0/0'), allow('ingress', `${DB}/32`)];
    });
    await lab.fabric.apply(closed);
    assert.equal(seen('pod-a', NODE), 'silent');
    assert.equal(seen('node', A), `${NODE}, same port`);
    await lab.fabric.apply(shape());
  });

  test('a second sync finds nothing to do; what others take away comes back', async () => {
    assert.deepEqual((await datapath.syncNode(nodeState())).changes, []);
    using rt = RtNetlink.open(node);
    rt.apply([{ op: 'link-del', name: 'pwv7' }]);
    setProgram(node, rt.link('pwv8')!.index, 'egress', null);
    setProgram(node, rt.link('eth1')!.index, 'ingress', null);
    execFileSync('ip', ['netns', 'exec', nsName('node'), 'nft', 'delete', 'table', 'inet', BRANCH_TABLE]);
    execFileSync('ip', [
      'netns',
      'exec',
      nsName('node'),
      'ip',
      'rule',
      'del',
      'pref',
      '10',
      'iif',
      hostIfname('b'),
    ]);
    assert.ok((await datapath.syncNode(nodeState())).changes.length >= 5);
    assert.equal(seen('pod-a', B), `${A}, same port`);
    assert.equal(seen('pod-b', A), `${B}, same port`);
  });

  test('another process takes everything over as it is', async () => {
    const next = createDatapath({ netns: node, log: quiet });
    try {
      const { changes } = await next.syncNode(nodeState());
      assert.deepEqual(
        changes.filter((text) => !/nft (table|map)/.test(text)),
        [],
      );
      assert.equal(seen('pod-a', DB), `${A}, same port`);
    } finally {
      await next.close();
    }
  });

  test('a pod that goes leaves nothing, and the last one nothing of branches', async () => {
    const without = (gone: readonly string[]) =>
      nodeState({
        pods: held(pods.filter(({ pod }) => !gone.includes(pod))),
        branches: branchValues.filter((branch) => !gone.map(hostIfname).includes(branch.hostIfname)),
      });
    datapath.cutPod({ hostIfname: hostIfname('a') });
    await datapath.syncNode(without(['a']));
    assert.equal(seen('pod-b', DB), `${B}, same port`);
    const objects = async () =>
      (await lab.sh('node', 'ip -o link; ip rule; ip -4 route show table all; nft list ruleset')).toString();
    assert.doesNotMatch(await objects(), new RegExp(`pwv7|${hostIfname('a')}|${A}|: 7\\b`));
    using nf = NfNetlink.open(node);
    assert.ok((await datapath.forgetAddress(parseIp(A))) > 0, 'its connections are in zones');
    assert.deepEqual(nf.conntrack({ ip: parseIp(A) }), []);
    for (const pod of ['b', 'c']) datapath.cutPod({ hostIfname: hostIfname(pod) });
    await datapath.syncNode(without(['a', 'b', 'c']));
    await datapath.reapLinks();
    assert.doesNotMatch(await objects(), /pwv|podway-branch|0xc00|lookup 2457\d|goto \d/);
    assert.match(await lab.sh('node', 'ip rule'), /^0:\tfrom all lookup local/);
    using rt = RtNetlink.open(node);
    assert.deepEqual(programsOn(node, rt.link('eth1')!.index, 'ingress'), []);
    assert.equal(seen('pod-plain', NODE), `${PLAIN}, same port`);
    // All of ours at once, as an uninstall takes it away, and the kernel's rule is back.
    await datapath.syncNode(nodeState({ pods: held(pods.slice(0, 1)) }));
    assert.match(await objects(), /pwv7.*pwv8.*podway-branch/s);
    assert.doesNotMatch(await lab.sh('node', 'ip rule'), /^0:/m);
    await datapath.removeAll();
    assert.deepEqual(programsOn(node, rt.link('eth1')!.index, 'ingress'), []);
    assert.doesNotMatch(await objects(), /pwv|inet podway|goto \d|proto 80/);
    assert.match(await lab.sh('node', 'ip rule'), /^0:\tfrom all lookup local/);
  });
});
