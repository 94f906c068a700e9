// The one table of typed causes. The CNI error's code and details, the pod's Event, metric labels, the log's field
// `cause`, `podway explain` and docs/causes.md (`npm run docs`) read it. A cause's name is its label everywhere.
// Numbers: 1-8 and 999 are CNI's and libcni's, 11 is "try again later", 50 and 51 STATUS, from 100 ours and lasting.

export type CauseRow = {
  /** Number in a CNI error object. */
  readonly cni: number;
  /** True when the cause passes by itself: the caller should try again. */
  readonly transient: boolean;
  readonly meaning: string;
  /** What Podway does next by itself, and when. */
  readonly does: string;
  /** What an operator can do. */
  readonly next: string;
  /** No part of this version raises it yet: its number is reserved. */
  readonly reserved?: true;
};

type Texts = Pick<CauseRow, 'meaning' | 'does' | 'next' | 'reserved'>;
const passing = (texts: Texts): CauseRow => ({ cni: 11, transient: true, ...texts });
const lasting = (cni: number, texts: Texts): CauseRow => ({ cni, transient: false, ...texts });

export const causes = {
  INCOMPATIBLE_VERSION: lasting(1, {
    meaning: 'The CNI version of the config is not supported, or lacks this verb.',
    does: 'Nothing: the runtime asks again as it does after every failure, and gets the same answer.',
    next: 'Use a cniVersion from 0.1.0 to 1.1.0; CHECK needs 0.4.0, GC and STATUS need 1.1.0.',
  }),
  UNSUPPORTED_FIELD: lasting(2, {
    meaning: 'A field of the config is not supported.',
    does: 'Nothing: the runtime asks again, and gets the same answer.',
    next: 'Remove the field that the message names.',
  }),
  BAD_ENVIRONMENT: lasting(4, {
    meaning: 'A CNI environment variable is missing or malformed.',
    does: 'Nothing: the runtime asks again, and gets the same answer.',
    next: 'Fix the variables that the message names; the runtime sets them.',
  }),
  IO_FAILURE: lasting(5, {
    meaning: 'Reading the request or writing the answer failed.',
    does: 'Undoes what the request had done; the runtime asks again.',
    next: 'Look at the agent log and try again.',
  }),
  BAD_JSON: lasting(6, {
    meaning: 'The config is not the JSON that CNI asks for.',
    does: 'Nothing: the runtime asks again, and gets the same answer.',
    next: 'Fix the config on stdin.',
  }),
  INVALID_CONFIG: lasting(7, {
    meaning: 'The network config is invalid.',
    does: 'Nothing: the runtime asks again, and gets the same answer.',
    next: 'Fix the field that the message names.',
  }),
  INVALID_NETNS: lasting(8, {
    meaning: 'The network namespace cannot be used.',
    does: 'Nothing was made; the runtime asks again with a new sandbox.',
    next: 'Give the sandbox its own network namespace.',
  }),
  AGENT_UNREACHABLE: passing({
    meaning: 'The agent of this node does not answer on its socket.',
    does: 'A DEL is queued on disk and served when the agent is back; an ADD is tried again by the runtime.',
    next: 'See that the agent runs: podway lab logs NODE, or the podway pod of the node.',
  }),
  AGENT_STARTING: passing({
    meaning: 'The agent is up and has not finished its start.',
    does: 'Asks for what it lacks (the identity from IMDS, the ENIs from EC2) again and again, at least every 5 s.',
    next: 'Wait; podway ipam show tells what it waits for.',
  }),
  COOLDOWN: passing({
    meaning: 'All unheld addresses of the node are cooling after their last use.',
    does: 'Gives the address that has cooled longest to the pod that has waited longest, as soon as its cooldown ends.',
    next: 'Wait for the cooldown, or lower the setting cooldown, or use a larger instance type.',
  }),
  POOL_GROWING: passing({
    meaning: 'The pool of the node is growing: addresses are on their way.',
    does: 'Gives each address that comes to the pod that has waited longest; the runtime tries again until then.',
    next: 'Wait; the runtime tries again.',
  }),
  CLOUD_THROTTLED: passing({
    meaning: 'EC2 throttles the calls of this account.',
    does: 'Waits 0.5 to 10 s, for an ENI 3 s to a minute, longer after each failure, then asks EC2 again; a pod that waits goes before everything else.',
    next: 'Wait, or ask for a higher request rate; podway_ec2_calls_total shows who calls.',
  }),
  CLOUD_UNREACHABLE: passing({
    meaning: 'EC2 does not answer.',
    does: 'Asks EC2 by one call at a time, at most every 8 s; free addresses are given out meanwhile, and waiting pods are served on its return.',
    next: 'See the route to the EC2 endpoint and its security group.',
  }),
  RUN_DIR_UNWRITABLE: passing({
    meaning: 'The agent cannot write its run directory, so it gives out no address; running pods go on.',
    does: 'Tries to write every second; gives addresses out again when it can.',
    next: 'Make room in the directory that the message names, or make it writable.',
  }),
  DATAPATH_CHANGED: passing({
    meaning: 'Somebody removed what the node’s network is made of, and it is being put back.',
    does: 'Puts it back, and asks again more slowly when somebody keeps removing it.',
    next: 'Wait; podway_datapath_repairs_total and the agent log tell what was changed. With repair: report, set it to enforce.',
  }),
  STATUS_UNAVAILABLE: lasting(50, {
    meaning: 'The plugin cannot serve ADD.',
    does: 'Answers STATUS anew each time it is asked.',
    next: 'Read the message; podway ipam show tells the state of the pool.',
  }),
  STATUS_LIMITED: lasting(51, {
    meaning: 'The plugin cannot serve ADD and pods that exist may be affected.',
    does: 'Answers STATUS anew each time it is asked.',
    next: 'Read the agent log; podway ipam check compares journal, kernel and cloud.',
  }),
  ADDRESS_LIMIT: lasting(100, {
    meaning:
      'All the addresses that the instance type allows are held, quarantined, or cool for pods that wait already.',
    does: 'Refuses the pod at once, or lets it wait while a quarantine may end; the first address that a pod gives back goes, after its cooldown, to the pod that asks.',
    next: 'Delete pods on the node, or use a larger instance type.',
  }),
  SUBNET_EXHAUSTED: lasting(101, {
    meaning: 'The subnet has no free address.',
    does: 'Leaves the subnet alone for 1 to 2 minutes and uses other subnets that it may; while a pod waits it looks every second or two whether the subnet has an address, and asks for it.',
    next: 'Free addresses in the subnet, or add a secondary CIDR and a subnet.',
  }),
  POLICY_TIMEOUT: lasting(102, {
    meaning: 'The policies of the pod were not in force within 2 s.',
    does: 'Refuses the pod, which never starts open; the runtime asks again.',
    next: 'Do what the message says: the Kubernetes API may be away, or the agent log names what the kernel refuses. policyTimeout: isolate lets such pods start, with their node alone in reach.',
  }),
  BRANCH_LIMIT: lasting(103, {
    meaning:
      'The trunk ENI holds all the branches that its instance type allows; one that leaves has its place until it has left.',
    does: 'Refuses the pod; the runtime asks again.',
    next: 'Delete pods with security groups on the node, or use a larger instance type.',
  }),
  TRUNK_UNSUPPORTED: lasting(130, {
    meaning: 'The instance type takes no trunk interface, or no branch on one.',
    does: 'Gives the node no place for pods with security groups of their own; the scheduler puts them elsewhere.',
    next: 'Use an instance type with branch interfaces for these pods (data/instance-limits.json has them).',
  }),
  TRUNK_DENIED: lasting(131, {
    meaning: 'AWS does not let this account associate trunk interfaces.',
    does: 'Makes no trunks and no branches; asks again every five minutes.',
    next: 'Set branchController: off, or run on EKS, whose own controller has the right; otherwise ask AWS for it.',
  }),
  GROUP_NOT_FOUND: lasting(132, {
    meaning: 'A security group that a SecurityGroupPolicy names does not exist.',
    does: 'Leaves the pod without its branch, and asks EC2 again after 1 to 60 s.',
    next: 'podway sg show POD names the SecurityGroupPolicies that select the pod: correct their groupIds, or make the group.',
  }),
  GROUP_OTHER_VPC: lasting(133, {
    meaning: 'A security group that a SecurityGroupPolicy names is of another VPC than the node.',
    does: 'Leaves the pod without its branch, and asks EC2 again after 1 to 60 s.',
    next: 'Name groups of the node’s VPC in groupIds.',
  }),
  GROUP_LIMIT: lasting(134, {
    meaning: 'The policies of the pod name more security groups than the account allows on one interface.',
    does: 'Leaves the pod without its branch, and asks EC2 again after 1 to 60 s.',
    next: 'Name fewer groups, or have the quota of security groups per interface raised (5, at most 16).',
  }),
  BRANCH_ASSOCIATION_FAILED: lasting(135, {
    meaning: 'EC2 does not put the branch interface on the trunk.',
    does: 'Asks EC2 again after 1 to 60 s.',
    next: 'Read EC2’s words in the message.',
  }),
  BRANCH_LOST: lasting(136, {
    meaning:
      'Somebody else took the branch interface of a running pod away: off its trunk, deleted, or its trunk with it.',
    does: 'Tells it with the pod’s name, and puts it back: on the trunk under the same VLAN id, or a new one with the same addresses.',
    next: 'Find who takes interfaces away. Where the address is another’s by now delete the pod, so that it is made anew.',
  }),
  GROUPS_NOT_INJECTED: lasting(137, {
    meaning:
      'A SecurityGroupPolicy older than the pod selects it, and the pod asks for no branch: the webhook was away when it was made.',
    does: 'Refuses the pod, which would run with the node’s groups; with missingGroups: allow it starts so, and an Event and podway_groups_not_injected_total tell it.',
    next: 'Delete the pod, so that it is made anew with the webhook there; see that the controller of security groups runs, and what Events of the policy say (podway sg show POD).',
  }),
  BRANCH_PENDING: passing({
    meaning: 'The pod asks for a branch ENI of its own (security groups per pod) and has not got one yet.',
    does: 'Waits 30 s for the annotation vpc.amazonaws.com/pod-eni and for the trunk; the runtime asks again.',
    next: 'Read the Events of the pod: who controls branches says what holds it up.',
  }),
  CLOUD_DENIED: lasting(104, {
    meaning: 'EC2 refuses the call: a permission is missing.',
    does: 'Asks again after 0.5 to 5 minutes, while a pod waits after 5 to 10 s.',
    next: 'Grant the action that the message names to the role of the node.',
  }),
  ENI_LIMIT: lasting(105, {
    meaning: 'ENIs of others hold the slots of the instance.',
    does: 'Refuses the pod; uses the slot as soon as it is free, which a describe finds within 5 minutes.',
    next: 'Detach the ENIs that the message names, or use a larger instance type.',
  }),
  SUBNET_FRAGMENTED: lasting(106, {
    meaning: 'The subnet has free addresses and no free aligned /28.',
    does: 'Leaves the subnet’s prefixes alone for half a minute to ten, longer after each failure; it takes single addresses meanwhile, with addressing prefix for pods that wait alone.',
    next: 'Reserve a CIDR of the subnet for prefixes, or use secondary addresses.',
  }),
  ATTACHMENT_EXISTS: lasting(107, {
    meaning: 'This container id and interface hold an attachment already; nothing was changed.',
    does: 'Nothing: the attachment that exists goes on.',
    next: 'DEL the attachment first.',
  }),
  ENI_WITHOUT_LINK: lasting(111, {
    meaning: 'An ENI of the node has no link: it was renamed to another MAC address, or its hot-plug failed.',
    does: 'Uses the other ENIs, and looks for the link whenever the kernel tells of a new one.',
    next: 'See dmesg and ip link for the MAC address that the message names; detach and attach the ENI.',
  }),
  ADDRESS_ON_LINK: lasting(110, {
    meaning: 'Free addresses of the node are configured on its own links, so no pod can have them.',
    does: 'Keeps them from pods, and gives them out as soon as the links lose them.',
    next: 'Remove them from the links that the message names; deploy/README.md keeps managers of links from adding them.',
  }),
  NOT_QUARANTINED: lasting(108, {
    meaning: 'The address is not in quarantine, so nothing can be released.',
    does: 'Nothing was changed.',
    next: 'podway ipam show tells the state of each address.',
  }),
  NOT_IDLE: lasting(115, {
    meaning: 'An address that was to be returned to EC2 is not idle, so none of those named was returned.',
    does: 'Nothing was changed; idle addresses beyond the goal are returned by themselves.',
    next: 'Name idle addresses alone: podway ipam show has their states, podway ipam defrag plan the worthwhile ones.',
  }),
  ADDRESS_IN_USE: lasting(109, {
    meaning: 'The address is on a link of a pod that stands.',
    does: 'Nothing was changed.',
    next: 'Delete the pod; its address is free after the cooldown.',
  }),
  ENI_CONFIG_INVALID: lasting(112, {
    meaning:
      'Custom networking is on and the node’s ENIConfig is missing or wrong, so the node makes no ENI for pods.',
    does: 'Looks again when an ENIConfig or the node changes, and every few minutes; pods that run go on.',
    next: 'Create or fix the ENIConfig that the message names; the node takes it up at once.',
  }),
  NO_SUBNET: lasting(113, {
    meaning: 'No subnet of the node’s VPC and zone may be used for new ENIs.',
    does: 'Looks again when the configuration or the node changes, and every few minutes; ENIs that exist are used on.',
    next: 'Tag a subnet of the zone kubernetes.io/role/cni=1, or name one in the NodeNetwork that the message names.',
  }),
  NO_SECURITY_GROUP: lasting(114, {
    meaning:
      'No security group of the node’s VPC has the tags that its NodeNetwork asks for, so no ENI is made.',
    does: 'Looks again when the configuration changes, and every half minute while a pod waits; ENIs that exist are used on.',
    next: 'Tag a group of the VPC, or name groups by id in the NodeNetwork that the message names.',
  }),
  LISTEN_FAILED: lasting(120, {
    meaning: 'Another program listens where the agent is to serve metrics and health.',
    does: 'Ends, so that its supervisor starts it again; running pods go on.',
    next: 'Give --listen another port, or end the program that has it: ss -ltnp names it.',
  }),
  HOST_UNWRITABLE: lasting(121, {
    meaning: 'The plugin or the conflist cannot be installed on the host, so no new pod starts there.',
    does: 'Tries again every few seconds; running pods go on, and so do new ones where both are installed already.',
    next: 'Mount the host directories that the message names writable; see the values hostBinDir and hostConfDir.',
  }),
  PLUGIN_MISSING: lasting(122, {
    meaning: 'A CNI plugin that is to be installed or chained is not there.',
    does: 'Looks again every few seconds; running pods go on.',
    next: 'Build podway-cni (npm run build, or the image has it) or name it by --plugin; install chained plugins on the host.',
  }),
  NODE_IN_USE: lasting(123, {
    meaning:
      'The node has pods with addresses of Podway, or an agent that serves, so nothing is uninstalled.',
    does: 'Nothing was changed.',
    next: 'Drain the node, wait for its pods to end, remove the agent from it, and try again.',
  }),
  INTERNAL: lasting(999, {
    meaning: 'An error that nothing expected.',
    does: 'Undoes the request; the runtime asks again.',
    next: 'Look at the agent log and report it.',
  }),
} as const satisfies Record<string, CauseRow>;

export type Cause = keyof typeof causes;

/** The page and heading that say more. */
export const docOf = (cause: Cause): string => `docs/causes.md#${cause.toLowerCase()}`;

/** A cause as an Event's reason, in the form that Kubernetes asks for: SubnetExhausted. */
export const eventReason = (cause: Cause): string =>
  cause
    .split('_')
    .map((word) => word[0] + word.slice(1).toLowerCase())
    .join('');

/** `podway explain` takes the name or the number; a number may name several rows (11). */
export function findCauses(nameOrNumber: string): Cause[] {
  const names = Object.keys(causes) as Cause[];
  const upper = nameOrNumber.toUpperCase();
  return names.filter((name) => name === upper || String(causes[name].cni) === nameOrNumber);
}
