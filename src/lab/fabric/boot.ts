// What a cloud image does at boot: the primary ENI comes up with its primary address and the way to the router.
// Done once for each link, with the link's alias set last as the sign of it; from then on the link is the guest's.
import { parseCidr } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import type { Link } from '../../kernel/rtnetlink.ts';
import type { BootEntry, PortEntry } from './entries.ts';
import { VPC_MTU } from './names.ts';
import type { Space } from './spaces.ts';

/** By its MAC: the guest may have renamed it. */
const eniLink = (guest: Space, mac: Mac): Link | undefined =>
  guest.rt.links().find((link) => link.mac === mac && link.kind === 'veth' && link.masterIndex === 0);

export const isBooted = (guest: Space, mac: Mac): boolean =>
  eniLink(guest, mac)?.alias?.startsWith('eni-') === true;

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

const MAIN_TABLE = 254;
/** The image's own route, not one of Podway's: the agent must meet it as it would on AWS. */
const RTPROT_BOOT = 3;
