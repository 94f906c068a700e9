// What the benchmarks of branches share: a lab in which pods with the label app=NAME get branches with the security
// group NAME, and pods made by the API, bound as they are made.
import { setTimeout as sleep } from 'node:timers/promises';
import {
  asksForBranch,
  KubeClient,
  nodes,
  POD_ENI,
  type Pod,
  pods,
  readKubeConfig,
} from '../src/kube/index.ts';
import { BUILT_IN_IMAGE } from '../src/lab/cluster/command.ts';
import type { LabStatus } from '../src/lab/daemon/protocol.ts';
import { podway, twoSubnetsOf } from './run.ts';

const READY_MS = 180_000;

/** lab.yaml of `twoSubnetsOf`, with groups `nodes` and `branch`, and a policy for pods app=branch. */
export const branchShape = (instances: readonly string[], settings: string): string => `
${twoSubnetsOf(['nodes', 'branch'], instances)}
securityGroupPolicies:
  - { name: branch, podLabels: { app: branch }, securityGroups: [branch] }
settings: ${settings}
`;

export class BranchLab {
  readonly name: string;
  readonly api: KubeClient;
  readonly status: LabStatus;

  constructor(name: string, api: KubeClient, status: LabStatus) {
    this.name = name;
    this.api = api;
    this.status = status;
  }

  /** Of a lab that is up; resolves when each node takes branches and the API asks the webhooks. */
  static async open(name: string): Promise<BranchLab> {
    const status = JSON.parse(podway('lab', 'status', '--lab', name, '-o', 'json')) as LabStatus;
    const api = new KubeClient(await readKubeConfig(status.kubeconfig));
    const lab = new BranchLab(name, api, status);
    const end = performance.now() + READY_MS;
    for (let at = 0; ; at++) {
      if (performance.now() > end)
        throw new Error(`the nodes of ${name} take no branches after ${READY_MS / 1000} s`);
      await sleep(500);
      const offers = (await api.list(nodes)).items.map(({ status: of }) =>
        Number(of?.allocatable?.[POD_ENI]),
      );
      if (!offers.every((count) => count > 0)) continue;
      const tried = await lab.make(`try-${at}`, 'branch', status.nodes[0]!.name);
      const isSeen = asksForBranch(tried);
      if (isSeen) await lab.running([tried.metadata.name!]);
      await api.delete(pods, tried.metadata.name!, 'default', { gracePeriodSeconds: 0 });
      if (isSeen) return lab;
    }
  }

  /** A pod bound to the node, as the API answered. */
  make(name: string, app: string, nodeName: string): Promise<Pod> {
    const container = {
      ...{ name: 'main', image: BUILT_IN_IMAGE, imagePullPolicy: 'Never', args: ['--name', name] },
      ports: [{ containerPort: 8080 }],
    };
    return this.api.create(pods, {
      metadata: { name, namespace: 'default', labels: { app } },
      spec: { nodeName, terminationGracePeriodSeconds: 0, containers: [container] },
    });
  }

  async running(names: readonly string[]): Promise<void> {
    const end = performance.now() + READY_MS;
    for (;;) {
      const { items } = await this.api.list(pods, { namespace: 'default' });
      const late = names.find(
        (name) =>
          !items.some(({ metadata, status }) => metadata.name === name && status?.phase === 'Running'),
      );
      if (late === undefined) return;
      if (performance.now() > end) throw new Error(`pod ${late} does not run after ${READY_MS / 1000} s`);
      await sleep(200);
    }
  }

  close(): void {
    this.api.close();
  }
}
