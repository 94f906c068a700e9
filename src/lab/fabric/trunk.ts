// A trunk's link carries 802.1Q frames. Each branch ENI has a port of its own on its subnet's bridge, as any ENI has, but
// its other end stays in the router: the program on the trunk's port takes the tag off a frame and lets it come in by the
// branch's port, the one on the branch's port puts the tag on and sends by the trunk's. So source check, groups, subnet
// and flows judge a branch as they judge every ENI. A frame with a tag that no branch has goes on with it, and is counted
// and dropped where the bridge judges its ports (counter `unknown_tags`).

import { parseMac } from '../../base/mac.ts';
import { type Program, popByList, pushTo } from '../../kernel/bpf/programs.ts';
import type { Hook } from '../../kernel/bpf/syscall.ts';
import type { Instance, NetworkInterface, Subnet, VpcState } from '../vpc/model.ts';
import { associationsOn } from '../vpc/trunks.ts';
import {
  type Entries,
  linksOfTags,
  type PortEntry,
  type Put,
  type TagEntry,
  type TagsEntry,
} from './entries.ts';
import { bridgeName, portName, ROUTER, tagEndName } from './names.ts';
import { branchOf, pluggedInto } from './plugged.ts';

type Tagging = TagEntry | TagsEntry;

/** The branch's port and its tag; undefined for an ENI that is no branch. */
export function branchPort(
  state: VpcState,
  eni: NetworkInterface,
  subnet: Subnet,
  instance: Instance,
): [PortEntry, TagEntry] | undefined {
  const on = branchOf(state, eni);
  if (on === undefined) return undefined;
  const port = portName(eni.id);
  const { id: attachmentId, vlanId: vlan } = on.association;
  return [
    {
      kind: 'port',
      name: port,
      bridge: bridgeName(subnet.id),
      where: ROUTER,
      guestName: tagEndName(eni.id),
      mac: parseMac(eni.mac),
      eniId: eni.id,
      instanceId: instance.id,
      attachmentId,
    },
    { kind: 'tag', port, vlan, trunk: portName(on.trunk.id) },
  ];
}

/** What a trunk's port does with tags; there from the attach on, also while it has no branches. */
export function putTags(put: Put, state: VpcState, trunk: NetworkInterface): void {
  const tags = associationsOn(state, trunk.id).flatMap((one) => {
    const branch = state.networkInterfaces[one.branchInterfaceId];
    return branch && pluggedInto(state, branch) && state.subnets[branch.subnetId]
      ? { vlan: one.vlanId, port: portName(branch.id) }
      : [];
  });
  put({ kind: 'tags', port: portName(trunk.id), tags: tags.sort((a, b) => a.vlan - b.vlan) });
}

/** What is to be attached where for an entry. */
export function programOf(
  entry: Tagging,
  indexOf: (link: string) => number,
): { hook: Hook; program: Program } {
  return entry.kind === 'tag'
    ? { hook: 'egress', program: pushTo(entry.vlan, indexOf(entry.trunk)) }
    : {
        hook: 'ingress',
        program: popByList(entry.tags.map(({ vlan, port }) => ({ vlan, index: indexOf(port) }))),
      };
}

/** Of the entries, those that the kernel has: `isOn` tells whether a program of that name is the one on a link's hook. */
export function* observedTags(
  entries: Entries,
  indexOf: (link: string) => number | undefined,
  isOn: (index: number, hook: Hook, name: string) => boolean,
): Generator<[string, Tagging]> {
  for (const [key, entry] of entries) {
    if (entry.kind !== 'tag' && entry.kind !== 'tags') continue;
    if (linksOfTags(entry).some((link) => indexOf(link) === undefined)) continue;
    const { hook, program } = programOf(entry, (link) => indexOf(link)!);
    if (isOn(indexOf(entry.port)!, hook, program.name)) yield [key, entry];
  }
}
