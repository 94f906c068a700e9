// A small VPC for the root tests: a router namespace that checks sources as EC2 does, a node with ENIs, a bare peer and
// an internet host behind the router. Made with iproute2, so that the tests do not lean on what they test.
// Everything is named after the process and removed by [Symbol.dispose].
import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { formatIp, type Ip, parseCidr, parseIp } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import { parseMac } from '../base/mac.ts';
import { deleteNetns, listNetns, type Netns, openNetns } from '../kernel/netns.ts';
import { linkAlias } from './alias.ts';
import { createDatapath, type Datapath, type DatapathOptions } from './datapath.ts';
import { hostLinkName } from './marks.ts';
import type { Eni, HeldPod, NodeDatapath, PodWiring, WiredPod } from './types.ts';

export const isRoot = process.getuid?.() === 0;
export const needsRoot = isRoot ? {} : { skip: 'needs root: makes network namespaces' };

export const INTERNET = '203.0.113.10';
export const IMDS = '169.254.169.254';
export const PEER = '10.0.0.20';
const GATEWAY = '10.0.0.1';

export const eni0: Eni = {
  id: 'eni-0',
  mac: parseMac('02:00:00:00:00:10'),
  deviceIndex: 0,
  networkCard: 0,
  primaryIp: parseIp('10.0.0.10'),
  subnetCidr: parseCidr('10.0.0.0/24'),
  addresses: ['10.0.0.77', '10.0.0.78'].map(parseIp),
  prefixes: [],
};
export const eni1: Eni = {
  id: 'eni-1',
  mac: parseMac('02:00:00:00:00:11'),
  deviceIndex: 1,
  networkCard: 0,
  primaryIp: parseIp('10.0.0.40'),
  subnetCidr: parseCidr('10.0.0.0/24'),
  addresses: ['10.0.0.120', '10.0.0.121'].map(parseIp),
  prefixes: [parseCidr('10.0.0.160/28')],
};
export const eni2: Eni = {
  id: 'eni-2',
  mac: parseMac('02:00:00:00:00:12'),
  deviceIndex: 2,
  networkCard: 0,
  primaryIp: parseIp('10.0.0.50'),
  subnetCidr: parseCidr('10.0.0.0/24'),
  addresses: ['10.0.0.130'].map(parseIp),
  prefixes: [],
};

export const nodeState = (over: Partial<NodeDatapath> = {}): NodeDatapath => ({
  enis: [eni0, eni1],
  vpcCidrs: [parseCidr('10.0.0.0/16')],
  snat: 'node',
  excludeSnatCidrs: [],
  eniMtu: 9001,
  pods: [],
  ...over,
});

export const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };

/** Namespace names are short: they go into link names nowhere, but `ip netns` output stays readable. */
let count = 0;

export class TestVpc implements Disposable {
  readonly prefix = `pwt-datapath-${process.pid}-${count++}`;
  readonly node: Netns;
  readonly #open: Netns[] = [];
  readonly #names: string[] = [];
  readonly #children: { kill(signal: 'SIGKILL'): boolean }[] = [];

  constructor(options: { enis?: readonly Eni[] } = {}) {
    const enis = options.enis ?? [eni0, eni1];
    this.addNetns('vpc');
    this.node = this.addNetns('node');
    this.addNetns('peer');
    this.addNetns('internet');
    this.sysctl('vpc', 'net.ipv4.ip_forward', '1');
    this.ip('vpc', 'route add blackhole 10.0.0.0/16');
    this.ip('vpc', `addr add ${IMDS}/32 dev lo`);
    for (const eni of enis) this.attach(eni);
    this.#link('peer', 'eth0', '02:00:00:00:00:20', 'epeer', [PEER]);
    this.ip('peer', `addr add ${PEER}/24 dev eth0`);
    this.ip('peer', 'link set eth0 up');
    this.ip('peer', `route add default via ${GATEWAY}`);
    this.#link('internet', 'eth0', '02:00:00:00:00:30', 'einet', [INTERNET]);
    this.ip('internet', `addr add ${INTERNET}/32 dev eth0`);
    this.ip('internet', 'link set eth0 up');
    this.ip('internet', `route add default via ${GATEWAY} dev eth0 onlink`);
    if (enis.includes(eni0)) {
      this.ip('node', 'addr add 10.0.0.10/24 dev eth0');
      this.ip('node', 'link set eth0 up');
      this.ip('node', `route add default via ${GATEWAY}`);
    }
  }

  /** The ENI appears on the node, down and without addresses; the router delivers to what it holds, and checks sources. */
  attach(eni: Eni): void {
    const held = [formatIp(eni.primaryIp), ...eni.addresses.map(formatIp)];
    this.#link('node', `eth${eni.deviceIndex}`, eni.mac, `e${eni.deviceIndex}`, held);
    this.nft(
      'vpc',
      `table ip check${eni.deviceIndex} { chain c { type filter hook prerouting priority -300; iifname "e${eni.deviceIndex}" ip saddr != { ${held.join(', ')} } counter drop; }; }`,
    );
  }

  detach(eni: Eni): void {
    this.ip('vpc', `link del e${eni.deviceIndex}`);
  }

  /** Packets that the router dropped because an ENI sent them with an address it does not hold. */
  wrongSources(): number {
    const text = this.run('vpc', ['nft', 'list', 'ruleset']);
    return [...text.matchAll(/counter packets (\d+)/g)].reduce((sum, match) => sum + Number(match[1]), 0);
  }

  #link(where: string, ifname: string, mac: string, routerEnd: string, held: readonly string[]): void {
    const there = this.name(where);
    this.ip('vpc', `link add ${routerEnd} type veth peer name ${ifname} netns ${there} address ${mac}`);
    this.ip('vpc', `link set ${routerEnd} mtu 9001 up`);
    this.ip(where, `link set ${ifname} mtu 9001`);
    this.ip('vpc', `addr add ${GATEWAY}/32 dev ${routerEnd}`);
    // As the VPC: everything of the subnet is answered for, and nobody sends ARP to an instance.
    this.sysctl('vpc', `net.ipv4.conf.${routerEnd}.proxy_arp`, '1');
    this.sysctl('vpc', `net.ipv4.neigh.${routerEnd}.proxy_delay`, '0');
    for (const ip of held) {
      this.ip('vpc', `neigh add ${ip} lladdr ${mac} dev ${routerEnd} nud permanent`);
      this.ip('vpc', `route add ${ip}/32 dev ${routerEnd}`);
    }
  }

  name(where: string): string {
    return `${this.prefix}-${where}`;
  }

  addNetns(where: string): Netns {
    execFileSync('ip', ['netns', 'add', this.name(where)]);
    this.#names.push(this.name(where));
    const netns = openNetns(`/run/netns/${this.name(where)}`);
    this.#open.push(netns);
    this.ip(where, 'link set lo up');
    return netns;
  }

  /** The name goes, and the namespace with it once nobody has it open. */
  removeNetns(where: string): void {
    const path = `/run/netns/${this.name(where)}`;
    for (const netns of this.#open.filter((one) => one.path === path)) netns.close();
    deleteNetns(this.name(where));
  }

  run(where: string, command: readonly string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.name(where), ...command], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  ip(where: string, command: string): string {
    return execFileSync('ip', ['-n', this.name(where), ...command.split(' ')], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  }

  nft(where: string, script: string): string {
    return execFileSync('ip', ['netns', 'exec', this.name(where), 'nft', '-f', '-'], {
      input: script,
      encoding: 'utf8',
    });
  }

  sysctl(where: string, key: string, value?: string): string {
    return this.run(where, [
      'sysctl',
      '-n',
      ...(value === undefined ? [key] : ['-w', `${key}=${value}`]),
    ]).trim();
  }

  /** One echo request, answered; a busy machine has time. */
  ping(from: string, to: string, ...options: string[]): boolean {
    return this.#ping(from, to, '3', options);
  }

  /** One echo request that nobody answers while an answer would have come ten times over. */
  isSilent(from: string, to: string, ...options: string[]): boolean {
    return !this.#ping(from, to, '0.2', options);
  }

  #ping(from: string, to: string, seconds: string, options: readonly string[]): boolean {
    try {
      this.run(from, ['ping', '-c1', '-W', seconds, '-n', '-q', ...options, to]);
      return true;
    } catch {
      return false;
    }
  }

  /** A TCP server that answers each connection with its peer's address, and a line per line. */
  async serve(where: string, port: number): Promise<void> {
    const child = spawn(
      'ip',
      ['netns', 'exec', this.name(where), process.execPath, '-e', SERVER, String(port)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    this.#children.push(child);
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve());
      child.once('exit', (code) => reject(new Error(`server in ${where} ended: ${code}`)));
    });
  }

  /** The address that a server saw; null when there is no connection within two seconds. */
  seenFrom(from: string, to: string, port: number): string | null {
    return this.seenSocket(from, to, port)?.address ?? null;
  }

  seenSocket(
    from: string,
    to: string,
    port: number,
    localPort = 0,
  ): { address: string; port: number } | null {
    try {
      const [address, seenPort] = this.run(from, [
        process.execPath,
        '-e',
        CLIENT,
        to,
        String(port),
        String(localPort),
      ])
        .trim()
        .split(' ');
      return { address: address!, port: Number(seenPort) };
    } catch {
      return null;
    }
  }

  /** Everything in a namespace that the datapath could have touched, as text. */
  snapshot(where: string): string {
    const sysctls = this.run(where, [
      'sysctl',
      '-a',
      '-r',
      '^net\\.(ipv4\\.(ip_forward$|ip_early_demux$|conf\\.)|ipv6\\.conf\\.[^.]*\\.(forwarding|accept_ra|disable_ipv6)$)',
    ])
      .split('\n')
      .filter((line) => !line.includes('.pw'));
    return [
      this.ip(where, '-4 rule'),
      this.ip(where, '-4 route show table all'),
      this.ip(where, '-6 rule'),
      this.ip(where, '-4 addr').replaceAll(/ state \S+|NO-CARRIER,?|,LOWER_UP|qlen \d+/g, ''),
      this.ip(where, '-br link').replaceAll(
        / (UP|DOWN|UNKNOWN|LOWERLAYERDOWN) |NO-CARRIER,?|,LOWER_UP/g,
        ' ',
      ),
      this.run(where, ['nft', 'list', 'ruleset']),
      ...sysctls,
    ].join('\n');
  }

  [Symbol.dispose](): void {
    for (const child of this.#children) child.kill('SIGKILL');
    for (const netns of this.#open) netns.close();
    for (const name of this.#names) deleteNetns(name);
  }

  static leftovers(): string[] {
    return listNetns().filter((name) => name.startsWith(`pwt-datapath-${process.pid}-`));
  }
}

const SERVER = `
require('net').createServer((s) => { s.on('error', () => {}); s.write(s.remoteAddress.replace('::ffff:', '') + ' ' + s.remotePort + '\\n'); s.on('data', (d) => s.write(d)); })
  .listen(Number(process.argv[1]), '::', () => console.log('up'));`;
const CLIENT = `
const [host, port, localPort] = process.argv.slice(1);
const s = require('net').connect({ host, port: Number(port), ...(localPort === '0' ? {} : { localPort: Number(localPort) }) });
setTimeout(() => process.exit(1), 2000);
s.on('error', () => process.exit(1)); s.once('data', (d) => { process.stdout.write(d); process.exit(0); });`;

/** A pod's namespace, wired. */
export class TestPods {
  readonly vpc: TestVpc;
  readonly datapath: Datapath;
  readonly held = new Map<string, HeldPod>();

  constructor(vpc: TestVpc, options: Partial<DatapathOptions> = {}) {
    this.vpc = vpc;
    this.datapath = createDatapath({ netns: vpc.node, log: quiet, ...options });
  }

  wiring(where: string, ip: string, eni: Eni, over: Partial<PodWiring> = {}): PodWiring {
    const containerId = randomBytes(8).toString('hex');
    const ips: Ip[] = [parseIp(ip)];
    const netnsPath = `/run/netns/${this.vpc.name(where)}`;
    const key = { network: 'podway', containerId, ifname: over.ifname ?? 'eth0' };
    const hostIfname = hostLinkName(key);
    const alias = linkAlias({ ...key, pod: { namespace: 'default', name: where }, netns: netnsPath });
    const netns = openNetns(netnsPath);
    return { containerId, ifname: 'eth0', netns, netnsPath, ips, eni, mtu: 9001, hostIfname, alias, ...over };
  }

  add(where: string, ip: string, eni: Eni, over: Partial<PodWiring> = {}): WiredPod {
    this.vpc.addNetns(where);
    const wiring = this.wiring(where, ip, eni, over);
    try {
      const wired = this.datapath.wirePod(wiring);
      this.held.set(where, { hostIfname: wired.hostIfname, ips: wiring.ips, eni });
      return wired;
    } finally {
      wiring.netns.close();
    }
  }

  state(over: Partial<NodeDatapath> = {}): NodeDatapath {
    return nodeState({ pods: [...this.held.values()], ...over });
  }
}
