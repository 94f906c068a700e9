// The one table of typed causes. CNI errors, Events, metric labels, logs, `podway explain` and the docs read it.
// Numbers: 1-8 and 999 are CNI's and libcni's, 11 is "try again later", 50 and 51 STATUS, from 100 ours and lasting.

export type CauseRow = {
  /** Number in a CNI error object. */
  readonly cni: number;
  /** True when the cause passes by itself: the caller should try again. */
  readonly transient: boolean;
  readonly meaning: string;
  readonly next: string;
};

const passing = (meaning: string, next: string): CauseRow => ({ cni: 11, transient: true, meaning, next });
const lasting = (cni: number, meaning: string, next: string): CauseRow => ({
  cni,
  transient: false,
  meaning,
  next,
});

export const causes = {
  INCOMPATIBLE_VERSION: lasting(
    1,
    'The CNI version of the config is not supported, or lacks this verb.',
    'Use a cniVersion from 0.1.0 to 1.1.0; CHECK needs 0.4.0, GC and STATUS need 1.1.0.',
  ),
  UNSUPPORTED_FIELD: lasting(
    2,
    'A field of the config is not supported.',
    'Remove the field that the message names.',
  ),
  BAD_ENVIRONMENT: lasting(
    4,
    'A CNI environment variable is missing or malformed.',
    'Fix the variables that the message names; the runtime sets them.',
  ),
  IO_FAILURE: lasting(
    5,
    'Reading the request or writing the answer failed.',
    'Look at the agent log and try again.',
  ),
  BAD_JSON: lasting(6, 'The config is not the JSON that CNI asks for.', 'Fix the config on stdin.'),
  INVALID_CONFIG: lasting(7, 'The network config is invalid.', 'Fix the field that the message names.'),
  INVALID_NETNS: lasting(
    8,
    'The network namespace cannot be used.',
    'Give the sandbox its own network namespace.',
  ),
  AGENT_UNREACHABLE: passing(
    'The agent of this node does not answer on its socket.',
    'See that the agent runs: podway lab logs NODE, or the podway pod of the node.',
  ),
  AGENT_STARTING: passing(
    'The agent is up and has not finished its start.',
    'Wait; podway ipam show tells what it waits for.',
  ),
  COOLDOWN: passing(
    'All unheld addresses of the node are cooling after their last use.',
    'Wait for the cooldown, or lower the setting cooldown, or use a larger instance type.',
  ),
  POOL_GROWING: passing(
    'The pool of the node is growing: addresses are on their way.',
    'Wait; the runtime tries again.',
  ),
  CLOUD_THROTTLED: passing(
    'EC2 throttles the calls of this account.',
    'Wait, or ask for a higher request rate; podway_ec2_calls_total shows who calls.',
  ),
  CLOUD_UNREACHABLE: passing(
    'EC2 does not answer.',
    'See the route to the EC2 endpoint and its security group.',
  ),
  RUN_DIR_UNWRITABLE: passing(
    'The agent cannot write its run directory, so it gives out no address; running pods go on.',
    'Make room in the directory that the message names, or make it writable.',
  ),
  DATAPATH_CHANGED: passing(
    'Somebody removed what the node’s network is made of, and it is being put back.',
    'Wait; podway_datapath_repairs_total and the agent log tell what was changed. With repair: report, set it to enforce.',
  ),
  STATUS_UNAVAILABLE: lasting(
    50,
    'The plugin cannot serve ADD.',
    'Read the message; podway ipam show tells the state of the pool.',
  ),
  STATUS_LIMITED: lasting(
    51,
    'The plugin cannot serve ADD and pods that exist may be affected.',
    'Read the agent log; podway ipam check compares journal, kernel and cloud.',
  ),
  ADDRESS_LIMIT: lasting(
    100,
    'All the addresses that the instance type allows are held, or cool for pods that wait already.',
    'Delete pods on the node, or use a larger instance type.',
  ),
  SUBNET_EXHAUSTED: lasting(
    101,
    'The subnet has no free address.',
    'Free addresses in the subnet, or add a secondary CIDR and a subnet.',
  ),
  POLICY_TIMEOUT: lasting(
    102,
    'The policy of the pod was not in place in time.',
    'See the agent log for the policy that cannot be applied.',
  ),
  BRANCH_LIMIT: lasting(
    103,
    'The trunk ENI holds all the branches that its instance type allows.',
    'Delete pods with security groups on the node, or use a larger instance type.',
  ),
  CLOUD_DENIED: lasting(
    104,
    'EC2 refuses the call: a permission is missing.',
    'Grant the action that the message names to the role of the node.',
  ),
  ENI_LIMIT: lasting(
    105,
    'ENIs of others hold the slots of the instance.',
    'Detach the ENIs that the message names, or use a larger instance type.',
  ),
  SUBNET_FRAGMENTED: lasting(
    106,
    'The subnet has free addresses and no free aligned /28.',
    'Reserve a CIDR of the subnet for prefixes, or use secondary addresses.',
  ),
  ATTACHMENT_EXISTS: lasting(
    107,
    'This container id and interface hold an attachment already; nothing was changed.',
    'DEL the attachment first.',
  ),
  ENI_WITHOUT_LINK: lasting(
    111,
    'An ENI of the node has no link: it was renamed to another MAC address, or its hot-plug failed.',
    'See dmesg and ip link for the MAC address that the message names; detach and attach the ENI.',
  ),
  ADDRESS_ON_LINK: lasting(
    110,
    'Free addresses of the node are configured on its own links, so no pod can have them.',
    'Remove them from the links that the message names; deploy/README.md keeps managers of links from adding them.',
  ),
  NOT_QUARANTINED: lasting(
    108,
    'The address is not in quarantine, so nothing can be released.',
    'podway ipam show tells the state of each address.',
  ),
  ADDRESS_IN_USE: lasting(
    109,
    'The address is on a link of a pod that stands.',
    'Delete the pod; its address is free after the cooldown.',
  ),
  ENI_CONFIG_INVALID: lasting(
    112,
    'Custom networking is on and the node’s ENIConfig is missing or wrong, so the node makes no ENI for pods.',
    'Create or fix the ENIConfig that the message names; the node takes it up at once.',
  ),
  NO_SUBNET: lasting(
    113,
    'No subnet of the node’s VPC and zone may be used for new ENIs.',
    'Tag a subnet of the zone kubernetes.io/role/cni=1, or name one in the NodeNetwork that the message names.',
  ),
  INTERNAL: lasting(999, 'An error that nothing expected.', 'Look at the agent log and report it.'),
} as const satisfies Record<string, CauseRow>;

export type Cause = keyof typeof causes;

/** `podway explain` takes the name or the number; a number may name several rows (11). */
export function findCauses(nameOrNumber: string): Cause[] {
  const names = Object.keys(causes) as Cause[];
  const upper = nameOrNumber.toUpperCase();
  return names.filter((name) => name === upper || String(causes[name].cni) === nameOrNumber);
}
