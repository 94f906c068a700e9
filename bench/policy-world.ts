// The world that the benchmarks of policy share: 10,000 pods (200 here), 1,000 policies in 100 namespaces.
import type { Nft } from '../src/kernel/nftables.ts';
import { decodeNetworkPolicy } from '../src/policy/decode.ts';
import type { PodView, Policy } from '../src/policy/model.ts';
import { podView } from '../src/policy/objects.ts';

export const PODS = 10_000;
export const HERE = 200;
export const POLICIES = 1_000;
const NAMESPACES = 100;
const APPS = 500;

/** As the API has it. */
export const podObject = (at: number, app = at % APPS) => ({
  metadata: {
    ...{ namespace: `ns${at % NAMESPACES}`, name: `p${at}`, uid: `${at}` },
    labels: { app: `app${app}`, 'pod-template-hash': `h${app}` },
  },
  spec: {
    nodeName: at < HERE ? 'here' : 'there',
    containers: [{ name: 'c', ports: [{ name: 'web', containerPort: 8080 }] }],
  },
  status: { phase: 'Running' as const, podIP: `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}` },
});

export const podOf = (at: number, app?: number): PodView => podView(podObject(at, app));

const app = (n: number) => ({ podSelector: { matchLabels: { app: `app${n % APPS}` } } });

export const policyObject = (at: number) => ({
  metadata: { namespace: `ns${at % NAMESPACES}`, name: `policy${at}` },
  spec: {
    ...app(at),
    policyTypes: ['Ingress', 'Egress'],
    ingress: [
      {
        from: [app(at * 7), { namespaceSelector: { matchLabels: { team: `t${at % 10}` } } }],
        ports: [{ port: 8080 }],
      },
    ],
    egress: [
      { ports: [{ port: 53, protocol: 'UDP' }] },
      { to: [{ ipBlock: { cidr: '0.0.0.0/0', except: ['10.0.0.0/8'] } }] },
    ],
  },
});

const policy = (at: number): Policy => decodeNetworkPolicy(policyObject(at)).policy!;

export const policies = () =>
  new Map(Array.from({ length: POLICIES }, (_, at) => [`${at}`, policy(at)] as const));
export const namespaces = new Map(
  Array.from({ length: NAMESPACES }, (_, at) => [`ns${at}`, { team: `t${at % 10}` }] as const),
);

export async function addForeignChains(nft: Nft, count: number): Promise<void> {
  const chains = Array.from({ length: count }, (_, at) => `  chain c${at} { ip daddr 10.0.0.1 accept; }`);
  await nft.run(`table ip foreign {\n${chains.join('\n')}\n}\n`);
}
