// Writes golden.json anew: runs iproute2, nft and conntrack under strace in a namespace of its own and keeps what they
// sent and what the kernel answered, as hex. Needs root, strace, iproute2, nftables and conntrack:
//   bin/podway-node src/kernel/testdata/capture.ts
import { execFileSync, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createNetns, deleteNetns } from '../netns.ts';

export type Exchange = { command: string; sent: string[]; received: string[] };

const COMMANDS = [
  'ip link add v0 address 02:00:00:00:00:01 mtu 9001 group 7 txqueuelen 100 type veth peer name v1 address 02:00:00:00:00:02 mtu 1400',
  'ip link add b0 address 02:00:00:00:00:03 type bridge ageing_time 30000 mcast_snooping 0',
  'ip link set v0 up',
  'ip link set v1 master b0',
  'ip link set v1 type bridge_slave isolated on learning off neigh_suppress on',
  'ip link set v0 alias podway',
  'ip -d link show v1',
  'ip addr add 10.0.0.5/24 dev v0 noprefixroute',
  'ip -6 addr add fd00::5/64 dev v0 nodad',
  'ip addr show dev v0',
  'ip neigh replace 169.254.1.1 lladdr 02:00:00:00:00:09 dev v0 nud permanent',
  'ip neigh show dev v0',
  'ip route add 169.254.1.1/32 dev v0 proto 80',
  'ip route add default via 169.254.1.1 dev v0 table 20481 proto 80 src 10.0.0.5 mtu 1400 metric 9 onlink',
  'ip route replace blackhole 10.9.0.0/16 table 100 proto 80',
  'ip -6 route add fd00:1::/64 dev v0 table 20481 proto 80 metric 1024',
  'ip route show table 20481',
  'ip route del 169.254.1.1/32 dev v0 proto 80',
  'ip rule add priority 512 from 10.0.0.0/24 to 10.1.0.0/16 iif v0 fwmark 0x1/0x7f table 20481 suppress_prefixlength 0 protocol 80',
  'ip rule show',
  'ip rule del priority 512 from 10.0.0.0/24 to 10.1.0.0/16 iif v0 fwmark 0x1/0x7f table 20481 suppress_prefixlength 0 protocol 80',
  'bridge fdb replace 02:00:00:00:00:77 dev v1 master static',
  'bridge fdb show dev v1',
  'nft add table inet t { chain c { } ; map m { type ipv4_addr : verdict ; } ; set s { type ipv4_addr . inet_service ; flags interval ; } ; }',
  'nft add element inet t m { 10.0.0.1 : jump c }',
  'nft add element inet t s { 10.0.0.0-10.0.0.255 . 80-90 }',
  'nft list map inet t m',
  'nft list set inet t s',
  'nft delete element inet t m { 10.0.0.1 }',
  'conntrack -I -s 10.0.0.1 -d 10.0.9.9 -r 10.0.9.9 -q 192.0.2.4 -p tcp --sport 1234 --dport 80 --reply-port-src 80 --reply-port-dst 4321 --state ESTABLISHED -t 600 -u SEEN_REPLY,ASSURED -m 7',
  'conntrack -L',
  'ip link del v0',
  'ip link add v0 group 7 type veth peer name v1',
  'ip link del group 7',
];

/** Hex digits. */
const LONGEST_ANSWER = 4000;

/** Reads strace's hex dumps: a call's line, then `| offset  bytes  text |` lines, one block per buffer. */
function exchangeOf(command: string, trace: string): Exchange {
  const exchange: Exchange = { command, sent: [], received: [] };
  let bytes: string[] | undefined;
  let list = exchange.sent;
  const flush = () => {
    if (bytes && bytes.length > 0) list.push(bytes.join(''));
    bytes = undefined;
  };
  for (const line of trace.split('\n')) {
    const call = line.match(/^(?:\[pid +\d+\] )?(send|recv)\w+\(/);
    if (call) {
      flush();
      const netlink = line.includes('nlmsg_len=') && !line.includes('MSG_PEEK');
      list = call[1] === 'send' ? exchange.sent : exchange.received;
      bytes = netlink ? [] : undefined;
    } else if (/^ \* \d+ bytes in buffer/.test(line)) {
      if (bytes === undefined) continue;
      flush();
      bytes = [];
    } else if (bytes) {
      const dump = line.match(/^ \| [0-9a-f]{5} {2}(.{49})/);
      if (dump) bytes.push(dump[1]!.replaceAll(' ', ''));
    }
  }
  flush();
  return exchange;
}

const name = `pwt-kernel-${process.pid}`;
createNetns(name).close();
try {
  const exchanges = COMMANDS.map((command) => {
    const [program = '', ...rest] = command.split(' ');
    const args = program === 'nft' ? [rest.join(' ')] : rest;
    const calls = 'trace=sendmsg,sendto,recvmsg,recvfrom';
    const run = [
      'netns',
      'exec',
      name,
      'strace',
      '-e',
      calls,
      '-e',
      'write=3,4,5',
      '-e',
      'read=3,4,5',
      '-s',
      '9999',
      program,
    ];
    const result = spawnSync('ip', [...run, ...args], { encoding: 'utf8' });
    if (result.status !== 0) throw new Error(`${command}: ${result.stderr.slice(-400)}`);
    const { sent, received } = exchangeOf(command, result.stderr);
    // A change is its last request; a look is what the kernel answered, dumps of every link aside.
    const isLook = / (show|list|-L) /.test(`${command} `);
    return isLook
      ? { command, sent: [], received: received.filter((hex) => hex.length < LONGEST_ANSWER) }
      : { command, sent: sent.slice(-1), received: [] };
  });
  const kernel = execFileSync('uname', ['-r'], { encoding: 'utf8' }).trim().split('-')[0];
  writeFileSync(
    new URL('./golden.json', import.meta.url),
    `${JSON.stringify({ kernel, exchanges }, null, 1)}\n`,
  );
} finally {
  deleteNetns(name);
}
