// The agent's HTTP routes: health, readiness and metrics for everybody, introspection for the node's owner. What only a
// route needs is imported when it is asked for the first time: most agents are never asked.

import { asPodwayError, PodwayError } from '../base/errors.ts';
import { type Cidr, formatCidr, type Ip, parseIp } from '../base/ip.ts';
import type { Cloud, EniId } from '../cloud/port.ts';
import { sourceText } from '../ipam/config/sources.ts';
import { ownerName } from '../ipam/state.ts';
import type { Explanation } from '../ipam/views/explain.ts';
import type { Gate } from './gate.ts';
import { json, plain, type Routes } from './http.ts';
import type { HostView } from './install/keep.ts';
import { packageVersion } from './install/plugin.ts';
import type { Parts } from './parts.ts';
import { nodeStatus } from './status.ts';

/** Ms that a reader of connections waits for the next one, at most. */
const FLOWS_WAIT_MS = 20_000;
/** Ms that an explanation waits for the Kubernetes API. */
const EXPLAIN_WAIT_MS = 5_000;

export function publicRoutes(parts: Parts, gate: Gate): Routes {
  return {
    '/healthz': () => plain('ok\n'),
    '/readyz': () => {
      const error = nodeStatus(gate);
      return error ? plain(`${error.code}: ${error.message}\n`, 503) : plain('ok\n');
    },
    '/metrics': async () => {
      const { metricsText } = await import('./metrics-text.ts');
      return plain(await metricsText(parts, gate), 200, parts.metrics.registry.contentType);
    },
  };
}

export function introspection({ api, config, datapath, ec2Calls, log }: Parts, gate: Gate): Routes {
  return {
    'POST /v1/ipam/release': (query) => {
      const address = query.get('address') ?? '';
      gate.now().quarantine.release(address);
      return json({ address, released: true });
    },
    '/v1/node': () => json(nodeView(config.nodeName, gate)),
    '/v1/ipam': async () => {
      const { waysView } = await import('./ways.ts');
      const { pool, configuration, node } = gate.now();
      const { source } = configuration.current;
      const ways = waysView(node.wanted(), node.addressesOnLinks());
      return json({ ...pool.snapshot(), source, notes: configuration.notes, ways });
    },
    'POST /v1/ipam/release-idle': (query) => {
      const addresses = query.getAll('address');
      gate.now().pool.returnIdle(addresses.map(parseAddress));
      log.info({ addresses }, 'returns idle addresses by hand');
      return json({ addresses, returning: true });
    },
    '/v1/explain': async (query) => {
      const { pool, cloud, configuration, branches } = gate.now();
      const pod = query.get('pod') ?? undefined;
      const patience = AbortSignal.timeout(EXPLAIN_WAIT_MS);
      const about = {
        source: sourceText(configuration.current.source),
        notes: configuration.notes,
        secondsOf: (action: string) => ec2Calls.secondsOf(action),
        branchTrouble: pod === undefined ? null : await branches.trouble(pod, patience).catch(asPodwayError),
      };
      const told = await pool.explain(about, pod);
      if (pod === undefined) return json(told);
      const lease = pool.held().find(({ owner, branch }) => branch && ownerName(owner) === told.subject);
      if (!lease?.branch) return json(told);
      const { id, mode = 'strict' } = lease.branch;
      return json({ ...told, branch: { id, mode, ...(await groupsInForce(cloud, id, patience)) } });
    },
    '/v1/policy': async (query) => {
      const view = await gate.now().policies.view(query.get('pod') ?? undefined);
      return json(JSON.parse(textOf(view)));
    },
    '/v1/settings': () => json(JSON.parse(textOf(config))),
    '/v1/flows': async (query) => {
      const whole = (name: string, most: number) =>
        Math.min(most, Math.max(0, Math.trunc(Number(query.get(name) ?? 0)) || 0));
      const { policies } = gate.now();
      return json(
        await policies.flows(whole('after', Number.MAX_SAFE_INTEGER), whole('waitMs', FLOWS_WAIT_MS)),
      );
    },
    '/v1/check': async () => {
      const { pool, cloud } = gate.now();
      const { compareTwice } = await import('./compare/index.ts');
      return json(await compareTwice({ config, api, pool, cloud, datapath }));
    },
  };
}

/** As EC2 has them now; `lack`: why they are not known. */
async function groupsInForce(
  cloud: Pick<Cloud, 'describeNetworkInterfaces'>,
  id: string,
  signal: AbortSignal,
): Promise<Pick<NonNullable<Explanation['branch']>, 'groupIds' | 'lack'>> {
  try {
    const filter = { kind: 'ids', ids: [id as EniId], absent: 'skip' } as const;
    const [eni] = await cloud.describeNetworkInterfaces(filter, signal);
    return eni ? { groupIds: [...eni.groupIds] } : { groupIds: null, lack: `EC2 has no ${id}` };
  } catch (error) {
    return { groupIds: null, lack: asPodwayError(error).message };
  }
}

/** What `podway status` and `doctor` tell of the node. */
export type NodeView = {
  node: string;
  version: string;
  pid: number;
  /** Why it cannot serve; null when it can. */
  cause: { code: string; message: string; next?: string } | null;
  totals: { held: number; free: number; cooling: number } | null;
  enis: number;
  /** Null where nothing is installed by the agent. */
  host: HostView | null;
};

function nodeView(node: string, gate: Gate): NodeView {
  const error = nodeStatus(gate);
  const pool = gate.serving?.pool;
  const { held, free, cooling } = pool?.counts() ?? { held: 0, free: 0, cooling: 0 };
  return {
    node,
    version: packageVersion(),
    pid: process.pid,
    cause: error && {
      code: error.code,
      message: error.message,
      ...(error.details.next === undefined ? {} : { next: error.details.next }),
    },
    totals: pool ? { held, free, cooling } : null,
    enis: pool?.enis().length ?? 0,
    host: gate.installation?.view() ?? null,
  };
}

/** Blocks are integers inside, text outside. */
const textOf = (value: unknown): string =>
  JSON.stringify(value, (_key, each) => (isCidr(each) ? formatCidr(each) : each));

const isCidr = (value: unknown): value is Cidr =>
  typeof value === 'object' && value !== null && 'ip' in value && 'length' in value;

function parseAddress(text: string): Ip {
  try {
    return parseIp(text.replace(/\/\d+$/, ''));
  } catch (error) {
    throw new PodwayError('NOT_IDLE', (error as Error).message, { object: text });
  }
}
