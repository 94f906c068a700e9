// IPv6 for the root tests' small VPC: the router answers for fe80:ec2::1 on every link, checks sources, and sends each /80
// to its ENI without asking who of it is there, as the VPC does.
import { formatCidr, formatIp, parseCidr, parseIp } from '../base/ip.ts';
import { eni0, eni1, type TestVpc } from './testing.ts';
import type { Eni } from './types.ts';

export const PEER6 = '2001:db8:1::20';
export const INTERNET6 = '2001:db8:ffff::10';
export const IMDS6 = 'fd00:ec2::254';
const ROUTER = 'fe80:ec2::1';

export const dual0: Eni = {
  ...eni0,
  ownIp6: parseIp('2001:db8:1::10'),
  prefixes: [parseCidr('2001:db8:1:0:a::/80')],
};
export const dual1: Eni = {
  ...eni1,
  prefixes: [...eni1.prefixes, parseCidr('2001:db8:1:0:b::/80')],
};

/** Link-local address of an ENI's link, by its MAC (EUI-64). */
function linkLocal(mac: string): string {
  const [a, b, c, d, e, f] = mac.split(':');
  return `fe80::${(Number.parseInt(a!, 16) ^ 2).toString(16)}${b}:${c}ff:fe${d}:${e}${f}`;
}

export function addSix(vpc: TestVpc, enis: readonly Eni[] = [dual0, dual1]): void {
  vpc.sysctl('vpc', 'net.ipv6.conf.all.forwarding', '1');
  vpc.ip('vpc', `addr add ${IMDS6}/128 dev lo nodad`);
  for (const eni of enis) attach(vpc, eni);
  attachHost(vpc, 'peer', 'epeer', '02:00:00:00:00:20', PEER6);
  attachHost(vpc, 'internet', 'einet', '02:00:00:00:00:30', INTERNET6);
  vpc.ip('node', `addr add ${formatIp(dual0.ownIp6!)}/128 dev eth0 nodad`);
  vpc.ip('node', `route add default via ${ROUTER} dev eth0`);
}

function attach(vpc: TestVpc, eni: Eni): void {
  const end = `e${eni.deviceIndex}`;
  const prefixes = eni.prefixes.filter(({ ip }) => typeof ip === 'bigint').map(formatCidr);
  const held = [...(eni.ownIp6 === undefined ? [] : [`${formatIp(eni.ownIp6)}/128`]), ...prefixes];
  route(vpc, end, eni.mac, held);
  vpc.nft(
    'vpc',
    `table ip6 check${eni.deviceIndex} { chain c { type filter hook prerouting priority -300; iifname "${end}" ip6 saddr != { fe80::/10, ::, ${held.join(', ')} } counter drop; }; }`,
  );
}

function attachHost(vpc: TestVpc, where: string, end: string, mac: string, ip: string): void {
  route(vpc, end, mac, [`${ip}/128`]);
  vpc.ip(where, `addr add ${ip}/128 dev eth0 nodad`);
  vpc.ip(where, `route add default via ${ROUTER} dev eth0`);
}

function route(vpc: TestVpc, end: string, mac: string, held: readonly string[]): void {
  const there = linkLocal(mac);
  vpc.ip('vpc', `addr add ${ROUTER}/64 dev ${end} nodad`);
  vpc.ip('vpc', `neigh replace ${there} lladdr ${mac} dev ${end} nud permanent`);
  for (const one of held) vpc.ip('vpc', `route add ${one} via ${there} dev ${end}`);
}
