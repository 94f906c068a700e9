// Finds what this machine can do by trying it in a temporary namespace. Versions and config files are used only where
// no attempt is possible. `podway doctor` prints the rows; nothing here throws.
import { accessSync, constants, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { type Ipv4, parseCidr, parseIp } from '../base/ip.ts';
import { hookWay, programsOn, setProgram } from './bpf/hooks.ts';
import { pushTo } from './bpf/programs.ts';
import { libnftables, NftContext } from './libnftables.ts';
import { createAnonymousNetns, NETNS_DIR, type Netns, withNetns } from './netns.ts';
import { NfNetlink } from './nfnetlink.ts';
import { RtNetlink } from './rtnetlink.ts';
import { readSysctl, writeSysctl } from './sysctl.ts';

export type Feature = {
  name: string;
  present: boolean;
  /** Podway does not work without it. */
  needed: boolean;
  /** What was seen, or why it is missing. */
  detail: string;
  /** What to do when it is missing. */
  next: string;
};

/** 5.10: the oldest long-term kernel with all that is used (CTA_FILTER 5.8, nft concatenated intervals 5.6). */
const OLDEST_KERNEL: readonly [number, number] = [5, 10];
const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** Runs the attempt: its result is the row's detail; its error is the reason why the feature is missing. */
function attempt(name: string, needed: boolean, next: string, tryIt: () => string): Feature {
  try {
    return { name, present: true, needed, detail: tryIt(), next };
  } catch (error) {
    return { name, present: false, needed, detail: textOf(error), next };
  }
}

function capabilities(): bigint {
  const line = readFileSync('/proc/self/status', 'utf8').match(/^CapEff:\s*([0-9a-f]+)$/m);
  return BigInt(`0x${line?.[1] ?? '0'}`);
}

function findProgram(name: string): string {
  const folders = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  for (const folder of folders) {
    const path = `${folder}/${name}`;
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not here: the next folder
    }
  }
  throw new Error(`no ${name} in PATH`);
}

function inNftables(ns: Netns, script: string): string {
  return withNetns(ns, () => {
    const context = new NftContext();
    try {
      const result = context.run(script, false);
      if (!result.ok) throw new Error(result.error.trim().split('\n')[0] ?? 'refused');
      return 'works';
    } finally {
      context.free();
    }
  });
}

function machineFeatures(): Feature[] {
  return [
    attempt('linux', true, 'Podway runs on Linux, x64 or arm64', () => {
      if (process.platform !== 'linux') throw new Error(process.platform);
      return `${process.platform} ${process.arch}`;
    }),
    attempt(
      'root',
      true,
      'run as root: namespaces, links and nftables need CAP_NET_ADMIN and CAP_SYS_ADMIN',
      () => {
        const held = capabilities();
        for (const [name, bit] of [
          ['CAP_NET_ADMIN', CAP_NET_ADMIN],
          ['CAP_SYS_ADMIN', CAP_SYS_ADMIN],
        ] as const) {
          if (((held >> bit) & 1n) === 0n) throw new Error(`no ${name}`);
        }
        return `uid ${process.getuid?.()}`;
      },
    ),
    attempt('kernel', true, `use a kernel of ${OLDEST_KERNEL.join('.')} or newer`, () => {
      const [major = 0, minor = 0] = release()
        .split('.')
        .map((part) => Number.parseInt(part, 10));
      if (major < OLDEST_KERNEL[0] || (major === OLDEST_KERNEL[0] && minor < OLDEST_KERNEL[1]))
        throw new Error(release());
      return release();
    }),
    attempt('libnftables', true, 'install libnftables1 (Debian, Ubuntu) or nftables (Fedora)', () => {
      libnftables();
      return 'libnftables.so.1';
    }),
    attempt('nsenter', false, 'install util-linux: the lab enters namespaces by it', () =>
      findProgram('nsenter'),
    ),
    attempt('ip', false, 'install iproute2 to look into the namespaces', () => findProgram('ip')),
  ];
}

/** Attempts in the empty namespace `ns`; objects that they make are deleted with `ns`. */
function kernelFeatures(ns: Netns, rt: RtNetlink): Feature[] {
  const indexOf = (name: string) => rt.link(name)?.index ?? 0;
  return [
    attempt('veth', true, 'the kernel needs CONFIG_VETH (modprobe veth)', () => {
      rt.apply([{ op: 'veth-add', name: 'probe0', peer: { name: 'probe1' } }]);
      rt.apply([
        { op: 'link-set', name: 'lo', up: true },
        { op: 'link-set', name: 'probe0', up: true },
      ]);
      return 'works';
    }),
    attempt('bridge', true, 'the kernel needs CONFIG_BRIDGE (modprobe bridge)', () => {
      rt.apply([{ op: 'bridge-add', name: 'probe-br' }]);
      rt.apply([{ op: 'link-set', name: 'probe1', master: indexOf('probe-br') }]);
      return 'works';
    }),
    attempt('neigh_suppress', false, 'bridges of this kernel cannot answer ARP by themselves', () => {
      rt.apply([
        { op: 'link-set', name: 'probe1', port: { neighSuppress: true, isolated: true, learning: false } },
      ]);
      if (rt.link('probe1')?.port?.neighSuppress !== true) throw new Error('the flag does not stay');
      return 'works';
    }),
    attempt('policy-routing', true, 'the kernel needs CONFIG_IP_MULTIPLE_TABLES', () => {
      rt.apply([
        { op: 'rule-add', family: 4, priority: 100, fwmark: 1, fwmask: 0x7f, table: 20481 },
        { op: 'route-add', dst: parseCidr('10.255.0.0/16'), table: 20481, oif: indexOf('probe0') },
      ]);
      if (rt.rules(4).every((rule) => rule.fwmask !== 0x7f)) throw new Error('the rule has no mark mask');
      return 'tables above 255, rules by mark and mask';
    }),
    attempt('ipv6', false, 'IPv6 is off: IPv6 pods will not work', () => {
      rt.apply([{ op: 'addr-add', index: indexOf('lo'), ip: parseIp('fd00::1'), length: 128 }]);
      return 'works';
    }),
    attempt(
      'sysctl',
      true,
      '/proc/sys is read-only here: run outside a container, or in a privileged one',
      () => {
        writeSysctl(ns, 'net/ipv4/ip_forward', '1');
        if (readSysctl(ns, 'net/ipv4/ip_forward') !== '1')
          throw new Error('net.ipv4.ip_forward does not stay');
        return 'writable';
      },
    ),
    attempt('nftables', true, 'the kernel needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET', () =>
      inNftables(
        ns,
        'table inet probe { chain c { type filter hook prerouting priority 0; counter drop\n}\n}',
      ),
    ),
    attempt('nft-maps', true, 'the kernel lacks verdict maps or concatenated interval sets of nftables', () =>
      inNftables(
        ns,
        `table inet probe {
          chain target { accept\n}
          map m { type ipv4_addr : verdict; elements = { 10.0.0.1 : jump target } }
          set s { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 80-90 } }
          chain maps { ip saddr vmap @m\n ip saddr . tcp dport @s accept\n}
        }`,
      ),
    ),
    attempt('fwmark', true, 'the kernel cannot set packet marks from nftables', () =>
      inNftables(ns, 'table inet probe { chain marks { meta mark set meta mark & 0xffffff80 | 0x1\n}\n}'),
    ),
    attempt(
      'conntrack',
      true,
      'the kernel needs CONFIG_NF_CONNTRACK, its netlink interface and marks',
      () => {
        inNftables(
          ns,
          `table inet probe { chain tracking { type filter hook input priority 0
          ct state established,related accept\n ct mark set meta mark\n meta mark set ct mark\n}\n}`,
        );
        using netfilter = NfNetlink.open(ns);
        netfilter.conntrack({ ip: 0 as Ipv4 });
        return `${netfilter.conntrackCount()} entries in an empty namespace`;
      },
    ),
    attempt('nat', true, 'the kernel needs CONFIG_NFT_NAT and CONFIG_NFT_MASQ', () =>
      inNftables(
        ns,
        `table ip probe { chain post { type nat hook postrouting priority 100
          ip saddr 10.0.0.1 snat to 10.0.0.2\n masquerade fully-random\n}
          chain pre { type nat hook prerouting priority -100; ip daddr 10.0.0.2 dnat to 10.0.0.1\n}\n}`,
      ),
    ),
    attempt(
      'link-programs',
      false,
      'the kernel needs CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF: pods cannot have branch ENIs (security groups per pod)',
      () => {
        const index = indexOf('probe0');
        const way = hookWay(ns, index);
        setProgram(ns, index, 'egress', pushTo(1, index), way);
        if (programsOn(ns, index, 'egress', way).length !== 1) throw new Error('a program does not stay');
        return `802.1Q tags by ${way}`;
      },
    ),
    attempt('nft-fib', false, 'the kernel lacks CONFIG_NFT_FIB_INET', () =>
      inNftables(ns, 'table inet probe { chain lookup { fib daddr type local accept\n}\n}'),
    ),
  ];
}

/** Everything that Podway asks of the machine; takes tens of milliseconds and leaves nothing. */
export function probeFeatures(): Feature[] {
  const features = machineFeatures();
  let ns: Netns | undefined;
  features.push(
    attempt('unshare', true, 'run as root, on a kernel with CONFIG_NET_NS', () => {
      ns = createAnonymousNetns();
      return `namespaces, named under ${NETNS_DIR}`;
    }),
  );
  if (!ns) return features;
  try {
    using rt = RtNetlink.open(ns);
    features.push(...kernelFeatures(ns, rt));
  } catch (error) {
    const next = 'use a kernel that has it';
    features.push({ name: 'netlink', present: false, needed: true, detail: textOf(error), next });
  } finally {
    ns.close();
  }
  return features;
}
