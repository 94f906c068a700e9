// Starts the node from the opened parts: the instance's identity, its pool, its desired kernel state, its attachments.
// Order: take over the pods' links in the kernel, serve queued DELs, repair the kernel, then serve all calls.
// Invariant: with a journal the node serves before EC2 or the Kubernetes API answers; without one it waits for IMDS.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { formatIp, type Ip } from '../base/ip.ts';
import type { Log } from '../base/log.ts';
import type { Imds, NodeIdentity } from '../cloud/imds.ts';
import { loadLimits } from '../cloud/limits.ts';
import type { Cloud } from '../cloud/port.ts';
import { readEnvironment } from '../ipam/config/incumbent-env.ts';
import type { AddressNews } from '../ipam/ec2/restore.ts';
import { TAG_CLUSTER, TAG_NODE } from '../ipam/ec2/tags.ts';
import { replayRecords } from '../ipam/journal/records.ts';
import { AddressPool } from '../ipam/pool.ts';
import type { Lease } from '../ipam/state.ts';
import { tellAdoption } from './adoption.ts';
import { Attachments } from './attachments.ts';
import type { BranchGates } from './branch-gates.ts';
import { BranchPods } from './branch-pods.ts';
import { tellReach } from './cloud-reach.ts';
import { Configuration } from './configuration.ts';
import { DelQueue } from './del-queue.ts';
import { kernelView, linkOf } from './links.ts';
import { LostLinks } from './lost-links.ts';
import { NodeState } from './node-state.ts';
import type { Parts } from './parts.ts';
import { PodConditions } from './pod-condition.ts';
import { Policies } from './policies.ts';
import { Quarantine } from './quarantine.ts';
import { Rehearsal } from './rehearsal.ts';
import { Repair } from './repair.ts';
import { takeBranch } from './told-branches.ts';
import { trunkReady } from './trunk-ready.ts';

const MAX_IDENTITY_PAUSE_MS = 5_000;
/** Rounds of the rehearsal that run while the kernel is compared with the desired state. */
const FIRST_ROUNDS = 2;

/** A node whose pool, kernel and attachments are known. */
export type Serving = {
  identity: NodeIdentity;
  cloud: Cloud;
  pool: AddressPool;
  configuration: Configuration;
  node: NodeState;
  branches: BranchPods;
  /** What arrives on the node for pods with branches: nothing may until `of` has been asked first, and then is set. */
  gates: Pick<BranchGates, 'of'> & { readonly firstAsked: Promise<void> };
  attachments: Attachments;
  policies: Policies;
  repair: Repair;
  quarantine: Quarantine;
  rehearsal: Rehearsal | null;
};

/** The identity from the journal, else from IMDS; waits for IMDS without a limit. */
async function learnIdentity(
  known: NodeIdentity | null,
  imds: Imds,
  log: Log,
  signal: AbortSignal,
): Promise<NodeIdentity> {
  for (let pause = 100; known === null; pause = Math.min(pause * 2, MAX_IDENTITY_PAUSE_MS)) {
    try {
      return await imds.identity(signal);
    } catch (error) {
      signal.throwIfAborted();
      log.warn({ error: (error as Error).message }, 'IMDS does not say who this instance is; asking again');
      await systemClock.sleep(pause, signal);
    }
  }
  return known;
}

/** Null where no API is configured. */
function podConditions({ api, log }: Parts): PodConditions | null {
  return api.isConfigured ? new PodConditions(api.connect, log) : null;
}

/** Reports what EC2 did to an address that a pod holds: log, Event and the pod's condition. */
function tellOfAddress({ tell }: Parts, conditions: PodConditions | null, news: AddressNews): void {
  const { pod } = news.lease.owner;
  const ip = formatIp(news.ip);
  const isTaken = news.kind === 'taken';
  const text = isTaken ? `the pod has no network: its address ${ip} is taken: ${news.text}` : news.text;
  tell({ kind: news.kind, object: ip, text, ...(pod ? { pod } : {}) });
  const reason = isTaken ? 'AddressTaken' : 'AddressAssigned';
  if (pod) conditions?.say(pod, { assigned: !isTaken, reason, message: `${ip}: ${news.text}` });
}

/** Resolves when ADD can be served from the journal, or from nothing on a first start. */
export async function startNode(parts: Parts, signal: AbortSignal): Promise<Serving> {
  const { config, log, journal, datapath, imds, netns, faults } = parts;
  const reading = readEnvironment(process.env);
  if (reading.warnings.length > 0) log.warn({ variables: reading.warnings }, 'variables of the AWS VPC CNI');
  const settings = { ...config.settings, ...reading.network };
  const known = replayRecords(journal.replay.records, systemClock.now()).identity;
  const identity = await learnIdentity(known, imds, log, signal);
  const cloud = parts.cloudFor(config.region ?? identity.region, identity.domain);
  const limits = await loadLimits(identity.instanceType, cloud, signal);
  const conditions = podConditions(parts);
  const poolSettings = {
    ...(settings.warm === undefined ? {} : { warm: settings.warm }),
    ...(settings.idleReleaseMs === undefined ? {} : { idleReleaseMs: settings.idleReleaseMs }),
    families: settings.families,
    primaryFamily: settings.primaryFamily,
    egress4: settings.egress4,
    addressing: settings.addressing,
    cooldownMs: settings.cooldownMs,
  };
  const pool = new AddressPool({
    cloud,
    metadata: imds,
    journal,
    identity,
    limits,
    nodeName: config.nodeName,
    log,
    settings: {
      ...poolSettings,
      beforeReuse: (ip) => datapath.forgetAddress(ip),
      addressesOnLinks: () => node.addressesOnLinks(),
      ifnameOf: (eni) => node.ifnameOf(eni.mac),
    },
    onNews: (news) => tellOfAddress(parts, conditions, news),
    onReach: tellReach(parts, signal),
    kernel: kernelView(datapath.standing()),
    linkOf,
    tags: {
      ...reading.pool.eniTags,
      [TAG_NODE]: config.nodeName,
      ...(config.cluster ? { [TAG_CLUSTER]: config.cluster } : {}),
    },
    ...(faults ? { onBoundary: faults.boundary } : {}),
  });
  // Frees the records, half a MB for a full journal: the pool's state holds them now.
  journal.replay.records.length = 0;
  journal.replay.lost.length = 0;
  if (pool.adoption) tellAdoption(parts, pool.adoption);
  const configuration = new Configuration({
    own: {
      zone: identity.zone,
      subnetId: identity.primary.subnetId,
      lacksIpv6: !existsSync('/proc/sys/net/ipv6'),
      isSixOnly: typeof identity.primary.ip !== 'number',
      settings: poolSettings,
      environment: { ...reading.pool, clusterName: reading.pool.clusterName ?? config.cluster ?? null },
    },
    identity,
    pool,
    file: join(config.runDir, 'configuration.json'),
    log,
    onEgress: () => repair.now(),
    onNodeLocal: () => repair.now(),
    onEnforcement: () => policies.configure(),
    events: parts.events,
  });
  const { api, tell } = parts;
  const policies = new Policies({
    ...{ config, api, log, netns, tell },
    settings: () => {
      const { policy, policyTimeout, flowLog } = configuration.current.enforcement;
      return {
        policy: policy ?? settings.policy,
        policyTimeout: policyTimeout ?? settings.policyTimeout,
        flowLog: flowLog ?? settings.flowLog,
      };
    },
    cooldownMs: () => pool.cooldownMs,
    held: () => pool.held().flatMap(({ owner: { pod }, ips }) => (pod ? [{ pod, ips }] : [])),
    onEnforce: async () => {
      await node.sync();
    },
  });
  const firstAsked = Promise.withResolvers<void>();
  const gates: Serving['gates'] = { firstAsked: firstAsked.promise, of: () => void firstAsked.resolve() };
  const node = new NodeState({
    pool,
    imds,
    datapath,
    netns,
    settings,
    file: join(config.runDir, 'vpc.json'),
    log,
    tell: parts.tell,
    judged: () => policies.judged,
    gateOf: (eniId) => gates.of(eniId),
    nodeLocal: () => configuration.current.nodeLocalAddresses,
  });
  if (!node.knowsVpc) await node.learnVpc(signal);
  // From here on files and the kernel are watched.
  signal.throwIfAborted();
  pool.onEniChange(async () => {
    await node.sync();
  });
  const branches = new BranchPods({
    onTold: (pod, branch) => {
      try {
        if (!takeBranch(pool, pod, branch)) return;
        log.info({ pod, branch: branch.ref.id, vlan: branch.ref.vlan }, 'the pod has this branch now');
        // Somebody took it away, and it is back: as another interface, or on another trunk. The kernel's own looks come
        // later.
        pool.seekTrunk(true);
        void repair.now();
      } catch (error) {
        log.warn(
          { pod, error: (error as Error).message },
          'the branch of a pod that runs was not written down',
        );
      }
    },
    mode: settings.podSecurityGroupEnforcingMode,
    isLikely: () => configuration.wantsTrunk,
  });
  const attachments = new Attachments({
    pool,
    datapath,
    ownNetns: netns,
    policies,
    ...(api.isConfigured
      ? {
          branches: {
            of: (pod: { namespace: string; name: string }, signal: AbortSignal) =>
              branches.of(`${pod.namespace}/${pod.name}`, signal),
            concerns: ({ namespace, name }: { namespace: string; name: string }) =>
              branches.concerns(namespace, name),
            trunk: (signal: AbortSignal) => trunkReady(pool, (mac) => node.hasLink(mac), signal),
            make: (lease: Lease) => node.makeBranch(lease),
            join: (lease: Lease) => node.joinBranch(lease),
            drop: (lease: Lease) => node.dropBranch(lease),
            forget: (ip: Ip) => datapath.forgetAddress(ip),
          },
        }
      : {}),
    defaultMtu: () => settings.podMtu ?? node.mtu,
  });
  parts.whose.pod = (ip) => pool.held().find((lease) => lease.ips.includes(ip))?.owner.pod;
  const mayRepair = settings.repair === 'enforce';
  const lostLinks = new LostLinks({
    ...{ pool, datapath, attachments, log, mayRepair },
    tell: parts.tell,
    now: () => systemClock.now(),
  });
  const onStrangeLink = () => {
    if (pool.awaitsTrunk) pool.seekTrunk();
  };
  const repair = new Repair({ node, datapath, lostLinks, log, tell: parts.tell, onStrangeLink }, signal);
  const quarantine = new Quarantine({
    pool,
    datapath,
    api: parts.api,
    log,
    onQuarantine: (ip, reason) => {
      log.warn({ ip, reason }, 'quarantined an address');
      parts.events.node('Warning', 'AddressQuarantined', `${ip} is not given out: ${reason}`);
    },
  });
  await startQueue(parts, pool, attachments, signal);
  const told = pool.enis();
  const repaired = told.length > 0 ? repair.now() : undefined;
  // The main thread is free while the kernel is read.
  const rehearsal = await Rehearsal.open(config.runDir, netns, cloud, log);
  await rehearsal?.play(FIRST_ROUNDS);
  await repaired;
  // After a lost journal nothing was synced yet: the pool's setup tells of each ENI once EC2 has listed them.
  if (repair.broken === null && !pool.unsure) pool.noteTold(told);
  return {
    identity,
    cloud,
    pool,
    configuration,
    node,
    branches,
    gates,
    attachments,
    policies,
    repair,
    quarantine,
    rehearsal,
  };
}

/** Serves the DELs that came while no agent answered, then those that come the same way later. */
function startQueue(
  { config, log, metrics }: Parts,
  pool: AddressPool,
  attachments: Attachments,
  signal: AbortSignal,
): Promise<void> {
  const queue = new DelQueue({
    dir: join(config.runDir, 'queue'),
    heldSince: (del) => pool.findByContainer(del.containerId, del.ifname)[0]?.at ?? null,
    del: (del) => attachments.del(del),
    onError: (entry, error) =>
      log.error({ entry, error: (error as Error).message }, 'a queued DEL could not be served'),
    onLength: (entries) => metrics.queue.set(entries),
  });
  return queue.start(signal);
}
