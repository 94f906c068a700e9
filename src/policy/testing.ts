// What tests of the table share: a router with the table, into which packets are put as frames and which notes the ones
// that come as far as the forward hook; and random policies, pods and packets. Frames need neither pods nor sockets, so
// that any protocol and any address can be tried, thousands in a second.
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { type Ip, ipToBytes, parseCidr, parseIp } from '../base/ip.ts';
import { libc } from '../kernel/ffi.ts';
import { deleteNetns, type Netns, openNetns, withNetns } from '../kernel/netns.ts';
import { NfNetlink } from '../kernel/nfnetlink.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import type { Requirement } from '../kube/selectors.ts';
import type { Packet } from './evaluate.ts';
import {
  type PodSelector,
  type PodView,
  type Policy,
  type PolicyRule,
  type Port,
  SCTP,
  TCP,
  UDP,
} from './model.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;

let count = 0;

/** Frames in on one link, out by another. */
export class PacketRange implements Disposable {
  readonly router: Netns;
  readonly #names: string[] = [];
  readonly #socket: number;
  readonly #macs: Uint8Array;
  readonly #nf: NfNetlink;
  #next = 1;

  constructor() {
    const prefix = `pwt-policy-${process.pid}-${count++}`;
    const [router, outside] = [`${prefix}-r`, `${prefix}-o`];
    for (const name of [router, outside]) {
      execFileSync('ip', ['netns', 'add', name]);
      this.#names.push(name);
    }
    const lines = [
      `link add in netns ${router} address 02:00:00:00:00:01 type veth peer name in netns ${outside} address 02:00:00:00:00:02`,
      `link add out netns ${router} address 02:00:00:00:00:03 type veth peer name out netns ${outside}`,
    ];
    for (const line of lines) execFileSync('ip', line.split(' '));
    const inRouter = [
      'link set in up',
      'link set out up',
      'addr add 192.0.2.2/24 dev out',
      'route add default via 192.0.2.1',
      'neigh add 192.0.2.1 lladdr 02:00:00:00:00:04 dev out nud permanent',
      'addr add 2001:db8:ffff::1/64 dev out nodad',
      '-6 route add default via 2001:db8:ffff::2 dev out',
      'neigh add 2001:db8:ffff::2 lladdr 02:00:00:00:00:04 dev out nud permanent',
    ];
    const sysctls = [
      'net.ipv4.ip_forward=1',
      'net.ipv6.conf.all.forwarding=1',
      'net.netfilter.nf_conntrack_checksum=0',
    ];
    for (const link of ['in', 'out']) execFileSync('ip', ['-n', outside, 'link', 'set', link, 'up']);
    for (const line of inRouter) execFileSync('ip', ['-n', router, ...line.split(' ')]);
    execFileSync('ip', ['netns', 'exec', router, 'nft', '-f', '-'], {
      input: `table inet seen {
        set ids { typeof ip id; size 65535; flags dynamic; }
        set labels { typeof ip6 flowlabel; size 65535; flags dynamic; }
        chain forward { type filter hook forward priority 0; add @ids { ip id }; add @labels { ip6 flowlabel }; }
      }`,
    });
    execFileSync('ip', ['netns', 'exec', router, 'sysctl', '-qw', ...sysctls]);
    this.router = openNetns(`/run/netns/${router}`);
    this.#nf = NfNetlink.open(this.router);
    using sender = openNetns(`/run/netns/${outside}`);
    using rt = RtNetlink.open(sender);
    const index = rt.links().find((link) => link.name === 'in')!.index;
    this.#macs = Uint8Array.of(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2);
    this.#socket = withNetns(sender, () => {
      const c = libc();
      const fd = c.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
      const address = new Uint8Array(20);
      const view = new DataView(address.buffer);
      view.setUint16(0, AF_PACKET, true);
      view.setInt32(4, index, true);
      if (fd < 0 || c.bind(fd, address, address.length) !== 0) throw new Error('no packet socket');
      return fd;
    });
  }

  nft(script: string): string {
    return execFileSync('ip', ['netns', 'exec', this.#names[0]!, 'nft', script], { encoding: 'utf8' });
  }

  /** For each packet whether it came through; each begins something new. */
  send(packets: readonly Packet[]): boolean[] {
    const known = this.#nf.conntrack().map(({ orig }) => orig.src);
    this.#nf.conntrackDelete({ ips: known });
    return this.goOn(packets);
  }

  /** The same, with what is tracked; `sport` makes several packets one connection. */
  goOn(packets: readonly (Packet & { readonly sport?: number })[]): boolean[] {
    const ids = packets.map((packet) => {
      const id = this.#next++ & 0xffff;
      const frame = frameOf(packet, id, this.#macs);
      if (libc().send(this.#socket, frame, frame.length, 0) !== frame.length)
        throw new Error('the frame was not sent');
      return id;
    });
    // The pair of links hands over on the sender's own stack or a softirq of it: a later command finds all done.
    const seen = new Set<number>();
    for (const set of ['ids', 'labels']) {
      const text = this.nft(`list set inet seen ${set}`);
      const listed = /elements = \{([^}]*)\}/.exec(text)?.[1] ?? '';
      for (const item of listed.split(',')) if (item.trim() !== '') seen.add(Number(item));
    }
    this.nft('flush set inet seen ids; flush set inet seen labels');
    return ids.map((id) => seen.has(id));
  }

  [Symbol.dispose](): void {
    libc().close(this.#socket);
    this.#nf.close();
    this.router.close();
    for (const name of this.#names) deleteNetns(name);
  }
}

/** An Ethernet frame whose IP identification (IPv4) or flow label (IPv6) is `id`. */
function frameOf(
  { src, dst, protocol, port, sport }: Packet & { readonly sport?: number },
  id: number,
  macs: Uint8Array,
): Uint8Array {
  const isFour = typeof src === 'number';
  const body = new Uint8Array(32);
  const bodyView = new DataView(body.buffer);
  bodyView.setUint16(0, sport ?? 1024 + (id % 60_000));
  bodyView.setUint16(2, port ?? 0);
  if (protocol === TCP) {
    body[12] = 5 << 4;
    body[13] = 2; // SYN
  } else if (protocol === UDP) bodyView.setUint16(4, body.length);
  else if (protocol === SCTP)
    body.set([1, 0, 0, 20, 0, 0, 0, 1], 12); // INIT
  else {
    body.fill(0, 0, 4);
    body[0] = protocol === 1 ? 8 : protocol === 58 ? 128 : 0; // echo request
    bodyView.setUint16(4, id);
  }
  const header = new Uint8Array(isFour ? 20 : 40);
  const view = new DataView(header.buffer);
  if (isFour) {
    header[0] = 0x45;
    view.setUint16(2, header.length + body.length);
    view.setUint16(4, id);
    header[8] = 64;
    header[9] = protocol;
    header.set(ipToBytes(src), 12);
    header.set(ipToBytes(dst), 16);
    let sum = 0;
    for (let at = 0; at < 20; at += 2) sum += view.getUint16(at);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    view.setUint16(10, ~sum & 0xffff);
  } else {
    view.setUint32(0, (6 << 28) | id);
    view.setUint16(4, body.length);
    header[6] = protocol;
    header[7] = 64;
    header.set(ipToBytes(src), 8);
    header.set(ipToBytes(dst), 24);
  }
  return Uint8Array.from([...macs, ...(isFour ? [0x08, 0x00] : [0x86, 0xdd]), ...header, ...body]);
}

// Random worlds: few names and numbers, so that they meet.

const NAMESPACES = ['x', 'y', 'z'];
const PORTS = [53, 80, 81, 443, 8080];
export const pick = <const T>(...values: T[]) => fc.constantFrom(...values);

const requirement = fc.oneof(
  fc.record({
    key: pick('pod', 'app'),
    operator: pick('in', 'notin'),
    values: fc.subarray(['a', 'b', 'c'], { minLength: 1 }),
  }),
  fc.record({
    key: pick('pod', 'app'),
    operator: pick('exists', 'absent'),
    values: fc.constant([] as string[]),
  }),
) as fc.Arbitrary<Requirement>;
const nsRequirement: fc.Arbitrary<Requirement> = fc.record({
  key: fc.constant('ns'),
  operator: pick('in', 'notin'),
  values: fc.subarray(NAMESPACES, { minLength: 1 }),
});
const selectorIn = (namespace: string): fc.Arbitrary<PodSelector> =>
  fc.record({
    namespace: fc.oneof(fc.constant(namespace), fc.array(nsRequirement, { maxLength: 1 })),
    pods: fc.array(requirement, { maxLength: 2 }),
  });
export const cidrs = [
  '10.0.0.0/8',
  '10.0.0.0/30',
  '10.0.0.4/31',
  '10.0.0.2/32',
  '0.0.0.0/0',
  '198.51.100.0/24',
  '::/0',
  'fd00::/64',
  'fd00::4/126',
];
const cidr = pick(...cidrs.map((text) => parseCidr(text)));
const portOf = fc.oneof(
  fc
    .record({ protocol: pick(TCP, UDP, SCTP), from: pick(...PORTS) })
    .map(({ protocol, from }) => ({ protocol, from, to: from })),
  fc
    .record({ protocol: pick(TCP, UDP, SCTP), from: pick(0, 50, 80), to: pick(80, 90, 8080, 65_535) })
    .map((range) => range as Port),
  fc.record({ protocol: pick(TCP, UDP), name: pick('web', 'dns') }),
);

const ruleIn = (
  namespace: string,
  verdicts: PolicyRule['verdict'][],
): fc.Arbitrary<Omit<PolicyRule, 'index'>> =>
  fc.record({
    peers: fc.array(
      fc.oneof(
        fc.constant({ kind: 'any' as const }),
        selectorIn(namespace).map((selector) => ({ kind: 'pods' as const, selector })),
        fc.record({ kind: fc.constant('cidr' as const), cidr, except: fc.array(cidr, { maxLength: 2 }) }),
      ),
      { minLength: 1, maxLength: 3 },
    ),
    ports: fc.oneof(fc.constant(null), fc.array(portOf, { minLength: 1, maxLength: 3 })),
    verdict: pick(...verdicts),
  });

const rules = (namespace: string, verdicts: PolicyRule['verdict'][]) =>
  fc.option(
    fc
      .array(ruleIn(namespace, verdicts), { maxLength: 3 })
      .map((all) => all.map((rule, index): PolicyRule => ({ ...rule, index }))),
    { freq: 2 },
  );

const networkPolicy: fc.Arbitrary<Policy> = pick(...NAMESPACES).chain((namespace) =>
  fc.record({
    object: fc.constant(`networkpolicy ${namespace}/p`),
    tier: fc.constant('networkpolicy' as const),
    priority: fc.constant(0),
    subject: fc.record({ namespace: fc.constant(namespace), pods: fc.array(requirement, { maxLength: 1 }) }),
    egress: rules(namespace, ['allow']),
    ingress: rules(namespace, ['allow']),
  }),
);
const clusterPolicy: fc.Arbitrary<Policy> = fc.record({
  object: fc.constant('clusternetworkpolicy p'),
  tier: pick('admin' as const, 'baseline' as const),
  priority: fc.nat(9),
  subject: selectorIn('x'),
  egress: rules('x', ['allow', 'deny', 'pass']),
  ingress: rules('x', ['allow', 'deny', 'pass']),
});

/** Objects of one kind have different names. */
export const policies: fc.Arbitrary<Policy[]> = fc
  .array(fc.oneof({ weight: 3, arbitrary: networkPolicy }, { weight: 1, arbitrary: clusterPolicy }), {
    maxLength: 6,
  })
  .map((all) => all.map((policy, at) => ({ ...policy, object: `${policy.object}${at}` })));

/** Eight pods in three namespaces, with an address of each family. */
export const pods: fc.Arbitrary<PodView[]> = fc
  .array(
    fc.record({
      namespace: pick(...NAMESPACES),
      labels: fc
        .dictionary(pick('pod', 'app'), pick('a', 'b', 'c'), { maxKeys: 2 })
        .map((labels) => ({ ...labels })),
      ports: fc.subarray([
        { name: 'web', protocol: TCP, port: 80 },
        { name: 'web', protocol: TCP, port: 8080 },
        { name: 'dns', protocol: UDP, port: 53 },
      ] as PodView['ports'][number][]),
      node: pick('here', 'here', 'there'),
      hostNetwork: fc.constant(false),
      ended: fc.integer({ min: 0, max: 7 }).map((n) => n === 0),
    }),
    { minLength: 8, maxLength: 8 },
  )
  .map((all) =>
    all.map(
      (pod, at): PodView => ({
        ...pod,
        name: `p${at}`,
        uid: `${at}`,
        ips: [parseIp(`10.0.0.${at}`), parseIp(`fd00::${at}`)],
      }),
    ),
  );

export const namespaces = new Map(NAMESPACES.map((name) => [name, { ns: name }]));

export const packet: fc.Arbitrary<Packet> = fc
  .record({
    six: fc.boolean(),
    src: fc.nat(9),
    dst: fc.nat(9),
    protocol: pick(TCP, TCP, UDP, SCTP, 1, 47),
    port: pick(...PORTS, 79, 82, 65_535),
  })
  .map(({ six, src, dst, protocol, port }) => {
    const address = (n: number): Ip => {
      if (n === 9) return parseIp(six ? '2001:db8:1::9' : '198.51.100.9');
      return parseIp(six ? `fd00::${n}` : `10.0.0.${n}`);
    };
    // Without ports, a packet that comes back is a reply, also when it was meant to begin something.
    if (protocol === 47) [src, dst] = [Math.min(src, dst), Math.max(src, dst)];
    const hasPort = protocol === TCP || protocol === UDP || protocol === SCTP;
    return {
      src: address(src),
      dst: address(dst),
      protocol: six && protocol === 1 ? 58 : protocol,
      port: hasPort ? port : null,
    };
  });
