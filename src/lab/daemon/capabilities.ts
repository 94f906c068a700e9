// What a pod offers its network's plugins by capability, as containerd hands it on: a plugin gets what it declares.
// Invariant: host ports and bandwidth are those of the pod's object, in the units that the plugins take.
import { CniError } from '../../cni/errors.ts';
import type { JsonObject } from '../../cni/types.ts';
import type { Pod } from '../../kube/types.ts';

const SUFFIXES: Record<string, number> = {
  ...{ '': 1, k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15 },
  ...{ Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, Pi: 2 ** 50 },
};

/** Kubernetes' notation of a number, as 10M, 1.5Gi or 2e6; undefined when it is none, or below 1. */
function quantity(text: string): number | undefined {
  const match = /^(\d+(?:\.\d*)?(?:[eE]\d+)?)([kMGTP]i?|Ki)?$/.exec(text.trim());
  const factor = SUFFIXES[match?.[2] ?? ''];
  const value = match && factor !== undefined ? Math.round(Number(match[1]) * factor) : 0;
  return value >= 1 && Number.isSafeInteger(value) ? value : undefined;
}

/** What containerd takes for a burst that nobody names: the most that the plugin's field holds, in bits. */
const BURST = 2 ** 32 - 1;

/** Bits per second. Throws CniError for what is no quantity: kubelet refuses such a pod. */
function bandwidthOf(annotations: Record<string, string>): JsonObject | undefined {
  const rate = (direction: 'ingress' | 'egress'): JsonObject => {
    const key = `kubernetes.io/${direction}-bandwidth`;
    const text = annotations[key];
    if (text === undefined) return {};
    const bits = quantity(text);
    if (bits === undefined)
      throw new CniError(
        7,
        `INVALID_CONFIG: annotation ${key} is ${JSON.stringify(text)}, not a quantity of bits a second`,
      );
    return { [`${direction}Rate`]: bits, [`${direction}Burst`]: BURST };
  };
  const rates = { ...rate('ingress'), ...rate('egress') };
  return Object.keys(rates).length > 0 ? rates : undefined;
}

/** What containerd offers (specs: go-cni): host ports, bandwidth of the annotations, the annotations themselves. */
export function capabilitiesOf(pod: Pod): JsonObject {
  const portMappings = pod.spec.containers.flatMap((container) =>
    (container.ports ?? [])
      .filter((port) => port.hostPort !== undefined && port.hostPort > 0)
      .map((port) => ({
        hostPort: port.hostPort!,
        containerPort: port.containerPort,
        protocol: (port.protocol ?? 'TCP').toLowerCase(),
        hostIP: port.hostIP ?? '',
      })),
  );
  const annotations = pod.metadata.annotations ?? {};
  const bandwidth = bandwidthOf(annotations);
  return {
    ...(portMappings.length > 0 ? { portMappings } : {}),
    ...(bandwidth ? { bandwidth } : {}),
    ...(Object.keys(annotations).length > 0 ? { 'io.kubernetes.cri.pod-annotations': annotations } : {}),
  };
}

const PLUGIN_OF = { portMappings: ['hostPort', 'portmap'], bandwidth: ['bandwidth', 'bandwidth'] } as const;

/** A sentence for each thing that the pod offers and no plugin takes: a container runtime says nothing of it. */
export const withoutEffect = (offered: JsonObject, declared: ReadonlySet<string>): string[] =>
  Object.entries(PLUGIN_OF)
    .filter(([capability]) => offered[capability] !== undefined && !declared.has(capability))
    .map(
      ([, [what, plugin]]) =>
        `${what} has no effect: no plugin of the node's network does it (podway lab up --set cniChain=${plugin})`,
    );
