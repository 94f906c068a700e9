// The composition of a node's agent: journal, pool, datapath, the plugin's socket, introspection, and the loop that puts
// right what others changed. Invariant: the sockets answer from the first moment; ADD is served from the journal before
// EC2 or the Kubernetes API answer; stopping changes nothing in the kernel. At rest nothing is logged.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { systemClock } from '../base/clock.ts';
import { asPodwayError, PodwayError } from '../base/errors.ts';
import { Journal } from '../base/journal.ts';
import { defaultCredentials } from '../cloud/credentials.ts';
import { createEc2Cloud } from '../cloud/ec2.ts';
import { createImds, type Imds, type NodeIdentity } from '../cloud/imds.ts';
import { loadLimits } from '../cloud/limits.ts';
import { createDatapath } from '../datapath/datapath.ts';
import type { Log } from '../ipam/core.ts';
import { AddressPool } from '../ipam/pool.ts';
import { type PoolRecord, replayRecords } from '../ipam/records.ts';
import { shareArenas, trimMalloc } from '../kernel/malloc.ts';
import { currentNetns } from '../kernel/netns.ts';
import { Attachments } from './attachments.ts';
import { createCniHandler } from './cni-handler.ts';
import { serveCni } from './cni-server.ts';
import { compareViews, lastingDifferences } from './compare.ts';
import type { AgentConfig } from './config.ts';
import { DelQueue } from './del-queue.ts';
import { openFaults } from './faults.ts';
import { json, plain, type Routes, serveTcp, serveUnix } from './http.ts';
import { createMetrics } from './metrics.ts';
import { NodeState } from './node-state.ts';

const MAX_IDENTITY_PAUSE_MS = 5_000;
/** How often the kernel is compared with what should be there when nothing says that it changed. */
const REPAIR_INTERVAL_MS = 30_000;
/** How long ADD, DEL, CHECK and GC wait for an agent that has just started. */
const START_WAIT_MS = 5_000;
/** Between the two looks of a comparison that found something: longer than a pod's ADD or an EC2 call takes. */
const RECHECK_MS = 500;
/** Between the trims of memory while requests come: what the compiler and nftables freed is a few MB each time. */
const TRIM_INTERVAL_MS = 2_000;
/** Bytes: jumbo frames inside a VPC. */
const ENI_MTU = 9001;

/** From the journal, else from IMDS, for which it waits as long as it takes. */
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

/** Gives freed memory back to the kernel; at rest there is none. */
async function keepTrimmed(requests: () => number, signal: AbortSignal): Promise<void> {
  for (let seen = -1; !signal.aborted; ) {
    if (requests() !== seen) trimMalloc();
    seen = requests();
    await systemClock.sleep(TRIM_INTERVAL_MS, signal).catch(() => undefined);
  }
}

export async function runAgent(config: AgentConfig, signal: AbortSignal): Promise<void> {
  shareArenas();
  const log = pino({
    level: config.logLevel,
    base: { node: config.nodeName },
    timestamp: pino.stdTimeFunctions.isoTime,
  });
  const metrics = createMetrics();
  const { settings, runDir } = config;
  mkdirSync(runDir, { recursive: true, mode: 0o700 });
  const faults = openFaults(runDir);
  faults?.begin('START');
  const onBoundary = faults?.boundary;
  const netns = currentNetns();
  const journal = Journal.open<PoolRecord>(join(runDir, 'journal'), onBoundary ? { onBoundary } : {});
  const datapath = createDatapath({
    netns,
    log,
    sysctlFile: join(runDir, 'sysctls.json'),
    addsQueued: () => adds > 0,
    onRepair: (change) => {
      metrics.repairs.inc();
      log.warn({ change }, 'put back what was changed');
    },
  });
  let adds = 0;
  let requests = 0;
  let attachments: Attachments | null = null;
  let pool: AddressPool | null = null;
  let broken: PodwayError | null = null;
  const started = Promise.withResolvers<void>();

  const starting = () =>
    new PodwayError('AGENT_STARTING', `the agent of ${config.nodeName} waits for the instance's identity`);
  const status = (): PodwayError | null => {
    if (!pool) return new PodwayError('STATUS_UNAVAILABLE', starting().message);
    const { held, free, cooling } = pool.counts();
    if (broken && held > 0) return new PodwayError('STATUS_LIMITED', broken.message);
    if (broken) return new PodwayError('STATUS_UNAVAILABLE', broken.message);
    if (held + free + cooling > 0) return null;
    const trouble = pool.trouble();
    return trouble === null || trouble.code === 'POOL_GROWING'
      ? null
      : new PodwayError(
          'STATUS_UNAVAILABLE',
          `no pod can start: ${trouble.code}: ${trouble.message}`,
          trouble.details,
        );
  };

  const handler = createCniHandler({
    attachments: async () => {
      // A restart takes a fraction of this: the calls that come meanwhile wait and nobody has to try again.
      if (!attachments)
        await Promise.race([started.promise, systemClock.sleep(START_WAIT_MS, signal).catch(() => {})]);
      if (!attachments) throw starting();
      return attachments;
    },
    metrics,
    now: () => systemClock.now(),
    status,
    onAdd: (delta) => {
      adds += delta;
    },
    ...(faults ? { faults } : {}),
    onFailure: (verb, error, request) => {
      const of =
        request && 'containerId' in request
          ? { containerId: request.containerId, ifname: request.ifname, pod: request.pod }
          : {};
      // A runtime asks for STATUS every few seconds: its answer is news to nobody.
      const level = verb === 'STATUS' ? 'debug' : error.code === 'INTERNAL' ? 'error' : 'warn';
      log[level](
        {
          verb,
          cause: error.code,
          ...of,
          ...error.details,
          ...(error.code === 'INTERNAL' ? { stack: error.stack } : {}),
        },
        error.message,
      );
    },
  });
  const cniServer = await serveCni(join(runDir, 'agent.sock'), (call, gone) => {
    requests++;
    return handler(call, gone);
  });

  const imds = createImds(config.imdsEndpoint === undefined ? {} : { endpoint: config.imdsEndpoint });
  const cloudFor = (region: string) =>
    createEc2Cloud({
      region,
      endpoint: config.ec2Endpoint,
      credentials: defaultCredentials({ imds }),
      onCall: ({ action, result, ms }) => {
        metrics.ec2Calls.inc({ action, result });
        metrics.ec2Latency.observe({ action }, ms / 1000);
      },
    });

  const routes: Routes = {
    '/healthz': () => plain('ok\n'),
    '/readyz': () => {
      const error = status();
      return error ? plain(`${error.code}: ${error.message}\n`, 503) : plain('ok\n');
    },
    '/metrics': async () => {
      if (pool) {
        const { held, free, cooling, waiting } = pool.counts();
        for (const [state, count] of Object.entries({ held, free, cooling }))
          metrics.addresses.set({ state, family: '4' }, count);
        metrics.enis.set(pool.enis().length);
        metrics.waiting.set(waiting);
      }
      return plain(await metrics.registry.metrics(), 200, metrics.registry.contentType);
    },
  };
  const apiServer = await serveUnix(join(runDir, 'api.sock'), {
    ...routes,
    '/v1/ipam': () => {
      if (!pool) throw starting();
      return json(pool.snapshot());
    },
    '/v1/check': async () => {
      if (!pool) throw starting();
      const views = { config, pool, cloud: cloudFor(pool.identity.region), datapath, netns };
      await pool.reconcileNow();
      const first = await compareViews(views);
      if (first.ok) return json(first);
      // What is on its way between two views differs for the length of a call: only what stays is a difference.
      await systemClock.sleep(RECHECK_MS);
      await pool.reconcileNow();
      return json(lastingDifferences(first, await compareViews(views)));
    },
  });
  const metricsServer = config.metricsPort === undefined ? null : await serveTcp(config.metricsPort, routes);
  const servers = [cniServer, apiServer, metricsServer];

  try {
    const known = replayRecords(journal.replay.records, systemClock.now()).identity;
    const identity = await learnIdentity(known, imds, log, signal);
    const cloud = cloudFor(config.region ?? identity.region);
    const limits = await loadLimits(identity.instanceType, cloud, signal);
    const ready = new AddressPool({
      cloud,
      journal,
      identity,
      limits,
      nodeName: config.nodeName,
      log,
      settings: {
        warm: settings.warm,
        cooldownMs: settings.cooldownMs,
        idleReleaseMs: settings.idleReleaseMs,
        beforeReuse: (ip) => datapath.forgetAddress(ip),
        ifnameOf: (eni) => node.ifnameOf(eni.mac),
      },
      tags: { 'podway.io/node': config.nodeName },
      ...(onBoundary ? { onBoundary } : {}),
    });
    // They are the pool's state now; the records of a full journal are half a MB.
    journal.replay.records.length = 0;
    for (const problem of ready.replayProblems)
      log.error({ problem }, 'the journal could not be read in full');
    const node = new NodeState({
      pool: ready,
      imds,
      datapath,
      netns,
      settings,
      eniMtu: ENI_MTU,
      file: join(runDir, 'vpc.json'),
      log,
    });
    if (!node.knowsVpc) await node.learnVpc(signal);
    ready.onEniChange(async () => {
      await node.sync();
    });
    const owned = new Attachments({
      pool: ready,
      datapath,
      ownNetns: netns,
      defaultMtu: settings.podMtu ?? ENI_MTU,
    });
    const repair = async () => {
      try {
        const report = await node.sync();
        broken = null;
        for (const lease of await owned.releaseVanished(new Set(report.missingPods))) {
          log.info({ ...lease.owner }, 'released the addresses of a sandbox that is gone');
        }
      } catch (thrown) {
        broken = asPodwayError(thrown);
        log.error({ error: broken.message }, 'the datapath is not as it should be');
      }
    };
    if (ready.enis().length > 0) await repair();
    pool = ready;
    attachments = owned;
    started.resolve();
    const queue = new DelQueue({
      dir: join(runDir, 'queue'),
      heldSince: (del) => ready.findByContainer(del.containerId, del.ifname)[0]?.at ?? null,
      del: (del) => owned.del(del),
      onError: (entry, error) =>
        log.error({ entry, error: (error as Error).message }, 'a queued DEL could not be served'),
      onLength: (entries) => metrics.queue.set(entries),
    });
    await queue.start(signal);
    await ready.start(signal);
    await node.learnVpc(signal);
    await repair();
    log.info(
      { instance: identity.instanceId, enis: ready.enis().length, ...ready.counts() },
      'the agent is ready',
    );
    void keepTrimmed(() => requests, signal);
    while (!signal.aborted) {
      await systemClock.sleep(REPAIR_INTERVAL_MS, signal).catch(() => undefined);
      if (signal.aborted) break;
      await node.learnVpc(signal);
      await repair();
    }
    await ready.stopped();
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    for (const server of servers) server?.close();
    await datapath.close();
    journal.close();
    netns.close();
  }
}
