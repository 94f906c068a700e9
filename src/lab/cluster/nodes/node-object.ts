// The Node object of an instance that runs Podway, as a pure function: capacity by the instance type, identity and
// topology as a cloud provider labels them, readiness as the node runner sees it.

import { release } from 'node:os';
import { rfc3339 } from '../../../base/clock.ts';
import type { Node, NodeStatus } from '../../../kube/types.ts';
import { lifeOf } from '../../fabric/plan.ts';
import type { Instance } from '../../vpc/model.ts';
import { condition, type PodFailure } from './pod-status.ts';

export type NodeFacts = {
  instance: Instance;
  region: string;
  /** Of each family that the cluster has, the primary one first. */
  internalIps: readonly string[];
  /** It reaches the lab's servers by IPv6. */
  ipv6Only: boolean;
  externalIp?: string;
  /** Pods that the instance type allows. */
  podLimit: number;
};

export function nodeObject({ instance, region }: NodeFacts): Node {
  const labels = {
    'kubernetes.io/hostname': instance.name,
    'kubernetes.io/os': 'linux',
    'kubernetes.io/arch': process.arch === 'arm64' ? 'arm64' : 'amd64',
    'node.kubernetes.io/instance-type': instance.instanceType,
    'topology.kubernetes.io/region': region,
    'topology.kubernetes.io/zone': instance.zone,
  };
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: instance.name, labels },
    spec: { providerID: `aws:///${instance.zone}/${instance.id}` },
  };
}

/** `failure` absent: the node's CNI STATUS is good. */
export function nodeStatus(
  facts: NodeFacts,
  before: NodeStatus | undefined,
  now: number,
  failure: PodFailure | undefined,
): NodeStatus {
  const resources = { cpu: '2', memory: '8Gi', pods: String(facts.podLimit) };
  const ready = condition(before?.conditions, now, {
    type: 'Ready',
    status: failure === undefined ? 'True' : 'False',
    reason: failure === undefined ? 'KubeletReady' : 'NetworkPluginNotReady',
    message: failure === undefined ? 'the network plugin serves ADD' : `${failure.cause}: ${failure.text}`,
    lastHeartbeatTime: rfc3339(now),
  });
  const others = (before?.conditions ?? []).filter((each) => each.type !== 'Ready');
  return {
    ...before,
    addresses: [
      ...facts.internalIps.map((address) => ({ type: 'InternalIP', address })),
      { type: 'Hostname', address: facts.instance.name },
      ...(facts.externalIp === undefined ? [] : [{ type: 'ExternalIP', address: facts.externalIp }]),
    ],
    // Extended resources are others'.
    capacity: { ...before?.capacity, ...resources },
    allocatable: { ...before?.allocatable, ...resources },
    conditions: [...others, ready],
    nodeInfo: {
      machineID: facts.instance.id,
      systemUUID: facts.instance.id,
      bootID: lifeOf(facts.instance),
      kernelVersion: release(),
      osImage: 'Podway lab node',
      containerRuntimeVersion: 'podway://0.1.0',
      kubeletVersion: 'v1.35.0-podway',
      kubeProxyVersion: '',
      operatingSystem: 'linux',
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    },
  };
}
