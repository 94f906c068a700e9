// The lab as `lab status` shows it, from the VPC's state and the API's objects: pure.

import type { Node, Pod } from '../../kube/types.ts';
import { OWN_SCHEDULER } from '../cluster/fits.ts';
import { isNode } from '../cluster/nodes/cluster.ts';
import { placesOf } from '../fabric/plan.ts';
import { availableAddresses } from '../vpc/index.ts';
import { ipv6CidrsOf } from '../vpc/ipv6.ts';
import type { Instance, VpcState } from '../vpc/model.ts';
import type { PodSandbox } from './lab-cluster.ts';
import type { LabPaths } from './paths.ts';
import { netnsPath } from './paths.ts';
import type { InstanceView, NodeView, PodMessage, PodView, VpcView } from './protocol.ts';

export function podView(pod: Pod, sandbox: PodSandbox | undefined, node?: Node): PodView {
  const ips = (pod.status?.podIPs ?? []).map((each) => each.ip);
  const netns = sandbox?.state === 'made' ? sandbox.netns : '';
  const message = podMessage(pod, node) ?? unplaced(pod, node);
  return {
    namespace: pod.metadata.namespace ?? 'default',
    name: pod.metadata.name ?? '',
    node: pod.spec.nodeName ?? '',
    ips,
    phase: pod.status?.phase ?? 'Pending',
    netns,
    netnsPath: netns === '' ? '' : (sandbox?.netnsPath ?? netnsPath(netns)),
    ...(message === undefined ? {} : { message }),
  };
}

/** Why a pod is not Running, in the words of its conditions, its container, and the node that it is bound to. */
export function podMessage(pod: Pod, node?: Node): PodMessage | undefined {
  const { status } = pod;
  if (!status || status.phase === 'Succeeded') return undefined;
  const conditions = status.conditions ?? [];
  const unscheduled = conditions.find((each) => each.type === 'PodScheduled' && each.status === 'False');
  if (unscheduled) return { code: 'UNSCHEDULABLE', text: unscheduled.message ?? '' };
  if (status.phase === 'Failed' && status.reason) return { code: status.reason, text: status.message ?? '' };
  const sandbox = conditions.find(
    (each) => each.type === 'PodReadyToStartContainers' && each.status === 'False',
  );
  if (status.phase === 'Pending' && sandbox?.reason)
    return { code: sandbox.reason, text: sandbox.message ?? '' };
  const state = status.containerStatuses?.[0]?.state;
  if (status.phase === 'Failed' && state?.terminated)
    return { code: 'EXITED', text: `exit code ${state.terminated.exitCode}` };
  if (state?.waiting?.reason === 'CrashLoopBackOff')
    return { code: 'CRASH_LOOP', text: state.waiting.message ?? '' };
  const late = status.phase === 'Pending' && node ? nodeMessage(node) : undefined;
  return late && { code: late.code, text: `node ${node!.metadata.name}: ${late.text}` };
}

/** Pods that the lab's scheduler does not place: they name a node or another scheduler. */
function unplaced({ spec, status }: Pod, node: Node | undefined): PodMessage | undefined {
  if (node || (status?.phase ?? 'Pending') !== 'Pending') return undefined;
  if (spec.nodeName) return { code: 'NO_SUCH_NODE', text: `there is no node ${spec.nodeName}` };
  const { schedulerName = OWN_SCHEDULER } = spec;
  if (schedulerName === OWN_SCHEDULER) return undefined;
  return { code: 'UNSCHEDULABLE', text: `it waits for the scheduler "${schedulerName}" to bind it` };
}

/** Why a node is not Ready; undefined when it is. */
function nodeMessage(node: Node): PodMessage | undefined {
  const ready = node.status?.conditions?.find((each) => each.type === 'Ready');
  if (ready?.status === 'True') return undefined;
  const [, code, text] = /^([A-Z][A-Z0-9_]*): (.*)$/s.exec(ready?.message ?? '') ?? [];
  return {
    code: code ?? 'NODE_NOT_READY',
    text: text ?? ready?.message ?? 'it has not said that it is ready',
  };
}

export function instanceView(
  state: VpcState,
  instance: Instance,
  name: string,
  paths: LabPaths,
): InstanceView {
  const primary = Object.values(state.networkInterfaces).find(
    (eni) => eni.attachment?.instanceId === instance.id && eni.attachment.deviceIndex === 0,
  );
  const publicIps = Object.values(state.publicAddresses)
    .filter(
      (each) =>
        each.networkInterfaceId !== undefined &&
        each.networkInterfaceId === primary?.id &&
        each.privateIp === primary?.privateIps[0],
    )
    .map((each) => each.publicIp);
  const netns = paths.netns(name);
  return {
    name,
    instanceId: instance.id,
    instanceType: instance.instanceType,
    state: instance.state,
    ips: [
      ...(isNode(instance) ? (primary?.privateIps.slice(0, 1) ?? []) : (primary?.privateIps ?? [])),
      ...(primary?.ipv6Addresses.slice(0, isNode(instance) ? 1 : undefined) ?? []),
    ],
    publicIps,
    netns,
    netnsPath: netnsPath(netns),
  };
}

export function nodeView(
  base: InstanceView,
  zone: string,
  paths: LabPaths,
  node: Node | undefined,
): NodeView {
  const dirs = paths.node(base.name);
  const message = node ? nodeMessage(node) : { code: 'NODE_NOT_READY', text: `instance is ${base.state}` };
  return {
    ...base,
    zone,
    ready: message === undefined,
    cniConfDir: dirs.cniConfDir,
    cniBinDir: dirs.cniBinDir,
    agentSocket: dirs.agentSocket,
    ...(message === undefined ? {} : { message }),
  };
}

export function vpcViews(state: VpcState): VpcView[] {
  return Object.values(state.vpcs).map((vpc) => ({
    id: vpc.id,
    name: vpc.tags['Name'] ?? '',
    cidrs: vpc.cidrs.map((each) => each.cidr),
    ...(vpc.ipv6Cidrs === undefined ? {} : { ipv6Cidrs: ipv6CidrsOf(vpc) }),
    subnets: Object.values(state.subnets)
      .filter((subnet) => subnet.vpcId === vpc.id)
      .map((subnet) => ({
        id: subnet.id,
        name: subnet.tags['Name'] ?? '',
        zone: subnet.zone,
        cidr: subnet.cidr,
        ...(subnet.ipv6Cidrs?.[0] === undefined ? {} : { ipv6Cidr: subnet.ipv6Cidrs[0].cidr }),
        availableIpAddressCount: availableAddresses(state, subnet),
      })),
  }));
}

export function living(state: VpcState): { instance: Instance; name: string }[] {
  const places = placesOf(state);
  return Object.values(state.instances)
    .filter((instance) => instance.state !== 'terminated' && instance.state !== 'shutting-down')
    .map((instance) => ({ instance, name: places.get(instance.id) ?? instance.name }));
}
