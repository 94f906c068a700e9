// What a cloud image does at boot: the primary ENI comes up with its primary address and the way to the router.
// Done once for each link, with the link's alias set last as the sign of it; from then on the link is the guest's.
import { type Ip, parseCidr } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import type { Link } from '../../kernel/rtnetlink.ts';
import { readSysctl, writeSysctl } from '../../kernel/sysctl.ts';
import type { BootEntry, PortEntry } from './entries.ts';
import { linkLocalOf, ROUTER_LINK_LOCAL, VPC_MTU } from './names.ts';
import type { Space } from './spaces.ts';

/** By its MAC: the guest may have renamed it. */
const eniLink = (guest: Space, mac: Mac): Link | undefined =>
  guest.rt.links().find((link) => link.mac === mac && link.kind === 'veth' && link.masterIndex === 0);

/** What was done is on the link: its ENI's id, and behind it the sign of IPv6. */
export function isBooted(guest: Space, mac: Mac, kind: 'boot' | 'boot6'): boolean {
  const alias = eniLink(guest, mac)?.alias;
  return alias?.startsWith('eni-') === true && (kind === 'boot' || alias.endsWith(WITH_IPV6));
}

const WITH_IPV6 = ' ipv6';

export function bootGuest(guest: Space, port: PortEntry, boot: BootEntry): void {
  const link = eniLink(guest, port.mac);
  if (link === undefined) throw new Error(`${guest.name} has no link of ${port.eniId} (${port.mac})`);
  guest.rt.apply([
    { op: 'link-set', index: link.index, mtu: VPC_MTU, up: true },
    { op: 'addr-replace', index: link.index, ip: boot.ip, length: boot.length },
    {
      op: 'route-replace',
      dst: parseCidr('0.0.0.0/0'),
      table: MAIN_TABLE,
      gateway: boot.gateway,
      oif: link.index,
      protocol: RTPROT_BOOT,
    },
    { op: 'link-set', index: link.index, alias: port.eniId },
  ]);
}

/**
 * What a cloud image does with an IPv6 address: the ENI's first one as a /128, a link-local address, the default route by
 * the VPC's router. No router advertisement is sent or taken, and no duplicate is looked for: all is usable at once.
 * Links that come later get a link-local address by themselves, as the kernel's own default is.
 */
export function bootGuest6(guest: Space, port: PortEntry, ip: Ip): void {
  const link = eniLink(guest, port.mac);
  if (link === undefined) throw new Error(`${guest.name} has no link of ${port.eniId} (${port.mac})`);
  writeSysctl(guest.ns, 'net/ipv6/conf/default/addr_gen_mode', '0');
  for (const one of guest.rt.links()) {
    const key = `net/ipv6/conf/${one.name}`;
    if (one.kind !== 'veth' || readSysctl(guest.ns, `${key}/disable_ipv6`) === null) continue;
    if (one.mac === port.mac) {
      writeSysctl(guest.ns, `${key}/disable_ipv6`, '0');
      writeSysctl(guest.ns, `${key}/accept_ra`, '0');
    } else if (!one.up) writeSysctl(guest.ns, `${key}/addr_gen_mode`, '0');
  }
  const address = { op: 'addr-replace', index: link.index, noDad: true } as const;
  guest.rt.apply([
    { op: 'link-set', index: link.index, mtu: VPC_MTU, up: true },
    { ...address, ip: linkLocalOf(port.mac), length: 64 },
    { ...address, ip, length: 128 },
    {
      op: 'route-replace',
      dst: parseCidr('::/0'),
      table: MAIN_TABLE,
      gateway: ROUTER_LINK_LOCAL,
      oif: link.index,
      protocol: RTPROT_BOOT,
    },
    { op: 'link-set', index: link.index, alias: `${port.eniId}${WITH_IPV6}` },
  ]);
}

const MAIN_TABLE = 254;
/** The image's own route, not one of Podway's: the agent must meet it as it would on AWS. */
const RTPROT_BOOT = 3;
