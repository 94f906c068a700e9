// Simulated nodes in one process: of each agent all that asks EC2 or the Kubernetes API, as src/agent composes it, without the
// parts of the kernel: the metadata client, the EC2 client, pool, journal, configuration, the watches, the node's conditions
// and its PodwayNode. A restart ends one and opens it again from its journal, as a new process would.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { createApiServer } from '../../src/agent/api-server.ts';
import { watchBoundPods } from '../../src/agent/bound-pods.ts';
import { tellReach } from '../../src/agent/cloud-reach.ts';
import { parseAgentConfig } from '../../src/agent/config.ts';
import { Configuration } from '../../src/agent/configuration.ts';
import { watchConfiguration } from '../../src/agent/configuration-watch.ts';
import { createEvents } from '../../src/agent/events.ts';
import { Gate } from '../../src/agent/gate.ts';
import { createMetrics } from '../../src/agent/metrics.ts';
import { tellNetwork } from '../../src/agent/network-condition.ts';
import { NodeConditions } from '../../src/agent/node-condition.ts';
import { keepOwnNode } from '../../src/agent/own-node/keep.ts';
import { Policies } from '../../src/agent/policies.ts';
import type { Serving } from '../../src/agent/start.ts';
import { nodeStatus } from '../../src/agent/status.ts';
import { Journal } from '../../src/base/journal.ts';
import { fixedCredentials } from '../../src/cloud/credentials.ts';
import { createEc2Cloud } from '../../src/cloud/ec2.ts';
import { createImds, type Imds, type NodeIdentity } from '../../src/cloud/imds.ts';
import { loadLimits } from '../../src/cloud/limits.ts';
import { readEnvironment } from '../../src/ipam/config/incumbent-env.ts';
import { type PoolRecord, replayRecords } from '../../src/ipam/journal/records.ts';
import { AddressPool } from '../../src/ipam/pool.ts';
import { answering, type Instance, type NodesLook, type NodesQuestion } from './protocol.ts';

type Opened = Extract<NodesQuestion, { kind: 'open' }>;

/** As an agent that is asked for its configuration first (src/agent/agent.ts). */
const KNOWN_MS = 2_000;
/** A second apart: EC2's request limits hold a thousand nodes back for minutes. */
const MOST_TRIES = 300;
const log = pino({ level: process.env['PODWAY_SCALE_LOG'] || 'silent' });

class SimulatedNode {
  readonly #o: Opened;
  readonly #own: Instance;
  /** The process's: prom-client's registry is a megabyte. */
  readonly #metrics: ReturnType<typeof createMetrics>;
  #stop: AbortController | undefined;
  #close: () => void = () => {};
  pool: AddressPool | undefined;
  isServing = false;

  constructor(options: Opened, own: Instance, metrics: ReturnType<typeof createMetrics>) {
    this.#o = options;
    this.#own = own;
    this.#metrics = metrics;
  }

  async start(): Promise<void> {
    this.end();
    const { kubeconfig, ec2Endpoint, keys, dir } = this.#o;
    const { node: nodeName, imds: imdsEndpoint } = this.#own;
    const runDir = join(dir, nodeName);
    mkdirSync(runDir, { recursive: true });
    const stop = new AbortController();
    this.#stop = stop;
    const { signal } = stop;
    const config = parseAgentConfig({ nodeName, runDir, kubeconfig, ec2Endpoint, imdsEndpoint });
    const api = createApiServer(config);
    const events = createEvents(api, nodeName, log);
    const journal = Journal.open<PoolRecord>(join(runDir, 'journal'));
    this.#close = () => {
      api.close();
      journal.close();
    };
    const imds = createImds({ endpoint: imdsEndpoint });
    const known = replayRecords(journal.replay.records, Date.now()).identity;
    const identity = known ?? (await learnIdentity(imds, signal));
    const credentials = fixedCredentials(keys);
    const cloud = createEc2Cloud({ region: identity.region, endpoint: ec2Endpoint, credentials });
    const limits = await loadLimits(identity.instanceType, cloud, signal);
    const { settings } = config;
    const poolSettings = {
      families: settings.families,
      primaryFamily: settings.primaryFamily,
      egress4: settings.egress4,
      addressing: settings.addressing,
      cooldownMs: settings.cooldownMs,
    };
    const pool = new AddressPool({
      ...{ cloud, metadata: imds, journal, identity, limits, nodeName, log, settings: poolSettings },
      onReach: tellReach({ api, config, events, log, metrics: this.#metrics }, signal),
      tags: { 'podway.io/node': nodeName },
    });
    this.pool = pool;
    const self = { nodeUID: null };
    const configuration = new Configuration({
      own: {
        zone: identity.zone,
        subnetId: identity.primary.subnetId,
        lacksIpv6: true,
        isSixOnly: false,
        settings: poolSettings,
        environment: readEnvironment({}).pool,
      },
      ...{ identity, pool, file: join(runDir, 'configuration.json'), log, events },
      onEgress: async () => {},
    });
    const policies = new Policies({
      ...{ config, api, log, tell: () => {}, netns: null as never },
      settings: () => settings,
      cooldownMs: () => pool.cooldownMs,
      held: () => [],
      onEnforce: async () => {},
    });
    const gate = new Gate(nodeName);
    const repair = { broken: null };
    const serving = { identity, cloud, pool, configuration, policies, repair } as unknown as Serving;
    gate.open(serving);
    for (const running of [
      configuration.keep(signal),
      watchConfiguration(api, configuration, log, signal, self),
      watchBoundPods(api, pool, log, signal),
      policies.keep(signal),
    ])
      running.catch(() => {});
    await configuration.known(KNOWN_MS, signal);
    void keepOwnNode({ api, config, log, self }, gate, serving, signal).catch(() => {});
    const conditions = new NodeConditions(nodeName, api.connect, log, signal);
    void tellNetwork(
      () => nodeStatus(gate),
      (condition) => conditions.say(condition),
      signal,
    );
    await pool.start(signal);
    gate.hasStarted = true;
    this.isServing = true;
  }

  /** As a runtime does it: a refused ADD is asked again. */
  async addPods(count: number): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, async (_, index) => {
        const name = `${this.#own.node}-${index}`;
        const pod = { namespace: 'scale', name };
        const owner = { network: 'podway', containerId: `of-${name}`, ifname: 'eth0', pod };
        for (let tries = 0; ; tries++) {
          try {
            return await this.pool!.acquire(owner);
          } catch (error) {
            if (tries === MOST_TRIES) throw error;
            await sleep(1_000);
          }
        }
      }),
    );
  }

  end(): void {
    this.isServing = false;
    this.#stop?.abort(new Error('ended'));
    this.#close();
    this.#close = () => {};
  }
}

/** As an agent does (src/agent/start.ts): without a limit. */
async function learnIdentity(imds: Imds, signal: AbortSignal): Promise<NodeIdentity> {
  for (let pause = 100; ; pause = Math.min(pause * 2, 5_000)) {
    try {
      return await imds.identity(signal);
    } catch {
      await sleep(pause, undefined, { signal });
    }
  }
}

let nodes: SimulatedNode[] = [];

async function start(from: number, to: number, overMs: number): Promise<number> {
  const began = performance.now();
  const some = nodes.slice(from, to);
  await Promise.all(
    some.map(async (node, index) => {
      await sleep((overMs * index) / some.length);
      await node.start();
    }),
  );
  return performance.now() - began;
}

answering(async (question: NodesQuestion) => {
  switch (question.kind) {
    case 'open': {
      const metrics = createMetrics();
      nodes = question.instances.map((own) => new SimulatedNode(question, own, metrics));
      return null;
    }
    case 'start':
      return start(question.from, question.to, question.overMs);
    case 'pods':
      await Promise.all(nodes.map((node) => node.addPods(question.each)));
      return null;
    case 'look':
      return {
        serving: nodes.filter((node) => node.isServing).length,
        held: nodes.reduce((sum, node) => sum + (node.pool?.counts().held ?? 0), 0),
        rssMb: process.memoryUsage.rss() / 1e6,
      } satisfies NodesLook;
    case 'close':
      for (const node of nodes) node.end();
      return null;
  }
});
// A watch that is cut when its node ends has nobody left to tell.
process.on('unhandledRejection', (error) => log.debug({ error: String(error) }, 'after the end'));
