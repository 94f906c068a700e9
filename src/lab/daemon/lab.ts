// One lab, opened: the VPC's service, the Kubernetes API, the fabric and the cluster, wired together, with their
// endpoints. Opening is the same at the first start and after a kill -9: every part reads what it left and converges.
import type { Logger } from 'pino';
import { AGENT_NODE_FLAGS } from '../../base/node-flags.ts';
import { buildProgram, type ProgramName } from '../../base/programs.ts';
import { type KubeApi, openKubeApi } from '../cluster/api/index.ts';
import { Controllers } from '../cluster/controllers/run.ts';
import { installDefinitions, putEniConfigs } from '../cluster/definitions.ts';
import { Cluster } from '../cluster/nodes/cluster.ts';
import { podAccess } from '../cluster/nodes/pod-access.ts';
import { openSandboxJournal } from '../cluster/nodes/sandbox-journal.ts';
import type { ClusterStore } from '../cluster/nodes/store.ts';
import { createFabric, type Fabric } from '../fabric/index.ts';
import { type Act, buildShape } from '../shape/build.ts';
import { eniConfigObjects } from '../shape/eni-configs.ts';
import { readSettings } from '../shape/settings.ts';
import { podLimitOf } from '../shape/types.ts';
import { openVpc, type VpcService } from '../vpc/index.ts';
import { coalesced } from './coalesce.ts';
import { Endpoints, IN_LAB } from './endpoints.ts';
import { writeFileAtomic } from './files.ts';
import { nodeCommand, packageRoot, programsDir } from './parts.ts';
import type { LabPaths } from './paths.ts';
import { podNetwork } from './pod-network.ts';
import type { LabRecord } from './record.ts';
import { clusterStore } from './store.ts';

export type OpenLab = {
  record: LabRecord;
  vpc: VpcService;
  kube: KubeApi;
  fabric: Fabric;
  cluster: Cluster;
  store: ClusterStore;
  programs: { shim: string; podServer: string; probe: string };
  /** Brings the VPC to the record's shape, keeping what is there. */
  build(progress: (text: string) => void): Promise<void>;
  /** Resolves when fabric and nodes are as the VPC is now. */
  followed(): Promise<void>;
  /** Closes everything of this process; nodes, pods and packets go on. */
  close(): Promise<void>;
};

export async function openLab(paths: LabPaths, record: LabRecord, log: Logger): Promise<OpenLab> {
  const settings = readSettings(record.shape.settings);
  const build = (name: ProgramName) =>
    buildProgram(name, { srcRoot: packageRoot, outDir: programsDir() }).then((built) => built.path);
  const [shim, podServer, probe, vpc, kube] = await Promise.all([
    build('podway-cni'),
    build('pod-server'),
    build('pod-probe'),
    openVpc({
      dir: paths.root,
      region: record.shape.region,
      zones: record.shape.zones,
      typeOverrides: record.shape.instanceTypes ?? {},
      settings: {
        ec2Latency: settings.ec2Latency,
        ec2Throttle: settings.ec2Throttle,
        ec2ConsistencyMs: settings.ec2ConsistencyMs,
        imdsLag: settings.imdsLag,
        ec2Seed: settings.ec2Seed,
      },
      log,
    }),
    openKubeApi({
      dir: paths.root,
      names: [IN_LAB.kubeAddress, '127.0.0.1', 'localhost', 'kubernetes', 'kubernetes.default.svc'],
    }),
  ]);
  installDefinitions(kube.store);
  vpc.faults.once('lab.yaml', () => {
    for (const fault of record.shape.faults ?? []) vpc.faults.add(fault);
    for (const { action, ...size } of record.shape.throttle ?? []) vpc.faults.setSize(action, size);
  });
  const fabric = createFabric({ lab: paths.lab, dir: paths.root, log });
  const store = clusterStore(kube);
  const cluster = new Cluster({
    lab: paths.lab,
    paths,
    store,
    log,
    settings,
    agentCommand: nodeCommand('agent/main', AGENT_NODE_FLAGS),
    podServer,
    shim,
    ec2Endpoint: IN_LAB.ec2Endpoint,
    kubeconfigFor: (node) => kube.kubeconfig({ server: IN_LAB.kubeEndpoint, user: `system:node:${node}` }),
    networkFor: podNetwork,
    podLimit: (type) => podLimitOf(type, settings),
    lives: () => fabric.lives(),
    now: Date.now,
  });
  kube.servePods(
    podAccess({
      sandboxOf: (pod) => cluster.sandboxOf(pod),
      logFile: openSandboxJournal(paths.pods).logFile,
      ttyProgram: () => build('pod-tty'),
    }),
  );
  let listening = false;
  const follow = coalesced(async () => {
    const state = vpc.state();
    await cluster.leave(state);
    await fabric.apply(state);
    // Agents are started after the servers that they ask.
    if (listening) await cluster.settle(state);
  });
  // Before anybody can call: agents that outlived the last daemon ask as soon as it listens.
  vpc.onChange(follow);
  await follow();

  const endpoints = new Endpoints({ vpc, kube, fabric, ports: record.ports, log });
  await endpoints.open();
  writeFileAtomic(
    paths.kubeconfig,
    kube.kubeconfig({ server: `https://127.0.0.1:${record.ports.kube}`, user: 'podway-admin' }),
  );
  listening = true;
  await follow();
  cluster.serve('internet');
  cluster.start();
  cluster.sweepFolders();
  const controllers = new Controllers({ store: kube.store, log });

  const act: Act = (action, input) =>
    vpc.act(action as never, input as never) as Promise<Record<string, unknown>>;
  return {
    record,
    vpc,
    kube,
    fabric,
    cluster,
    store,
    programs: { shim, podServer, probe },
    build: async (progress) => {
      await buildShape(record.shape, { act, state: () => vpc.state(), progress });
      putEniConfigs(kube.store, eniConfigObjects(record.shape, vpc.state()));
    },
    followed: follow,
    async close() {
      controllers.close();
      cluster.detach();
      await endpoints.close();
      await kube.close();
      vpc.close();
      await fabric.close();
    },
  };
}
