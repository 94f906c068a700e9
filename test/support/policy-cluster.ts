// ClusterNetworkPolicies of a test: their definition, as a user brings it, and exactly those that a step names.
import { setTimeout as sleep } from 'node:timers/promises';
import { customResourceDefinitions } from '../../src/kube/index.ts';
import { clusterNetworkPolicies } from '../../src/kube/resources.ts';
import type { ClusterCase } from './policy-cases-k.ts';
import { PORTS, type PolicyGround } from './policy-ground.ts';
import { expectToNodes } from './policy-nodes.ts';
import type { ClusterPolicy } from './policy-oracle.ts';
import { PROTOCOLS } from './policy-probes.ts';
import { eventually } from './wait.ts';

const free = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
const definition = {
  metadata: {
    name: 'clusternetworkpolicies.policy.networking.k8s.io',
    annotations: { 'api-approved.kubernetes.io': 'https://github.com/kubernetes-sigs/network-policy-api' },
  },
  spec: {
    group: 'policy.networking.k8s.io',
    scope: 'Cluster',
    names: {
      ...{ plural: 'clusternetworkpolicies', singular: 'clusternetworkpolicy' },
      ...{ kind: 'ClusterNetworkPolicy', listKind: 'ClusterNetworkPolicyList', shortNames: ['cnp'] },
    },
    versions: [
      {
        ...{ name: 'v1alpha2', served: true, storage: true, subresources: { status: {} } },
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: free, status: free } } },
      },
    ],
  },
};
const kind = clusterNetworkPolicies.find(({ version }) => version === 'v1alpha2')!;
/** Most changes are in force after this; the others are looked at again. */
const SETTLES_MS = 60;

type AnyPolicy = { metadata: { name: string }; spec: object };

export class ClusterPolicies {
  readonly #ground: PolicyGround;
  readonly #made = new Set<string>();

  constructor(ground: PolicyGround) {
    this.#ground = ground;
  }

  async define(): Promise<void> {
    const { client } = this.#ground;
    await client.create(customResourceDefinitions, definition);
    await eventually('the kind is served', () =>
      client.list(kind).then(
        () => true,
        () => false,
      ),
    );
  }

  /** Exactly these; of any shape, and then it is the test that knows what they say. */
  async apply(...wanted: readonly AnyPolicy[]): Promise<void> {
    const { client } = this.#ground;
    const names = new Set(wanted.map(({ metadata }) => metadata.name));
    for (const name of this.#made)
      if (!names.has(name)) {
        await client.delete(kind, name);
        this.#made.delete(name);
      }
    for (const { metadata, spec } of wanted) {
      const { name } = metadata;
      if (this.#made.has(name))
        await client.patch(kind, name, undefined, { spec: { ingress: null, egress: null, ...spec } });
      else await client.create(kind, { metadata, spec } as never);
      this.#made.add(name);
    }
  }

  /** The same, and the ground judges by them. */
  async policies(wanted: readonly ClusterPolicy[]): Promise<void> {
    await this.apply(...wanted);
    this.#ground.cluster = wanted;
  }

  /** Brings the ground through the steps; throws with the pairs that do otherwise. */
  async run({ id, steps, after }: ClusterCase): Promise<void> {
    const ground = this.#ground;
    for (const { cluster, policies = [], before, allow, toNodes } of steps) {
      await ground.policies(policies);
      await this.policies(cluster(ground));
      await before?.(ground);
      await sleep(SETTLES_MS);
      await ground.expect(id, PROTOCOLS, PORTS, allow);
      if (toNodes) await expectToNodes(ground, { what: id, ns: 'x', may: toNodes });
    }
    await after?.(ground);
  }
}
