// Which of Kubernetes' own end-to-end tests we run, and why the others of the network are not run. Values only. Every
// [sig-network] test falls under one group or one reason; what falls under none is listed as such in docs/conformance.md.

export type Group = {
  name: string;
  title: string;
  /** Of the full name of a test, as `e2e.test --list-tests` prints it. */
  focus: RegExp;
};

/** In the order of worth: a run that is cut off has shown the first ones. */
export const groups: Group[] = [
  {
    name: 'granular',
    title: 'Pod to pod and node to pod',
    focus: /\[sig-network\] Networking Granular Checks: Pods/,
  },
  { name: 'hostport', title: 'hostPort', focus: /\[sig-network\] HostPort/ },
  {
    name: 'lifecycle',
    title: 'Pod lifecycle, as far as it touches the network',
    focus:
      /\[sig-network\] Connectivity Pod Lifecycle|\[sig-node\] (PreStop|KubeletManagedEtcHosts|Pods should (get a host IP|be submitted and removed|support remote command execution over websockets|support retrieving logs))|\[sig-node\] Container Lifecycle Hook.*(http|https) hook|\[sig-node\] Probing container.*(http|tcp|GRPC) .*probe/,
  },
  { name: 'dns', title: 'DNS', focus: /\[sig-network\] DNS / },
  {
    name: 'paths',
    title: 'Pods without SNAT, traffic distribution, the API server from pods',
    focus:
      /\[sig-network\] (NoSNAT|Traffic Distribution|Topology Hints|API Server|Service CIDRs|Networking should (check kube-proxy|provide unchanging))/,
  },
  { name: 'services', title: 'Services', focus: /\[sig-network\] Services / },
  {
    name: 'service-granular',
    title: 'Services, pod and node and endpoint to each',
    focus: /\[sig-network\] Networking Granular Checks: Services/,
  },
  {
    name: 'api',
    title: 'Endpoints, slices, and the API as a proxy',
    focus: /\[sig-network\] (Endpoints|EndpointSlice|EndpointSliceMirroring|Proxy|KubeProxy|Conntrack)/,
  },
  {
    name: 'policy',
    title: 'NetworkPolicy',
    focus: /\[sig-network\] Netpol .*NetworkPolicy between server and client/,
  },
  { name: 'forward', title: 'kubectl port-forward', focus: /\[sig-cli\] Kubectl Port forwarding/ },
];

export type Reason = { name: string; why: string; pattern: RegExp };

/** The first that fits is the reason. */
export const reasons: Reason[] = [
  {
    name: 'load balancer',
    why: 'needs a cloud controller that makes load balancers; the lab has none',
    pattern: /LoadBalancers|Type LoadBalancer|load balancer|\[Feature:(Ingress|Loadbalancing|NEG)/i,
  },
  {
    name: 'IPv6 and dual stack',
    why: 'the lab of these tests gives pods IPv4 alone',
    pattern: /IPv6|DualStack|dual-stack|\[Experimental\]\[LinuxOnly\]/i,
  },
  {
    name: 'SCTP',
    why: 'needs the kernel module sctp',
    pattern: /sctp/i,
  },
  {
    name: 'another provider',
    why: 'is written for one cloud (GCE), or for Windows',
    pattern: /\[Provider:|GCE|Windows/,
  },
  {
    name: 'Internet',
    why: 'asks servers of the Internet, which a lab does not reach',
    pattern: /Internet connection|Networking-(IPv4|DNS)|\[Feature:Networking(IPv4|DNS)/,
  },
  {
    name: 'restarts by SSH',
    why: 'restarts parts of the control plane or nodes by SSH, which nodes of a lab have not',
    pattern: /\[Disruptive\]|\[Serial\]|\[Feature:SSH/,
  },
  {
    name: 'feature gates',
    why: 'needs an alpha feature or a gate that is off by default',
    pattern: /\[(Alpha|Beta|OffByDefault|FeatureGate:|Feature:(?!NetworkPolicy))/,
  },
  {
    name: 'length',
    why: 'takes minutes by design (Slow, latency or scale), or many nodes',
    pattern: /\[Slow\]|latency|scalab|\[Performance\]/i,
  },
  {
    name: 'other images',
    why: "needs an image that is not built here: regression-issue-74839, and distroless-iptables to look at times of connections that a lab's kube-proxy does not set",
    pattern: /invalid conntrack state bug|set TCP CLOSE_WAIT timeout/,
  },
  {
    name: 'local storage',
    why: 'needs a kubelet that evicts a pod for what it writes; nodes of a lab share one disk, and evict none',
    pattern: /rejected for evicted pods/,
  },
  {
    name: 'not of the pod network',
    why: 'asks only the API (Ingress classes, API operations of objects that Podway does not read)',
    pattern:
      /Ingress|IngressClass|NetworkPolicy API|ServiceCIDR|IPAddress|API operations|Events|RuntimeClass/,
  },
];

/** Why tests failed when they last ran, as far as it is known. */
export const explained: { pattern: RegExp; why: string }[] = [
  {
    pattern: /Traffic Distribution should/,
    why: 'the lab has three zones with one node each',
  },
];

export type Choice = { run: Map<Group, string[]>; skipped: Map<Reason | undefined, string[]> };

/** Divides tests: a reason comes before a group. Those outside [sig-network] that no group wants are left out. */
export function choose(tests: string[]): Choice {
  const run = new Map<Group, string[]>(groups.map((group) => [group, []]));
  const skipped: Choice['skipped'] = new Map();
  for (const test of tests) {
    const group = groups.find(({ focus }) => focus.test(test));
    const ofNetwork = test.includes('[sig-network]');
    if (!group && !ofNetwork) continue;
    const reason = reasons.find(({ pattern }) => pattern.test(test));
    if (group && !reason) run.get(group)!.push(test);
    else skipped.set(reason, [...(skipped.get(reason) ?? []), test]);
  }
  return { run, skipped };
}
