// Opens the cluster that a lab's record asks for: the embedded one, which is the default and needs nothing, or a real
// Kubernetes, whose code is loaded only then.
import type { Logger } from 'pino';
import { AGENT_NODE_FLAGS } from '../../base/node-flags.ts';
import { buildProgram, type ProgramName } from '../../base/programs.ts';
import type { Pod } from '../../kube/types.ts';
import { openKubeApi, serviceCidrsOf } from '../cluster/api/index.ts';
import { superviseController } from '../cluster/controller.ts';
import { Controllers } from '../cluster/controllers/run.ts';
import { installDefinitions, putObjects } from '../cluster/definitions.ts';
import { Cluster } from '../cluster/nodes/cluster.ts';
import { type CredentialParts, giveCredentials, keepCredentials } from '../cluster/nodes/credentials.ts';
import { podAccess } from '../cluster/nodes/pod-access.ts';
import { openSandboxJournal } from '../cluster/nodes/sandbox-journal.ts';
import type { Supervisor } from '../cluster/nodes/supervisor.ts';
import type { Fabric } from '../fabric/index.ts';
import { ROUTER } from '../fabric/names.ts';
import type { Settings } from '../shape/settings.ts';
import { podLimitOf } from '../shape/types.ts';
import { IN_LAB } from './endpoints.ts';
import { readJson } from './files.ts';
import type { ClusterSide } from './lab-cluster.ts';
import { nodeCommand, packageRoot, programsDir } from './parts.ts';
import type { LabPaths } from './paths.ts';
import { podNetwork } from './pod-network.ts';
import type { LabRecord } from './record.ts';
import { clusterStore } from './store.ts';

/** As the chart's service account. */
const CONTROLLER_USER = 'system:serviceaccount:kube-system:podway-controller';

export type SideInput = {
  paths: LabPaths;
  record: LabRecord;
  settings: Settings;
  fabric: Fabric;
  programs: { shim: string; podServer: string };
  log: Logger;
};

export const openSide = (input: SideInput): Promise<ClusterSide> =>
  input.record.shape.kubernetes ? openReal(input) : openEmbedded(input);

const built = (name: ProgramName): Promise<string> =>
  buildProgram(name, { srcRoot: packageRoot, outDir: programsDir() }).then(({ path }) => path);
const agentCommand = () => nodeCommand('agent/main', AGENT_NODE_FLAGS);
const controllerCommand = () => nodeCommand('controller/main');

async function openEmbedded({
  paths,
  record,
  settings,
  fabric,
  programs,
  log,
}: SideInput): Promise<ClusterSide> {
  const kube = await openKubeApi({
    dir: paths.root,
    names: [
      IN_LAB.kubeAddress,
      IN_LAB.kubeAddress6,
      '127.0.0.1',
      'localhost',
      'kubernetes',
      'kubernetes.default.svc',
    ],
    serviceCidrs: serviceCidrsOf(settings.families),
  });
  installDefinitions(kube.store);
  const store = clusterStore(kube);
  const access: CredentialParts = {
    server: IN_LAB.kubeEndpoint,
    ca: kube.tls.ca,
    folder: paths.pod,
    token: kube.podToken,
  };
  const credentials = (pod: Pod) => giveCredentials(access, pod);
  const kubeconfigAt = (server: string) => (node: string) =>
    kube.kubeconfig({ server, user: `system:node:${node}` });
  const cluster = new Cluster({
    lab: paths.lab,
    paths,
    store,
    credentials,
    log,
    settings,
    agentCommand: agentCommand(),
    podServer: programs.podServer,
    shim: programs.shim,
    endpoints: {
      4: { ec2: IN_LAB.ec2Endpoint, kubeconfigFor: kubeconfigAt(IN_LAB.kubeEndpoint) },
      6: {
        ec2: IN_LAB.ec2Endpoint6,
        imds: IN_LAB.imdsEndpoint6,
        kubeconfigFor: kubeconfigAt(IN_LAB.kubeEndpoint6),
      },
    },
    networkFor: podNetwork,
    podLimit: (type) => podLimitOf(type, settings),
    lives: () => fabric.lives(),
    now: Date.now,
  });
  kube.servePods(
    podAccess({
      sandboxOf: (pod) => cluster.sandboxOf(pod),
      logFile: openSandboxJournal(paths.pods).logFile,
      ttyProgram: () => built('pod-tty'),
      credentials,
      nodeNamespaces: () => new Map(cluster.nodes().map(({ name }) => [name, paths.netns(name)])),
      apiNamespace: paths.netns(ROUTER),
    }),
  );
  let controllers: Controllers | undefined;
  let kept: { close(): void } | undefined;
  let controller: Supervisor | undefined;
  /** Beside the API's and EC2's own addresses in the lab. */
  const startController = () => {
    const keys = readJson<{ accessKeyId: string; secretAccessKey: string }>(paths.keys);
    controller = superviseController({
      dir: paths.controller,
      netns: paths.netns(ROUTER),
      command: controllerCommand(),
      kubeconfig: kube.kubeconfig({ server: IN_LAB.kubeEndpoint, user: CONTROLLER_USER }),
      region: record.shape.region,
      ec2Endpoint: IN_LAB.ec2Endpoint,
      address: IN_LAB.kubeAddress,
      env: {
        ...settings.env,
        AWS_ACCESS_KEY_ID: keys?.accessKeyId ?? '',
        AWS_SECRET_ACCESS_KEY: keys?.secretAccessKey ?? '',
      },
    });
  };
  return {
    cluster,
    store,
    hostServer: () => kube.createServer(),
    inLabServer: () => kube.createServer(),
    kubeconfig: (server) => kube.kubeconfig({ server, user: 'podway-admin' }),
    begin() {
      cluster.serveInternet();
      cluster.start();
      cluster.sweepFolders();
      controllers = new Controllers({ store: kube.store, log });
      if (settings.controller === 'process') startController();
      kept = keepCredentials(access, () => store.pods().filter((pod) => cluster.sandboxOf(pod)?.process));
    },
    settled: async () => {},
    apply: () => Promise.reject(new Error('the embedded cluster takes objects by its store')),
    putObjects: async (objects) => putObjects(kube.store, objects),
    detach() {
      controllers?.close();
      kept?.close();
      controller?.detach();
      cluster.detach();
    },
    close: () => kube.close(),
  };
}

async function openReal({ paths, record, settings, fabric, programs, log }: SideInput): Promise<ClusterSide> {
  const { version, binDir } = record.shape.kubernetes!;
  const [{ openKubernetes }, { findBinaries }, pause] = await Promise.all([
    import('../kubernetes/cluster.ts'),
    import('../kubernetes/binaries.ts'),
    built('pause'),
  ]);
  return openKubernetes({
    lab: paths.lab,
    paths,
    settings,
    binaries: findBinaries({ version, ...(binDir === undefined ? {} : { dir: binDir }) }),
    port: record.ports.kube,
    programs: { ...programs, pause },
    agentCommand: agentCommand(),
    controllerCommand: controllerCommand(),
    region: record.shape.region,
    ec2Endpoint: IN_LAB.ec2Endpoint,
    podLimit: (type) => podLimitOf(type, settings),
    lives: () => fabric.lives(),
    log,
  });
}
