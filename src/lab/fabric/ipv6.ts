// The router's and the internet host's own IPv6: settings, addresses, the table of holders. Done when a VPC has an IPv6
// block; without one, IPv6 is off in the router, and nothing of it is there. Idempotent.
import { parseCidr, parseIp } from '../../base/ip.ts';
import { PROTOCOL } from '../../kernel/rtnetlink.ts';
import { writeSysctl } from '../../kernel/sysctl.ts';
import {
  EC2_ADDRESS6,
  GATEWAY_LINK,
  HOLDERS_PRIORITY,
  HOLDERS_TABLE,
  IMDS_ADDRESS6,
  IMDS_CALLERS6,
  INTERNET_HOST6,
  INTERNET_LENGTH6,
  INTERNET_LINK,
  INTERNET_ROUTER6,
  KUBE_ADDRESS6,
  RESOLVER_ADDRESS6,
} from './names.ts';
import type { Space } from './spaces.ts';

const MAIN_TABLE = 254;
const LOCAL_TABLE = 255;
/** RTPROT_STATIC: the internet's fixed routes, apart from the ones that the plan owns. */
const STATIC = 4;

/** IPv6 on one of our own links: no address but those that we give it, and nothing learned from anybody. */
export function enableIpv6(space: Space, link: string): void {
  const set = (key: string, value: string) => writeSysctl(space.ns, `net/ipv6/conf/${link}/${key}`, value);
  set('accept_ra', '0');
  set('addr_gen_mode', '1');
  set('accept_redirects', '0');
  set('disable_ipv6', '0');
}

/** The reverse: the addresses go with the links' IPv6. */
export function disconnectIpv6(router: Space, internet: Space): void {
  const rules = router.rt
    .rules(6)
    .filter((rule) => rule.priority === HOLDERS_PRIORITY && rule.protocol === PROTOCOL);
  router.rt.tryApply(
    rules.map(() => ({ op: 'rule-del', family: 6, priority: HOLDERS_PRIORITY, table: HOLDERS_TABLE })),
  );
  for (const link of [GATEWAY_LINK, 'lo']) writeSysctl(router.ns, `net/ipv6/conf/${link}/disable_ipv6`, '1');
  writeSysctl(internet.ns, `net/ipv6/conf/${INTERNET_LINK}/disable_ipv6`, '1');
}

export function connectIpv6(router: Space, internet: Space): void {
  writeSysctl(router.ns, 'net/ipv6/conf/all/forwarding', '1');
  writeSysctl(router.ns, 'net/ipv6/conf/default/forwarding', '1');
  enableIpv6(router, 'lo');
  enableIpv6(router, GATEWAY_LINK);
  writeSysctl(internet.ns, 'net/ipv6/conf/all/forwarding', '1');
  enableIpv6(internet, INTERNET_LINK);

  const lo = router.rt.link('lo')!.index;
  const inner = router.rt.link(GATEWAY_LINK)!.index;
  const outer = internet.rt.link(INTERNET_LINK)!.index;
  const wire = { op: 'addr-replace', length: INTERNET_LENGTH6, noDad: true } as const;
  if (!router.rt.rules(6).some((rule) => rule.priority === HOLDERS_PRIORITY && rule.protocol === PROTOCOL))
    router.rt.apply([{ op: 'rule-add', family: 6, priority: HOLDERS_PRIORITY, table: HOLDERS_TABLE }]);
  router.rt.apply([
    ...[IMDS_ADDRESS6, EC2_ADDRESS6, KUBE_ADDRESS6, RESOLVER_ADDRESS6].map(
      (ip) => ({ op: 'addr-replace', index: lo, ip, length: 128, noDad: true }) as const,
    ),
    // Every address of the range is the router's own: one listener hears all callers of IMDS.
    { op: 'route-replace', dst: IMDS_CALLERS6, table: LOCAL_TABLE, type: 'local', oif: lo },
    { ...wire, index: inner, ip: INTERNET_ROUTER6 },
    // Who passes on others' packets asks for a neighbour under its link-local address.
    { ...wire, index: inner, ip: parseIp('fe80::1') },
  ]);
  internet.rt.apply([
    { ...wire, index: outer, ip: INTERNET_HOST6, noPrefixRoute: true },
    { ...wire, index: outer, ip: parseIp('fe80::2') },
    {
      op: 'route-replace',
      dst: { ip: INTERNET_ROUTER6, length: 128 },
      table: MAIN_TABLE,
      oif: outer,
      protocol: STATIC,
    },
    // A sender to an unused address gets an ICMP error.
    { op: 'route-replace', dst: parseCidr('::/0'), table: MAIN_TABLE, type: 'unreachable', protocol: STATIC },
  ]);
}
