// Everything that pods leave marks in, listed as text: taken before a storm and after it, the two lists are equal.
// The kernel of each node, the namespaces of the host, the journal and the cloud by their own answers, the API, files.
import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { formatCidr } from '../../src/base/ip.ts';
import { fixedCredentials } from '../../src/cloud/credentials.ts';
import { createEc2Cloud } from '../../src/cloud/ec2.ts';
import type { Cloud } from '../../src/cloud/port.ts';
import { isPodLinkName, NFT_TABLE, PODS_TABLE, PROTOCOL } from '../../src/datapath/marks.ts';
import { podsMap } from '../../src/datapath/nft.ts';
import { listNetns, openNetns } from '../../src/kernel/netns.ts';
import { NfNetlink } from '../../src/kernel/nfnetlink.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { readKubeConfig } from '../../src/kube/config.ts';
import { KubeClient, pods as podResource } from '../../src/kube/index.ts';
import { namespacesOf } from '../../src/lab/daemon/paths.ts';
import { processesInNamespaces } from '../../src/lab/daemon/processes.ts';
import type { IpamNode, NodeView } from '../../src/lab/daemon/protocol.ts';
import { podwayCommand, type TestLab } from './lab.ts';
import { eventually } from './wait.ts';

/** The lab's EC2 endpoint, with the keys that `lab env` gives. */
export async function cloudOf(lab: TestLab): Promise<Cloud> {
  const { stdout } = await podwayCommand(['lab', 'env', '--lab', lab.name]);
  const value = (name: string) => {
    const found = new RegExp(`^export ${name}='?([^'\n]*)'?$`, 'm').exec(stdout)?.[1];
    if (!found) throw new Error(`lab env gives no ${name}`);
    return found;
  };
  return createEc2Cloud({
    region: value('AWS_REGION'),
    endpoint: value('AWS_ENDPOINT_URL_EC2'),
    credentials: fixedCredentials({
      accessKeyId: value('AWS_ACCESS_KEY_ID'),
      secretAccessKey: value('AWS_SECRET_ACCESS_KEY'),
    }),
  });
}

/** What pods left, or keep, in every place; free addresses of the pool are compared by their number. */
export async function traces(lab: TestLab, cloud: Cloud): Promise<string[]> {
  const status = await lab.status();
  const shown = await lab.show();
  const found = [
    ...namespacesOf(lab.name, listNetns()).map((name) => `host: netns ${name}`),
    ...namesIn(lab.paths.pods).map((uid) => `lab: pod folder ${uid}`),
    ...status.pods.map(
      (pod) => `lab: pod ${pod.namespace}/${pod.name} ${pod.phase} ${pod.ips} on ${pod.node}`,
    ),
    ...(await apiPods(lab)),
    ...heldNamespaces('lab', lab.paths.pid),
  ];
  for (const node of status.nodes) {
    const ipam = shown.find((each) => each.node === node.name)!;
    const addresses = ipam.enis.flatMap((eni) => eni.addresses);
    const { held, free, cooling } = ipam.totals;
    found.push(
      ...kernelTraces(node),
      ...heldNamespaces(node.name, lab.paths.node(node.name).agentPid),
      ...namesIn(join(lab.paths.node(node.name).run, 'queue')).map(
        (name) => `${node.name}: queued DEL ${name}`,
      ),
      ...namesIn(lab.paths.node(node.name).cniCacheDir, true).map(
        (name) => `${node.name}: CNI cache ${name}`,
      ),
      `${node.name}: journal: ${held} held, ${free} free, ${cooling} cooling on ${ipam.enis.length} ENIs`,
      ...addresses
        .filter((each) => each.state === 'held')
        .map((each) => `${node.name}: journal: ${each.ip} held`),
    );
    const enis = await cloud.describeNetworkInterfaces({ kind: 'instance', instanceId: node.instanceId });
    const assigned = enis.flatMap((eni) => eni.addresses.filter((each) => !each.primary));
    found.push(`${node.name}: cloud: ${assigned.length} addresses on ${enis.length} ENIs`);
  }
  return found.sort();
}

function kernelTraces(node: NodeView): string[] {
  using netns = openNetns(node.netnsPath);
  using rt = RtNetlink.open(netns);
  using nf = NfNetlink.open(netns);
  const links = rt.links();
  const nameOf = (index: number | null | undefined) =>
    links.find((link) => link.index === index)?.name ?? index;
  return [
    ...links
      .filter((link) => isPodLinkName(link.name))
      .map((link) => `link ${link.name} ${link.up ? 'up' : 'down'}`),
    ...rt
      .routes({ table: PODS_TABLE })
      .map((route) => `route ${formatCidr(route.dst)} dev ${nameOf(route.oif)}`),
    ...rt
      .rules()
      .filter((rule) => rule.protocol === PROTOCOL)
      .map((rule) => `rule ${rule.priority} mark ${rule.fwmark ?? '-'} table ${rule.table}`),
    ...([4, 6] as const)
      .filter((family) => nf.hasSet('inet', NFT_TABLE, podsMap(family)))
      .flatMap((family) => nf.listElements('inet', NFT_TABLE, podsMap(family)))
      .map((each) => `nft element ${Buffer.from(each.key).toString('hex')}`),
    `${processesInNamespaces([node.netnsPath]).length} processes`,
  ].map((text) => `${node.name}: kernel: ${text}`);
}

/** Descriptors of namespaces that have no name any more: each keeps a whole namespace for as long as the process lives. */
function heldNamespaces(who: string, pidFile: string): string[] {
  const { pid } = JSON.parse(readFileSync(pidFile, 'utf8')) as { pid: number };
  if (!existsSync(`/proc/${pid}/fd`)) return []; // Killed: what it held is gone.
  const nsfs = statSync('/proc/self/ns/net').dev;
  const held = readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      const path = `/proc/${pid}/fd/${fd}`;
      return readlinkSync(path) === '/' && statSync(path).dev === nsfs;
    } catch {
      return false; // Closed meanwhile.
    }
  });
  return held.map(() => `${who}: process: a namespace without a name is held open`);
}

async function apiPods(lab: TestLab): Promise<string[]> {
  const client = new KubeClient(await readKubeConfig(lab.paths.kubeconfig));
  try {
    const { items } = await client.list(podResource, {});
    return items.map((pod) => `api: pod ${pod.metadata.namespace}/${pod.metadata.name} ${pod.status?.podIP}`);
  } finally {
    client.close();
  }
}

function namesIn(dir: string, recursive = false): string[] {
  if (!existsSync(dir)) return [];
  return readdirSync(dir, { recursive, withFileTypes: true })
    .filter((entry) => !recursive || entry.isFile())
    .map((entry) => entry.name);
}

/**
 * The pool has nothing to give back: no more free addresses than its goal, and no ENI beside the primary one that keeps
 * free ones alone. Such an ENI goes in its time (`idleRelease`, on the planner's grid of 5 s), and until then nothing moves.
 */
export const isAtGoal = ({ totals, warm, enis }: IpamNode): boolean =>
  totals.free <= warm.target &&
  enis.every(
    ({ deviceIndex, networkCard, addresses }) =>
      (deviceIndex === 0 && networkCard === 0) || addresses.some(({ state }) => state === 'held'),
  );

/** The traces once nothing moves any more: twice the same, each pool at its goal, and no address cooling. */
export async function tracesAtRest(lab: TestLab, cloud: Cloud, boundMs: number): Promise<string[]> {
  let last: string[] = [];
  return eventually(
    'the pool rests',
    async () => {
      const now = await traces(lab, cloud);
      const atGoal = (await lab.show()).every(isAtGoal);
      const same = difference(last, now).length === 0 && now.every((each) => !/ [1-9]\d* cooling/.test(each));
      last = now;
      return atGoal && same && now;
    },
    boundMs,
  );
}

/** Waits until the traces are those of `before`. Throws with the differences that stay; answers what was last to go. */
export async function sameTraces(
  lab: TestLab,
  cloud: Cloud,
  before: readonly string[],
  boundMs: number,
): Promise<string[]> {
  let left: string[] = [];
  let last: string[] = [];
  await eventually(
    'everything is as before',
    async () => {
      left = difference(before, await traces(lab, cloud));
      if (left.length > 0) last = left;
      return left.length === 0;
    },
    boundMs,
  ).catch((error: Error) => {
    throw new Error(`${error.message}\n${left.join('\n')}`);
  });
  return last;
}

/** What one list has more of than the other. */
export function difference(before: readonly string[], after: readonly string[]): string[] {
  const extra = (a: readonly string[], b: readonly string[]) => {
    const left = [...b];
    return a.filter((one) => {
      const at = left.indexOf(one);
      if (at >= 0) left.splice(at, 1);
      return at < 0;
    });
  };
  return [...extra(after, before).map((one) => `+ ${one}`), ...extra(before, after).map((one) => `- ${one}`)];
}
