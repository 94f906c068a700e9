// Random changes of a ground: policies that come, change and go, labels of pods and namespaces, pods that come and go. Few
// names and numbers, so that they meet. The same for the same seed.
import type {
  V1LabelSelector,
  V1NetworkPolicy,
  V1NetworkPolicyPeer,
  V1NetworkPolicyPort,
} from '@kubernetes/client-node';
import { PODS, PORTS, type PolicyGround } from './policy-ground.ts';
import { PROTOCOLS } from './policy-probes.ts';

const NAMESPACES = ['x', 'y', 'z'];
const KEYS = ['tier', 'team'];
const VALUES = ['one', 'two', 'three'];
const POLICIES = 8;
const EXTRA = ['x/d', 'z/d'];

export class RandomChanges {
  readonly #random: () => number;
  readonly #ground: PolicyGround;
  #policies = new Map<string, V1NetworkPolicy>();
  readonly #extra = new Set<string>();

  readonly #always: readonly V1NetworkPolicy[];

  /** `always`: in force beside whatever changes. */
  constructor(ground: PolicyGround, random: () => number, always: readonly V1NetworkPolicy[] = []) {
    this.#ground = ground;
    this.#random = random;
    this.#always = always;
  }

  #below = (n: number): number => Math.floor(this.#random() * n);
  #pick = <T>(all: readonly T[]): T => all[this.#below(all.length)]!;
  #maybe = <T>(make: () => T): T | undefined => (this.#random() < 0.5 ? make() : undefined);
  #some = <T>(make: () => T, most: number): T[] => Array.from({ length: 1 + this.#below(most) }, make);

  #selector(key: string, values: readonly string[]): V1LabelSelector {
    const operator = this.#pick(['In', 'NotIn', 'Exists', 'DoesNotExist']);
    const chosen = values.filter(() => this.#random() < 0.5);
    if (operator.endsWith('In'))
      return { matchExpressions: [{ key, operator, values: chosen.length > 0 ? chosen : [values[0]!] }] };
    return { matchExpressions: [{ key, operator }] };
  }

  #podSelector(): V1LabelSelector {
    if (this.#random() < 0.3) return {};
    return this.#random() < 0.5
      ? this.#selector('pod', [...PODS, 'd'])
      : this.#selector(this.#pick(KEYS), VALUES);
  }

  #nsSelector(): V1LabelSelector {
    if (this.#random() < 0.3) return {};
    return this.#random() < 0.6 ? this.#selector('ns', NAMESPACES) : this.#selector('group', VALUES);
  }

  #peers(): V1NetworkPolicyPeer[] {
    if (this.#random() < 0.25) {
      const keys = ['x/a', 'x/b', 'y/a', 'z/c'].filter(() => this.#random() < 0.5);
      return keys.flatMap((key) => this.#ground.hostsOf(key).map((cidr) => ({ ipBlock: { cidr } })));
    }
    if (this.#random() < 0.2) {
      const holes = this.#ground.hostsOf(this.#pick(['x/a', 'y/b', 'z/a']));
      return holes.map((one) => ({
        ipBlock: { cidr: one.includes('.') ? '10.0.0.0/8' : '::/0', except: [one] },
      }));
    }
    const podSelector = this.#maybe(() => this.#podSelector());
    const namespaceSelector = podSelector && this.#random() < 0.5 ? undefined : this.#nsSelector();
    return [{ ...(podSelector ? { podSelector } : {}), ...(namespaceSelector ? { namespaceSelector } : {}) }];
  }

  #port(): V1NetworkPolicyPort {
    const protocol = this.#pick(PROTOCOLS);
    const kind = this.#random();
    if (kind < 0.2) return { protocol };
    if (kind < 0.4) return { protocol, port: `serve-${this.#pick(PORTS)}-${protocol.toLowerCase()}` };
    if (kind < 0.6) return { protocol, port: 70 + this.#below(11), endPort: 80 + this.#below(3) };
    return { protocol, port: this.#pick(PORTS) };
  }

  #rule() {
    const peers = this.#maybe(() => this.#some(() => this.#peers(), 2).flat());
    const ports = this.#maybe(() => this.#some(() => this.#port(), 3));
    return { peers, ports };
  }

  #policy(namespace: string, name: string): V1NetworkPolicy {
    const policyTypes = this.#pick([['Ingress'], ['Egress'], ['Ingress', 'Egress']]);
    const rules = () => this.#some(() => this.#rule(), 3).slice(this.#below(2));
    return {
      metadata: { namespace, name },
      spec: {
        policyTypes,
        podSelector: this.#podSelector(),
        ...(policyTypes.includes('Ingress')
          ? {
              ingress: rules().map(({ peers, ports }) => ({
                ...(peers ? { _from: peers } : {}),
                ...(ports ? { ports } : {}),
              })),
            }
          : {}),
        ...(policyTypes.includes('Egress')
          ? {
              egress: rules().map(({ peers, ports }) => ({
                ...(peers ? { to: peers } : {}),
                ...(ports ? { ports } : {}),
              })),
            }
          : {}),
      },
    };
  }

  /** Makes one change; resolves when the API has it. Answers what it was. */
  async one(): Promise<string> {
    const ground = this.#ground;
    const kind = this.#random();
    if (kind < 0.5) {
      const [namespace, name] = [this.#pick(NAMESPACES), `p${this.#below(POLICIES)}`];
      const key = `${namespace}/${name}`;
      if (this.#policies.has(key) && this.#random() < 0.4) this.#policies.delete(key);
      else this.#policies.set(key, this.#policy(namespace, name));
      await ground.policies([...this.#always, ...this.#policies.values()]);
      return `policy ${key}`;
    }
    if (kind < 0.8) {
      const who = { ns: this.#pick(NAMESPACES), pod: this.#pick(PODS) };
      const labels = { [this.#pick(KEYS)]: this.#maybe(() => this.#pick(VALUES)) ?? null };
      await ground.labelPod(who, labels);
      return `labels of ${who.ns}/${who.pod}`;
    }
    if (kind < 0.92) {
      const ns = this.#pick(NAMESPACES);
      await ground.labelNamespace(ns, { group: this.#maybe(() => this.#pick(VALUES)) ?? null });
      return `labels of ${ns}`;
    }
    const key = this.#pick(EXTRA);
    const [ns, pod] = key.split('/') as [string, string];
    if (this.#extra.delete(key)) await ground.removePod({ ns, pod });
    else {
      this.#extra.add(key);
      await ground.addPods([{ ns, pod }, { labels: { pod, [this.#pick(KEYS)]: this.#pick(VALUES) } }]);
    }
    return `pod ${key}`;
  }

  below(n: number): number {
    return this.#below(n);
  }

  /** What is in force, for who looks into a failure. */
  get text(): string {
    return JSON.stringify([...this.#policies.values()]);
  }
}
