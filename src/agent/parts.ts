// What an agent opens before it knows its instance: log, metrics, journal, datapath, and the clients of IMDS and EC2.
// Invariant: opening changes nothing in the kernel and sends no request; closing leaves the node's pods as they are.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import type { Ip } from '../base/ip.ts';
import { Journal } from '../base/journal.ts';
import { defaultCredentials } from '../cloud/credentials.ts';
import { createEc2Cloud } from '../cloud/ec2.ts';
import { createImds } from '../cloud/imds.ts';
import type { Cloud } from '../cloud/port.ts';
import { createDatapath } from '../datapath/datapath.ts';
import type { PoolRecord } from '../ipam/journal/records.ts';
import { currentNetns, type Netns } from '../kernel/netns.ts';
import { netnsCookie } from '../kernel/sockets.ts';
import { createApiServer } from './api-server.ts';
import type { AgentConfig } from './config.ts';
import { Ec2Calls } from './ec2-calls.ts';
import { createEvents } from './events.ts';
import { openFaults } from './faults.ts';
import { createMetrics } from './metrics.ts';
import { createTell, type PodName, type Telling } from './tell.ts';

/** A journal's leases hold for one boot and one network namespace (nodes of a lab share a boot). */
const originOf = (netns: Netns): Record<string, string> => ({
  boot: readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim(),
  netns: netnsCookie(netns) ?? 'none',
});

/** The Event's reason for each kind of report. */
const REASONS: Record<Telling['kind'], string> = {
  withheld: 'RepairWithheld',
  fight: 'RepairBackedOff',
  address: 'AddressOnNode',
  taken: 'AddressTaken',
  restored: 'AddressRestored',
  'lost-link': 'LinkLost',
  'restored-link': 'LinkRestored',
  'eni-link': 'EniWithoutLink',
  obstacle: 'ForwardingObstructed',
  'kernel-rule': 'KernelRuleRestored',
  sandbox: 'SandboxUnknown',
  policy: 'PolicyRefused',
  isolated: 'PodIsolated',
  stale: 'PolicyStale',
  groups: 'GroupsNotInjected',
  trunk: 'EniLimit',
  arrivals: 'ArrivalsRefused',
};

/** A flushed route table gives one log line, however many routes it held. */
const LOGGED_CHANGES = 5;

/** The plugin's load on this agent: `adds` and calls (`serving`) in progress here, `requests` since the start. */
export type Load = { adds: number; requests: number; serving: number };

/** The pod that holds an address; set once the pool exists. */
export type Whose = { pod(ip: Ip): PodName | undefined };

/** What the API says of the node itself. */
export type Self = { nodeUID: string | null };

export type Parts = ReturnType<typeof openParts>;

export function openParts(config: AgentConfig) {
  const { runDir } = config;
  const log = pino({
    level: config.logLevel,
    base: { node: config.nodeName },
    timestamp: pino.stdTimeFunctions.isoTime,
  });
  const metrics = createMetrics();
  const ec2Calls = new Ec2Calls();
  mkdirSync(runDir, { recursive: true, mode: 0o700 });
  const faults = openFaults(runDir);
  faults?.begin('START');
  const onBoundary = faults?.boundary;
  const load: Load = { adds: 0, requests: 0, serving: 0 };
  const netns = currentNetns();
  let journal: Journal<PoolRecord> | undefined;
  const api = createApiServer(config);
  const events = createEvents(api, config.nodeName, log);
  const tell = createTell(log, ({ kind, text, pod }) => {
    if (pod) events.pod(pod, 'Warning', REASONS[kind], text);
    else events.node('Warning', REASONS[kind], text);
  });
  const whose: Whose = { pod: () => undefined };
  const self: Self = { nodeUID: null };
  const datapath = createDatapath({
    netns,
    log,
    sysctlFile: join(runDir, 'sysctls.json'),
    addsQueued: () => load.adds > 0,
    repair: config.settings.repair,
    onRepair: (changes, counts) => {
      for (const [kind, count] of counts) metrics.repairs.inc({ kind }, count);
      log.warn(
        { changes: changes.slice(0, LOGGED_CHANGES), of: changes.length },
        'put back what was changed',
      );
    },
    onTold: ({ kind, object, text, ip }) => {
      const pod = ip === undefined ? undefined : whose.pod(ip);
      tell({ kind, object, text, ...(pod ? { pod } : {}) });
    },
  });
  const imds = createImds(config.imdsEndpoint === undefined ? {} : { endpoint: config.imdsEndpoint });
  const cloudFor = (region: string, domain: string | undefined): Cloud =>
    createEc2Cloud({
      region,
      domain,
      endpoint: config.ec2Endpoint,
      credentials: defaultCredentials({ imds, region, domain }),
      onCall: (call) => {
        const { action, result, ms } = call;
        ec2Calls.note(call);
        metrics.ec2Calls.inc({ action, result });
        metrics.ec2Latency.observe({ action }, ms / 1000);
      },
    });
  return {
    config,
    log,
    metrics,
    ec2Calls,
    api,
    events,
    faults,
    load,
    netns,
    /** Opened when first asked for: the agent before may write it until it has made room. */
    get journal(): Journal<PoolRecord> {
      journal ??= Journal.open<PoolRecord>(join(runDir, 'journal'), {
        origin: originOf(netns),
        ...(onBoundary ? { onBoundary } : {}),
      });
      return journal;
    },
    datapath,
    tell,
    whose,
    self,
    imds,
    cloudFor,
    async close(): Promise<void> {
      api.close();
      await datapath.close();
      journal?.close();
      netns.close();
    },
  };
}
