// Our policy cases on a real cluster: Kubernetes' own and ours by pods' addresses and through Services of kube-proxy, one of
// each id of the generated ones, ClusterNetworkPolicy's, and the first packets of pods that kubelets start. Each is a
// value; one that fails does not end the others.
import { readFileSync } from 'node:fs';
import { KubeConfig } from '@kubernetes/client-node';
import { labImage } from '../../src/lab/kubernetes/images.ts';
import type { Outcome } from '../scenarios/run.ts';
import { runCase } from '../support/policy-case.ts';
import { generatedCases } from '../support/policy-cases-c.ts';
import { connectionCases } from '../support/policy-cases-e1.ts';
import { changeCases } from '../support/policy-cases-e2.ts';
import { clusterCases } from '../support/policy-cases-k.ts';
import { ownCases } from '../support/policy-cases-x.ts';
import { ClusterPolicies } from '../support/policy-cluster.ts';
import { PODS, PORTS, PolicyGround } from '../support/policy-ground.ts';
import { PROTOCOLS } from '../support/policy-probes.ts';
import { oneOfEach } from '../support/policy-sample.ts';
import { PodServices } from '../support/policy-services.ts';
import { STARTERS_POLICY, startAll } from '../support/policy-starters.ts';
import { eventually } from '../support/wait.ts';

const SEED = 1;
const NODES = ['node-1', 'node-2'];
const AT_ONCE = 20;

type Named = {
  readonly name: string;
  readonly run: () => Promise<void>;
  /** What later ones stand on: it runs also when only some are asked for. */
  readonly isStep?: true;
};
type World = { ground: PolicyGround; cluster: ClusterPolicies; services: PodServices };

function casesOf({ ground, cluster, services }: World, starters: number): Named[] {
  const kubernetes = [...connectionCases, ...changeCases];
  const caseOf =
    (suffix: string) =>
    (one: (typeof kubernetes)[number]): Named => ({
      name: `${one.id} ${one.title}${suffix}`,
      run: () => runCase(ground, one),
    });
  return [
    ...[...kubernetes, ...ownCases.filter(({ embedded }) => !embedded)].map(caseOf('')),
    ...oneOfEach(generatedCases, SEED).map(caseOf('')),
    {
      name: `X01 X02 first packets of ${starters} pods: none arrives that may not, no reply is lost`,
      run: async () => {
        await ground.policies([STARTERS_POLICY]);
        await ground.expect('in force', PROTOCOLS, PORTS);
        await startAll(ground, {
          ...{ count: starters, atOnce: AT_ONCE, nodes: NODES },
          container: (forbidden, allowed) => {
            const ask = (address: string) => `/agnhost connect --timeout=3s ${address}:80`;
            return {
              name: 'c',
              image: labImage('agnhost'),
              imagePullPolicy: 'Never',
              command: ['sh', '-c', `${ask(forbidden)} & ${ask(allowed)}; wait; exec sleep 1000`],
            };
          },
        });
      },
    },
    {
      isStep: true,
      name: 'each pod answers by its Service',
      run: async () => {
        await ground.policies([]);
        await services.ofAll();
        ground.via = services.of;
        await eventually(
          'answers',
          async () => (await ground.differences(PROTOCOLS, PORTS, () => true)).length === 0,
        );
      },
    },
    ...kubernetes.map(caseOf(', through Services')),
    {
      isStep: true,
      name: 'ClusterNetworkPolicy is defined',
      run: async () => {
        ground.via = null;
        await ground.policies([]);
        await ground.addNamespace('w');
        await ground.addPods(...PODS.map((pod) => [{ ns: 'w', pod }] as const));
        await cluster.define();
      },
    },
    ...oneOfEach(clusterCases, SEED).map((one) => ({
      name: `${one.id} ${one.title}`,
      run: () => cluster.run(one),
    })),
  ];
}

/** In their order. */
export function policyCaseNames(starters: number): string[] {
  return casesOf({} as World, starters).map(({ name }) => name);
}

/** `starters`: pods whose first packet is judged. `isAsked`: of a case's name. */
export async function runPolicyCases(
  { lab, kubeconfig }: { lab: string; kubeconfig: string },
  starters: number,
  isAsked: (name: string) => boolean,
): Promise<Outcome[]> {
  const site = {
    name: lab,
    kubeconfig: async () => kubeconfig,
    kube: async () => {
      const config = new KubeConfig();
      config.loadFromString(readFileSync(kubeconfig, 'utf8'));
      return config;
    },
  };
  const ground = new PolicyGround(site);
  const world = { ground, cluster: new ClusterPolicies(ground), services: new PodServices(ground) };
  const { cluster } = world;
  const outcomes: Outcome[] = [];
  await ground.start();
  try {
    for (const { name, run } of casesOf(world, starters).filter((one) => one.isStep || isAsked(one.name))) {
      const began = performance.now();
      const failure = await run().then(
        () => undefined,
        (error: Error) => error,
      );
      const seconds = (performance.now() - began) / 1000;
      const message = failure?.message.split('\n').slice(0, 3).join(' | ');
      outcomes.push({ name, state: failure ? 'failed' : 'passed', seconds, ...(message ? { message } : {}) });
      console.log(`  ${failure ? 'FAILED' : 'ok'} ${seconds.toFixed(1)} s: ${name}`);
      if (failure) console.log(`    ${failure.message.replaceAll('\n', '\n    ')}`);
    }
  } finally {
    await cluster.policies([]).catch(() => undefined);
    for (const ns of ['x', 'y', 'z', 'w'])
      await ground.core.deleteNamespace({ name: ns }).catch(() => undefined);
    ground.close();
  }
  return outcomes;
}
