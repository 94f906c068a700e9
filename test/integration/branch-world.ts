// A node with a trunk, pods with and without branches on it, and who they talk to, on the lab's fabric. The branches
// are handed to the datapath as values; the fabric judges their tagged frames. Both families: the node has an IPv6
// address and no /80, so only branches give pods IPv6.
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { promisify } from 'node:util';
import type { BranchMode } from '../../src/base/branch-words.ts';
import { familyOf, parseCidr, parseIp } from '../../src/base/ip.ts';
import { parseMac } from '../../src/base/mac.ts';
import type { Branch } from '../../src/datapath/branch.ts';
import type { GateRule } from '../../src/datapath/branch-gate.ts';
import { createDatapath, type Datapath, type DatapathOptions } from '../../src/datapath/datapath.ts';
import { hostLinkName } from '../../src/datapath/marks.ts';
import { quiet } from '../../src/datapath/testing.ts';
import type { Eni, HeldPod, NodeDatapath } from '../../src/datapath/types.ts';
import { createNetns, deleteNetns, type Netns, openNetns } from '../../src/kernel/netns.ts';
import { netnsName } from '../../src/lab/fabric/names.ts';
import {
  addEni,
  addGroup,
  addInstance,
  allow,
  type Bench,
  bench,
  eniId,
  giveIpv6,
  OPEN_GROUP,
  SUBNET_B,
  smallVpc,
} from '../../src/lab/fabric/testing.ts';
import type { VpcState } from '../../src/lab/vpc/model.ts';

const TRUNK = 0x71;
export const CLOSED_GROUP = 'sg-0cccccccccccccccc';
export const NODE_GROUP = 'sg-0dddddddddddddddd';
export const [DB, NODE, PLAIN] = ['10.0.0.10', '10.0.0.11', '10.0.0.20'];
export const [DB6, NODE6] = ['2600:1f14:1:101::10', '2600:1f14:1:101::11'];
/** Of the node on the internet. */
export const NODE_PUBLIC = '203.0.113.77';

export type WorldPod = {
  pod: string;
  ips: readonly string[];
  /** Of a pod with a branch. */
  vlan?: number;
  mode?: BranchMode;
  group?: string;
};

const strict = (pod: string, vlan: number, group = OPEN_GROUP): WorldPod => ({
  ...{ pod, vlan, group, mode: 'strict' },
  ips: [`10.0.32.${64 + vlan}`, `2600:1f14:1:102::${64 + vlan}`],
});
const standard = (pod: string, vlan: number, group = OPEN_GROUP): WorldPod => ({
  ...strict(pod, vlan, group),
  mode: 'standard',
});
/** a, b, c: strict; d, e: standard; c and e are of a group that lets nothing in; s and t have IPv6 alone. */
export const PODS: readonly WorldPod[] = [
  { pod: 'plain', ips: [PLAIN!] },
  strict('a', 7),
  strict('b', 8),
  strict('c', 9, CLOSED_GROUP),
  standard('d', 10),
  standard('e', 11, CLOSED_GROUP),
  { ...strict('s', 12), ips: ['2600:1f14:1:102::76'] },
  { ...standard('t', 13), ips: ['2600:1f14:1:102::77'] },
];
const withBranch = PODS.filter(({ vlan }) => vlan !== undefined);
export const ipOf = (pod: string, family: 4 | 6 = 4): string =>
  PODS.find((one) => one.pod === pod)!.ips.find((ip) => familyOf(parseIp(ip)) === family)!;
const numberOf = ({ vlan = 0 }: WorldPod): number => 0xb0 + vlan;
const macOf = (number: number) => parseMac(`02:00:00:00:00:${number.toString(16).padStart(2, '0')}`);
export const hostIfname = (pod: string): string =>
  hostLinkName({ network: 'test', containerId: pod, ifname: 'eth0' });

export function worldState(): VpcState {
  const state = smallVpc();
  giveIpv6(state);
  const out = [allow('egress', '0.0.0.0/0'), allow('egress', '::/0')];
  const open = [allow('ingress', '0.0.0.0/0'), allow('ingress', '::/0'), ...out];
  addGroup(state, OPEN_GROUP, open);
  addGroup(state, CLOSED_GROUP, out);
  addGroup(state, NODE_GROUP, open);
  addInstance(state, 'db', 0x0a, { ips: [DB!], groups: [OPEN_GROUP] });
  addInstance(state, 'node', 0x0b, { ips: [NODE!, PLAIN!], groups: [NODE_GROUP] });
  state.networkInterfaces[eniId(0x0a)]!.ipv6Addresses = [DB6!];
  state.networkInterfaces[eniId(0x0b)]!.ipv6Addresses = [NODE6!];
  state.publicAddresses[NODE_PUBLIC] = {
    publicIp: NODE_PUBLIC,
    networkInterfaceId: eniId(0x0b),
    privateIp: NODE!,
    tags: {},
  };
  addEni(state, TRUNK, { ips: ['10.0.0.71'], groups: [NODE_GROUP], instance: 'i-node', deviceIndex: 1 });
  state.networkInterfaces[eniId(TRUNK)]!.interfaceType = 'trunk';
  for (const one of withBranch) {
    const { ips, vlan = 0, group = OPEN_GROUP } = one;
    const number = numberOf(one);
    const four = ips.filter((ip) => !ip.includes(':'));
    // The pod may have IPv6 alone; its ENI has an IPv4 address too, as in a subnet of both.
    addEni(state, number, {
      ips: four.length > 0 ? four : [`10.0.32.${64 + vlan}`],
      subnetId: SUBNET_B,
      groups: [group],
    });
    state.networkInterfaces[eniId(number)]!.ipv6Addresses = ips.filter((ip) => ip.includes(':'));
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
  primaryIp: parseIp(NODE!),
  ownIp6: parseIp(NODE6!),
  subnetCidr: parseCidr('10.0.0.0/19'),
  addresses: [parseIp(PLAIN!)],
  prefixes: [],
};

const branchOf = (one: WorldPod): Branch => ({
  eniId: eniId(numberOf(one)),
  mac: macOf(numberOf(one)),
  vlan: one.vlan!,
  subnetCidr: parseCidr('10.0.32.0/19'),
  hostIfname: hostIfname(one.pod),
  ips: one.ips.map(parseIp),
  mode: one.mode,
});
const heldOf = ({ pod, ips, vlan, mode }: WorldPod): HeldPod => ({
  hostIfname: hostIfname(pod),
  ips: ips.map(parseIp),
  eni: { deviceIndex: 0, networkCard: 0 },
  ...(vlan === undefined ? {} : { vlan, mode }),
});

/** The node with these of the pods; `gates`: what the groups of pods let in, where it is known. */
export const nodeWith = (
  pods: readonly WorldPod[],
  over: Partial<NodeDatapath> = {},
  gates: Readonly<Record<string, readonly GateRule[]>> = {},
): NodeDatapath => ({
  enis: [primary],
  vpcCidrs: [parseCidr('10.0.0.0/16')],
  snat: 'node',
  excludeSnatCidrs: [],
  eniMtu: 9001,
  pods: pods.map(heldOf),
  trunk: { mac: macOf(TRUNK) },
  branches: pods
    .filter(({ vlan }) => vlan !== undefined)
    .map((one) => ({ ...branchOf(one), gate: gates[one.pod] })),
  ...over,
});

const SERVE =
  "require('net').createServer(s => { s.on('error', () => {}); s.end(s.remoteAddress.replace('::ffff:', '') + ' ' + s.remotePort) }).listen({ port: 8080, host: '::' }, () => console.log('up'))";
const ASK =
  "const [host, port, to, ms] = process.argv.slice(1); let t = ''; const s = require('net').connect({ host, port: Number(to), localPort: Number(port) }); s.setTimeout(Number(ms), () => s.destroy(new Error('silent'))); s.on('data', d => { t += d }); s.on('error', e => { console.log(e.code ?? e.message); process.exit() }); s.on('end', () => { console.log(t); process.exit() })";

export class BranchWorld {
  readonly lab: Bench;
  readonly node: Netns;
  datapath: Datapath;
  /** The datapath's clock is this far ahead (ms): what is damaged again and again is put back ever later. */
  later = 0;
  readonly #servers: ChildProcess[] = [];
  #port = 20_000;

  private constructor(node: Netns, lab: Bench) {
    this.lab = lab;
    this.node = node;
    this.datapath = this.newDatapath();
  }

  /** One that remembers nothing. */
  newDatapath(options: Partial<DatapathOptions> = {}): Datapath {
    return createDatapath({
      ...{ netns: this.node, log: quiet, now: () => performance.now() + this.later },
      ...options,
    });
  }

  /** Wired as an agent does it: the branches' part is there before the pods' links, and the links' after them. */
  static async open(): Promise<BranchWorld> {
    const lab = bench();
    let world: BranchWorld | undefined;
    try {
      await lab.fabric.apply(worldState());
      world = new BranchWorld(openNetns(`/run/netns/${lab.fabric.netnsOf('node')}`), lab);
      await world.#fill();
      return world;
    } catch (error) {
      await (world?.close() ?? lab[Symbol.asyncDispose]());
      throw error;
    }
  }

  async #fill(): Promise<void> {
    await this.datapath.syncNode(nodeWith(PODS));
    for (const { pod } of PODS) createNetns(this.netnsOf(`pod-${pod}`)).close();
    for (const one of PODS) this.wire(one);
    await this.datapath.syncNode(nodeWith(PODS));
    for (const where of ['db', 'node', 'internet', ...PODS.map(({ pod }) => `pod-${pod}`)])
      await this.#serve(where);
  }

  /** `pod-NAME`, or a place of the fabric. */
  netnsOf(where: string): string {
    return where.startsWith('pod-') ? netnsName(this.lab.lab, where) : this.lab.fabric.netnsOf(where);
  }

  wire({ pod, ips, vlan, mode }: WorldPod): void {
    const netnsPath = `/run/netns/${this.netnsOf(`pod-${pod}`)}`;
    using netns = openNetns(netnsPath);
    this.datapath.wirePod({
      ...{ containerId: pod, ifname: 'eth0', netns, netnsPath, vlan, mode, mtu: 9001 },
      ips: ips.map(parseIp),
      eni: { deviceIndex: 0, networkCard: 0 },
      hostIfname: hostIfname(pod),
    });
  }

  async #serve(where: string): Promise<void> {
    const child = spawn('ip', ['netns', 'exec', this.netnsOf(where), process.execPath, '-e', SERVE]);
    this.#servers.push(child);
    await new Promise((resolve, reject) => {
      child.stdout.once('data', resolve);
      child.once('exit', (code) => reject(new Error(`no server in ${where}: exit ${code}`)));
    });
  }

  run(where: string, ...command: string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.netnsOf(where), ...command]).toString();
  }

  /** As whom the server sees the sender; `same port` when it is the sender's own. */
  async seen(from: string, to: string, toPort = 8080, patienceMs = 30_000): Promise<string> {
    const own = String(++this.#port);
    const args = ['netns', 'exec', this.netnsOf(from), process.execPath, '-e', ASK];
    args.push(to, own, String(toPort), String(patienceMs));
    const { stdout } = await promisify(execFile)('ip', args);
    return stdout.trim().replace(` ${own}`, ', same port');
  }

  async close(): Promise<void> {
    for (const child of this.#servers) child.kill('SIGKILL');
    await this.datapath.close();
    this.node.close();
    for (const { pod } of PODS) deleteNetns(this.netnsOf(`pod-${pod}`));
    await this.lab[Symbol.asyncDispose]();
  }
}
