// The kernel's state of the network namespace that this runs in, as far as Podway's networking rests on it: all links,
// addresses and rules, the routes of main and of our tables, our nft tables, and the settings that Podway sets. Read by our
// own netlink code: a node's image has no `ip` and no `nft`. A part that cannot be read is its error.
import { readFileSync } from 'node:fs';
import { errorBody } from '../../lab/daemon/errors.ts';

/** Routes of others' tables and those beyond are left out: a node that is a router may have a million. */
const MOST_ROUTES = 20_000;
const SETTINGS = [
  'net/ipv4/ip_forward',
  'net/ipv4/conf/all/rp_filter',
  'net/ipv4/conf/all/src_valid_mark',
  'net/ipv4/conf/all/arp_ignore',
  'net/ipv4/conf/all/arp_announce',
  'net/ipv6/conf/all/forwarding',
  'net/netfilter/nf_conntrack_count',
  'net/netfilter/nf_conntrack_max',
];

/** Values by file name. */
export async function kernelPart(): Promise<Record<string, unknown>> {
  const files: Record<string, unknown> = {};
  try {
    files['kernel.json'] = await netlinkState();
  } catch (error) {
    files['kernel.json'] = { error: errorBody(error) };
  }
  files['nft.txt'] = await nftTables();
  return files;
}

async function netlinkState() {
  const [{ RtNetlink, MAIN_TABLE }, { isOurTable }, { formatCidr, formatIp }] = await Promise.all([
    import('../../kernel/rtnetlink.ts'),
    import('../../datapath/marks.ts'),
    import('../../base/ip.ts'),
  ]);
  using rt = RtNetlink.open();
  const links = rt.links();
  const nameOf = new Map(links.map(({ index, name }) => [index, name]));
  const routes = rt.routes().filter(({ table }) => table === MAIN_TABLE || isOurTable(table));
  return {
    links,
    addresses: rt.addresses().map(({ index, ip, length, scope }) => ({
      link: nameOf.get(index) ?? index,
      address: `${formatIp(ip)}/${length}`,
      scope,
    })),
    rules: rt.rules().map((rule) => ({
      ...rule,
      from: rule.from && formatCidr(rule.from),
      to: rule.to && formatCidr(rule.to),
    })),
    routes: routes.slice(0, MOST_ROUTES).map(({ dst, gateway, src, oif, ...route }) => ({
      dst: formatCidr(dst),
      ...(gateway === null ? {} : { gateway: formatIp(gateway) }),
      ...(oif === null ? {} : { link: nameOf.get(oif) ?? oif }),
      ...(src === null ? {} : { src: formatIp(src) }),
      ...route,
    })),
    routesLeftOut: Math.max(0, routes.length - MOST_ROUTES),
    settings: Object.fromEntries(SETTINGS.map((name) => [name, setting(name)])),
  };
}

const setting = (name: string): string | null => {
  try {
    return readFileSync(`/proc/sys/${name}`, 'utf8').trim();
  } catch {
    return null;
  }
};

async function nftTables(): Promise<string> {
  const texts: string[] = [];
  try {
    const [{ Nft }, { currentNetns }, { NFT_TABLE }, { TABLE }] = await Promise.all([
      import('../../kernel/nftables.ts'),
      import('../../kernel/netns.ts'),
      import('../../datapath/marks.ts'),
      import('../../policy/table.ts'),
    ]);
    using netns = currentNetns();
    await using nft = Nft.open(netns);
    for (const table of [`inet ${NFT_TABLE}`, TABLE])
      texts.push(
        await nft.text(`table ${table}`).catch((error: Error) => `# table ${table}: ${error.message}\n`),
      );
  } catch (error) {
    texts.push(`# ${(error as Error).message}\n`);
  }
  return texts.join('\n');
}
