// Translates between the pool's attachments and the kernel's host links.

import { hostLinkName } from '../datapath/marks.ts';
import type { Standing } from '../datapath/standing.ts';
import type { KernelView } from '../ipam/journal/adopt.ts';
import type { Owner } from '../ipam/state.ts';

/** The host link of a holder. */
export const linkOf = (owner: Owner): string => owner.link ?? hostLinkName(owner);

const DOUBT = { route: 0, element: 1, pod: 2, none: 3 } as const;

/** The pods' links found in the kernel, as values for the pool. */
export const kernelView = ({ pods, any }: Standing): KernelView => ({
  any,
  links: pods.map(({ hostIfname, attachment, ips, by }) => ({
    link: hostIfname,
    owner: attachment,
    ips,
    doubt: DOUBT[by],
  })),
});
