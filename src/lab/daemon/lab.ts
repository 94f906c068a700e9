// One lab, opened: the VPC's service, the fabric and the cluster with its API (the embedded one, or a real Kubernetes),
// wired together, with their endpoints. Opening is the same at the first start and after a kill -9: every part reads what
// it left and converges.
import type { Logger } from 'pino';
import { writeFileAtomic } from '../../base/files.ts';
import { buildProgram, type ProgramName } from '../../base/programs.ts';
import type { ClusterStore } from '../cluster/nodes/store.ts';
import { createFabric, type Fabric } from '../fabric/index.ts';
import { resolvConf } from '../resolver/names.ts';
import { type Act, buildShape } from '../shape/build.ts';
import { eniConfigObjects } from '../shape/eni-configs.ts';
import { groupPolicyObjects } from '../shape/group-policies.ts';
import { settingsOf } from '../shape/shape.ts';
import { openVpc, type VpcService } from '../vpc/index.ts';
import { coalesced } from './coalesce.ts';
import { Endpoints } from './endpoints.ts';
import type { ClusterSide, LabCluster } from './lab-cluster.ts';
import { packageRoot, programsDir } from './parts.ts';
import type { LabPaths } from './paths.ts';
import type { LabRecord } from './record.ts';
import { openSide } from './sides.ts';
import { Translators } from './translators.ts';

export type OpenLab = {
  record: LabRecord;
  vpc: VpcService;
  fabric: Fabric;
  cluster: LabCluster;
  store: ClusterStore;
  programs: { shim: string; podServer: string; probe: string };
  /** Brings the VPC to the record's shape, keeping what is there. */
  build(progress: (text: string) => void): Promise<void>;
  /** Resolves when fabric and nodes are as the VPC is now. */
  followed(): Promise<void>;
  /** Resolves when the cluster has what it needs beside its nodes. */
  settled: ClusterSide['settled'];
  apply: ClusterSide['apply'];
  /** Closes everything of this process; nodes, pods and packets go on. */
  close(): Promise<void>;
};

export async function openLab(paths: LabPaths, record: LabRecord, log: Logger): Promise<OpenLab> {
  const settings = settingsOf(record.shape);
  const build = (name: ProgramName) =>
    buildProgram(name, { srcRoot: packageRoot, outDir: programsDir() }).then((built) => built.path);
  const fabric = createFabric({ lab: paths.lab, dir: paths.root, log });
  const programs = Promise.all([build('podway-cni'), build('pod-server'), build('pod-probe')]).then(
    ([shim, podServer, probe]) => ({ shim, podServer, probe }),
  );
  const [{ shim, podServer, probe }, vpc, side] = await Promise.all([
    programs,
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
    programs.then((built) => openSide({ paths, record, settings, fabric, log, programs: built })),
  ]);
  vpc.faults.once('lab.yaml', () => {
    for (const fault of record.shape.faults ?? []) vpc.faults.add(fault);
    for (const { action, ...size } of record.shape.throttle ?? []) vpc.faults.setSize(action, size);
  });
  const { cluster, store } = side;
  let listening = false;
  const endpoints = new Endpoints({ vpc, kube: side, fabric, ports: record.ports, log });
  const translators = new Translators(paths, () => build('nat64'));
  const follow = coalesced(async () => {
    const state = vpc.state();
    await cluster.leave(state);
    await translators.leave(state);
    await fabric.apply(state);
    await translators.settle(state, (where) => fabric.lives().has(where));
    if (listening) await endpoints.openIpv6();
    if (listening) await endpoints.openResolver();
    // Agents are started after the servers that they ask.
    if (listening) await cluster.settle(state);
  });
  // Before anybody can call: agents that outlived the last daemon ask as soon as it listens.
  vpc.onChange(follow);
  await follow();

  await endpoints.open();
  writeFileAtomic(paths.kubeconfig, side.kubeconfig(`https://127.0.0.1:${record.ports.kube}`));
  writeFileAtomic(paths.resolvConf, resolvConf(settings.families));
  listening = true;
  await follow();
  side.begin();

  const act: Act = (action, input) =>
    vpc.act(action as never, input as never) as Promise<Record<string, unknown>>;
  return {
    record,
    vpc,
    fabric,
    cluster,
    store,
    programs: { shim, podServer, probe },
    build: async (progress) => {
      await buildShape(record.shape, { act, state: () => vpc.state(), progress });
      const { shape } = record;
      const state = vpc.state();
      await side.putObjects([...eniConfigObjects(shape, state), ...groupPolicyObjects(shape, state)]);
    },
    followed: follow,
    settled: side.settled,
    apply: side.apply,
    async close() {
      side.detach();
      translators.detach();
      await endpoints.close();
      await side.close();
      vpc.close();
      await fabric.close();
    },
  };
}
