// A case of the suite as data: what is applied in each step, and which pairs then reach each other, in every protocol and
// family that the step asks for. A pod to itself is not asked. And the words that cases are written with.
import { setTimeout as sleep } from 'node:timers/promises';
import type {
  V1LabelSelector,
  V1NetworkPolicy,
  V1NetworkPolicyPeer,
  V1NetworkPolicyPort,
  V1NetworkPolicySpec,
} from '@kubernetes/client-node';
import { type Allow, PORTS, type PolicyGround, type Protocol, type Who } from './policy-ground.ts';
import { PROTOCOLS } from './policy-probes.ts';

/** What a case asks of the ground to write its policies. */
export type Addresses = Pick<PolicyGround, 'hostsOf'>;

export type Step = {
  /** Everything that is in force in this step. */
  policies: (ground: Addresses) => V1NetworkPolicy[];
  /** Labels that are changed before. */
  before?: (ground: PolicyGround) => Promise<void>;
  /** What `allow` speaks of: TCP unless another is named. Others are as the objects say. */
  protocol?: Protocol;
  /** And of which ports: 80 unless others are named. */
  ports?: readonly number[];
  /** Null: all is as the objects say. */
  allow: Allow | null;
  /** A second look, as for the other protocol. */
  also?: { protocol: Protocol; ports: readonly number[]; allow: Allow };
};
export type Case = {
  id: string;
  title: string;
  steps: readonly Step[];
  after?: (ground: PolicyGround) => Promise<void>;
  /** A real API server of today refuses the object. */
  embedded?: boolean;
};

export const policy = (namespace: string, name: string, spec: V1NetworkPolicySpec): V1NetworkPolicy => ({
  metadata: { namespace, name },
  spec,
});
export const pod = (...names: string[]): V1LabelSelector =>
  names.length === 1
    ? { matchLabels: { pod: names[0]! } }
    : { matchExpressions: [{ key: 'pod', operator: 'In', values: names }] };
export const ns = (name: string): V1LabelSelector => ({ matchLabels: { ns: name } });
export const nsNot = (name: string): V1LabelSelector => ({
  matchExpressions: [{ key: 'ns', operator: 'NotIn', values: [name] }],
});
export const ingress = (from?: V1NetworkPolicyPeer[], ports?: V1NetworkPolicyPort[]) => ({
  ...(from ? { _from: from } : {}),
  ...(ports ? { ports } : {}),
});
export const egress = (to?: V1NetworkPolicyPeer[], ports?: V1NetworkPolicyPort[]) => ({
  ...(to ? { to } : {}),
  ...(ports ? { ports } : {}),
});
export const port = (
  number: number | string,
  protocol: Protocol = 'TCP',
  endPort?: number,
): V1NetworkPolicyPort => ({ port: number, protocol, ...(endPort ? { endPort } : {}) });
export const IN = ['Ingress'];
export const OUT = ['Egress'];
export const BOTH = ['Ingress', 'Egress'];

/** Ingress of x/a. */
export const toA = (name: string, rules: ReturnType<typeof ingress>[]) =>
  policy('x', name, { podSelector: pod('a'), policyTypes: IN, ingress: rules });
export const fromA = (name: string, rules: ReturnType<typeof egress>[]) =>
  policy('x', name, { podSelector: pod('a'), policyTypes: OUT, egress: rules });
export const denyIn = (name = 'deny') => policy('x', name, { podSelector: {}, policyTypes: IN, ingress: [] });

export const is = (who: Who, key: string) => `${who.ns}/${who.pod}` === key;
export const any = (who: Who, ...keys: string[]) => keys.some((key) => is(who, key));
/** x/a is reached by these alone; all else is open. */
export const toAFrom =
  (may: (from: Who, port: number) => boolean): Allow =>
  (from, to, port) =>
    !is(to, 'x/a') || may(from, port);
export const fromATo =
  (may: (to: Who, port: number) => boolean): Allow =>
  (from, to, port) =>
    !is(from, 'x/a') || may(to, port);
export const open: Allow = () => true;
export const intoX: Allow = (_, to) => to.ns !== 'x';
export const both = [80, 81] as const;

export const one = (
  id: string,
  title: string,
  policies: Step['policies'],
  allow: Allow | null,
  more: Partial<Step> = {},
): Case => ({
  id,
  title,
  steps: [{ policies, allow, ...more }],
});

/** Peers that are the addresses of a pod. */
export const hosts = (ground: Addresses, ...keys: string[]): V1NetworkPolicyPeer[] =>
  keys.flatMap((key) => ground.hostsOf(key).map((cidr) => ({ ipBlock: { cidr } })));

const isFour = (cidr: string): boolean => cidr.includes('.');
/** All addresses of pods but those of some, in each of their families. */
export const allBut = (ground: Addresses, ...keys: string[]): V1NetworkPolicyPeer[] =>
  [...new Set(keys.flatMap((key) => ground.hostsOf(key).map(isFour)))].map((four) => ({
    ipBlock: {
      cidr: four ? '10.0.0.0/8' : '::/0',
      except: keys.flatMap((key) => ground.hostsOf(key).filter((cidr) => isFour(cidr) === four)),
    },
  }));

/** Most changes are in force after this; the others are looked at again. */
const SETTLES_MS = 60;

/** Brings the ground through the steps; throws with the pairs that do otherwise. */
export async function runCase(ground: PolicyGround, { id, steps, after }: Case): Promise<void> {
  for (const { policies, before, protocol = 'TCP', ports = [80], allow, also } of steps) {
    await ground.policies(policies(ground));
    await before?.(ground);
    await sleep(SETTLES_MS);
    const all = [...new Set([...PORTS, ...ports])];
    await ground.expect(id, PROTOCOLS, all, (from, to, port, at) => {
      if (at.protocol === protocol && ports.includes(port)) return allow?.(from, to, port, at);
      if (also && at.protocol === also.protocol && also.ports.includes(port))
        return also.allow(from, to, port, at);
      return undefined;
    });
  }
  await after?.(ground);
}
