// The tags of the node's own ENIs, set in the call that makes them, and what they say about whose an ENI is. Pure.
// An ENI is the pool's when it is the primary one, or bears this instance's tag, our purpose and no other cluster's name.
import { rfc3339 } from '../../base/clock.ts';
import type { EniDescription, Tags } from '../../cloud/port.ts';

const PREFIX = 'podway.io/';
export const TAG_CLUSTER = 'podway.io/cluster';
export const TAG_NODE = 'podway.io/node';
export const TAG_INSTANCE = 'podway.io/instance';
export const TAG_PURPOSE = 'podway.io/purpose';
/** Of a branch: its trunk's id, and its VLAN id on it. */
export const TAG_TRUNK = 'podway.io/trunk';
export const TAG_VLAN = 'podway.io/vlan';
/** When its creation was intended (RFC 3339), by this node's clock. */
const TAG_CREATED = 'podway.io/created';
/** The purpose of ENIs whose addresses pods get. */
const PODS = 'pods';
/** The AWS VPC CNI's: with the value `true` its operator keeps all CNIs away from an ENI. */
const NO_MANAGE = 'node.k8s.amazonaws.com/no_manage';

export type Whose = { instanceId: string; cluster?: string | undefined };

/**
 * The tags of a new ENI. `since`: when its creation began (ms), the same in each try, since EC2 refuses a client token
 * that comes with other parameters.
 */
export function ownTags(more: Tags, instanceId: string, since: number): Tags {
  return {
    ...more,
    [TAG_INSTANCE]: instanceId,
    [TAG_PURPOSE]: PODS,
    [TAG_CREATED]: rfc3339(since),
  };
}

/** Those of our own tags, but not the operator's, that an ENI of the pool lacks. */
export function lackingTags(has: Tags, own: Tags): Tags {
  return Object.fromEntries(
    Object.entries(own).filter(([key]) => key.startsWith(PREFIX) && has[key] === undefined),
  );
}

export const isKeptAway = (tags: Tags): boolean => tags[NO_MANAGE] === 'true';

/** True when the tags say that this node's pool made the ENI. ENIs of earlier versions have no purpose and no cluster. */
export function bearsOurTags(tags: Tags, { instanceId, cluster }: Whose): boolean {
  if (tags[TAG_INSTANCE] !== instanceId || isKeptAway(tags)) return false;
  if ((tags[TAG_PURPOSE] ?? PODS) !== PODS) return false;
  const theirs = tags[TAG_CLUSTER];
  return theirs === undefined || cluster === undefined || theirs === cluster;
}

/** True for an ENI of this node that nobody uses, and that nobody is about to use. */
export const isLoose = ({ attachment, status, tags, interfaceType }: EniDescription, whose: Whose): boolean =>
  attachment === null && status === 'available' && interfaceType === 'interface' && bearsOurTags(tags, whose);

/** Ms since the ENI was made, as its tag says; null when it does not say, or names a time that has not come. */
export function ageByTag(tags: Tags, now: number): number | null {
  const made = Date.parse(tags[TAG_CREATED] ?? '');
  return Number.isFinite(made) && made <= now ? now - made : null;
}
