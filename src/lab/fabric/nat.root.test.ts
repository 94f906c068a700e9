// NAT gateways on real packets: whose address the internet sees, what comes back and what does not, and IPv6 translated.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { buildProgram } from '../../base/programs.ts';
import type { VpcState } from '../vpc/model.ts';
import {
  addEni,
  addInstance,
  allow,
  type Bench,
  bench,
  edit,
  eniId,
  GROUP,
  giveIpv6,
  INTERNET_HOST,
  SUBNET_A,
  SUBNET_B,
  skipReason,
  smallVpc,
  TABLE,
  until,
  VPC,
} from './testing.ts';

const NAT = 'nat-0aaaaaaaaaaaaaaaa';
const NAT_IP = '10.0.32.100';
const PUBLIC_IP = '198.18.0.7';
const ROOT = join(import.meta.dirname, '../../..');

/** `a` in a private subnet whose table leads to a NAT gateway in the public one, where `c` is. */
function withGateway(): VpcState {
  const state = smallVpc();
  addInstance(state, 'a', 0x0a, { ips: ['10.0.0.10'] });
  addInstance(state, 'c', 0x0c, { ips: ['10.0.32.10'], subnetId: SUBNET_B });
  const eni = addEni(state, 0x63, { ips: [NAT_IP], subnetId: SUBNET_B, groups: [], sourceDestCheck: false });
  eni.natGatewayId = NAT;
  eni.interfaceType = 'nat_gateway';
  state.natGateways[NAT] = {
    id: NAT,
    vpcId: VPC,
    subnetId: SUBNET_B,
    connectivity: 'public',
    state: 'available',
    networkInterfaceId: eni.id,
    privateIp: NAT_IP,
    publicIp: PUBLIC_IP,
    createTime: 0,
    tags: {},
  };
  state.publicAddresses[PUBLIC_IP] = {
    publicIp: PUBLIC_IP,
    networkInterfaceId: eni.id,
    privateIp: NAT_IP,
    tags: {},
  };
  state.routeTables['rtb-private'] = {
    id: 'rtb-private',
    vpcId: VPC,
    routes: [
      { destination: '10.0.0.0/16', target: { kind: 'local' } },
      { destination: '0.0.0.0/0', target: { kind: 'nat-gateway', id: NAT } },
    ],
    associations: [{ id: 'rtbassoc-2', subnetId: SUBNET_A, main: false }],
    tags: {},
  };
  return state;
}

/** `a` has IPv6 alone as far as its packets go, and 64:ff9b::/96 leads to the gateway, whose subnet has IPv4 alone. */
function withIpv6(): VpcState {
  const state = withGateway();
  giveIpv6(state);
  delete state.subnets[SUBNET_B]!.ipv6Cidrs;
  state.networkInterfaces[eniId(0x0a)]!.ipv6Addresses = ['2600:1f14:1:101::a'];
  state.routeTables['rtb-private']!.routes.push(
    { destination: '2600:1f14:1:100::/56', target: { kind: 'local' } },
    { destination: '64:ff9b::/96', target: { kind: 'nat-gateway', id: NAT } },
  );
  return state;
}

const six = (ip: string): string => `64:ff9b::${ip}`;

async function translator(lab: Bench): Promise<Disposable> {
  const { path } = await buildProgram('nat64', { srcRoot: ROOT, outDir: join(ROOT, 'build') });
  const child: ChildProcess = spawn('ip', ['netns', 'exec', lab.fabric.netnsOf(NAT), path], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => child.stdout!.once('data', resolve));
  return { [Symbol.dispose]: () => void child.kill('SIGKILL') };
}

describe('a NAT gateway', { skip: skipReason }, () => {
  it('gives what leaves its own address, and lets nothing in that nobody asked for', async () => {
    await using lab = bench();
    await lab.fabric.apply(withGateway());
    await lab.serve('internet', 8080);
    await lab.serve('c', 8080);
    assert.equal(await lab.ask('a', INTERNET_HOST, 8080), `${PUBLIC_IP} ${INTERNET_HOST} hello`);
    assert.equal(await lab.ping('a', INTERNET_HOST), 1);
    assert.equal(await lab.ask('a', '10.0.32.10', 8080), '10.0.0.10 10.0.32.10 hello', 'the VPC is local');
    assert.equal(await lab.ping('internet', PUBLIC_IP), 0);
    assert.equal(await lab.ask('internet', PUBLIC_IP, 8080), null);
    // Too long for the internet's link: told by the router to the gateway, and by it to who sent.
    assert.equal(await lab.ping('a', INTERNET_HOST, '-c2 -W0.5 -M do -s 4000'), 0);
    assert.match(await lab.sh('a', `ip route get ${INTERNET_HOST}`), /mtu 1500/);
    assert.equal(await lab.ping('a', INTERNET_HOST, '-c1 -W0.5 -M dont -s 4000'), 1, 'in fragments');
  });

  it('leads by its own subnet alone: private without a way out, gone when it is deleted', async () => {
    await using lab = bench();
    const state = withGateway();
    await lab.fabric.apply(state);
    assert.equal(await lab.ping('a', INTERNET_HOST), 1);
    const closed = edit(state, (copy) => {
      copy.routeTables[TABLE]!.routes = copy.routeTables[TABLE]!.routes.slice(0, 1);
    });
    await lab.fabric.apply(closed);
    assert.equal(await lab.ping('a', INTERNET_HOST), 0, 'its subnet has no way there');
    await lab.fabric.apply(state);
    await lab.fabric.repair();
    assert.equal(await lab.ping('a', INTERNET_HOST), 1, 'as it was, and after a fresh look');
    await lab.fabric.apply(
      edit(state, (copy) => {
        copy.natGateways[NAT]!.state = 'deleting';
      }),
    );
    assert.equal(await lab.ping('a', INTERNET_HOST), 0);
    await assert.rejects(lab.sh(NAT, 'true'), /No such file|does not exist|Cannot open/);
    // An instance of the VPC judges what comes by a private one as from the gateway's address.
    const inside = edit(state, (copy) => {
      copy.routeTables['rtb-private']!.routes.push({
        destination: '10.0.32.10/32',
        target: { kind: 'nat-gateway', id: NAT },
      });
      copy.securityGroups[GROUP]!.rules.push(allow('ingress', `${NAT_IP}/32`));
    });
    await lab.fabric.apply(inside);
    assert.equal(await lab.ping('a', INTERNET_HOST), 1);
  });

  it('translates IPv6 of 64:ff9b::/96: TCP, UDP, echo, errors, path MTU, fragments', async () => {
    await using lab = bench();
    await lab.fabric.apply(withIpv6());
    await lab.serve('internet', 8080);
    using _ = await translator(lab);
    assert.equal(await lab.ask('a', six(INTERNET_HOST), 8080), `${PUBLIC_IP} ${INTERNET_HOST} hello`);
    assert.equal(await lab.ping('a', six(INTERNET_HOST)), 1);
    assert.equal(await lab.ask('a', six(INTERNET_HOST), 81), null, 'refused');
    assert.equal(
      await lab.ping('a', six(INTERNET_HOST), '-c3 -i0.1 -W0.5 -s 4000'),
      2,
      'the first tells of the MTU',
    );
    assert.match(await lab.sh('a', `ip -6 route get ${six(INTERNET_HOST)}`), /mtu 1520/);
    const udp = `python3 - <<'X'
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.settimeout(1)
for size in (1, 1400, 5000):
    s.sendto(b'x' * size, ('${six(INTERNET_HOST)}', 9)); print(size, s.recvfrom(9000)[0].decode())
try:
    s.connect(('${six(INTERNET_HOST)}', 99)); s.send(b'x'); s.recv(1)
except ConnectionRefusedError: print('refused')
X`;
    const echo = `python3 -c "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('0.0.0.0', 9)); s.settimeout(10)
for _ in range(3):
    d, a = s.recvfrom(9000); s.sendto(('%s %d' % (a[0], len(d))).ljust(4000).encode() if len(d) > 4000 else ('%s %d' % (a[0], len(d))).encode(), a)
"`;
    const [, asked] = await Promise.all([
      lab.sh('internet', echo),
      until(async () => (await lab.sh('internet', 'ss -Huln')).includes(':9 '), 'the echo listens').then(() =>
        lab.sh('a', udp),
      ),
    ]);
    assert.deepEqual(
      asked
        .trim()
        .split('\n')
        .map((line) => line.trim()),
      [`1 ${PUBLIC_IP} 1`, `1400 ${PUBLIC_IP} 1400`, `5000 ${PUBLIC_IP} 5000`, 'refused'],
    );
    assert.equal(await lab.ping('internet', six(PUBLIC_IP)), 0);
  });
});
