// The owner of a host link, written as the link's alias (IFLA_IFALIAS) and read when everything on disk is lost:
// `podway NETWORK CONTAINER IFNAME NAMESPACE/POD NETNS`, as `ip link` shows it. Pure. Invariant: an alias is accepted
// only if the link's name is the hash of its attachment, so a foreign or truncated alias is ignored.
import { type AttachmentKey, hostLinkName } from './marks.ts';

/** The kernel takes 255 bytes and counts the NUL (IFALIASZ, linux/if.h). */
const MAX_BYTES = 254;
const MARK = 'podway';
const NO_POD = '-';

export type LinkAttachment = AttachmentKey & {
  readonly pod?: { readonly namespace: string; readonly name: string };
  readonly netns?: string;
};

/** Leaves out parts from the end that do not fit; undefined when the attachment's own names do not fit. */
export function linkAlias(attachment: LinkAttachment): string | undefined {
  const { network, containerId, ifname, pod, netns } = attachment;
  const key = [MARK, network, containerId, ifname].join(' ');
  const withPod = `${key} ${pod ? `${pod.namespace}/${pod.name}` : NO_POD}`;
  const texts = netns === undefined ? [withPod, key] : [`${withPod} ${netns}`, withPod, key];
  return texts.find((text) => Buffer.byteLength(text) <= MAX_BYTES);
}

/** Null for a link without an alias of ours. */
export function readAlias(alias: string | null, hostIfname: string): LinkAttachment | null {
  const [mark, network, containerId, ifname, pod, ...path] = alias?.split(' ') ?? [];
  if (mark !== MARK || network === undefined || containerId === undefined || ifname === undefined)
    return null;
  const key = { network, containerId, ifname };
  if (hostLinkName(key) !== hostIfname) return null;
  const [namespace, name] = pod === undefined || pod === NO_POD ? [] : pod.split('/');
  return {
    ...key,
    ...(namespace && name ? { pod: { namespace, name } } : {}),
    ...(path.length > 0 ? { netns: path.join(' ') } : {}),
  };
}
