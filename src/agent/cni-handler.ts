// Answers a call on the plugin's socket: decodes it, runs the verb, renders the result. A failure becomes a CNI error.
import type { Cause } from '../base/causes.ts';
import { asPodwayError, type PodwayError } from '../base/errors.ts';
import { renderError } from '../cni/errors.ts';
import { decodeRequest, versionOfStdin } from '../cni/request.ts';
import { renderResult } from '../cni/result.ts';
import type { CniRequest } from '../cni/types.ts';
import { versionAnswer } from '../cni/versions.ts';
import type { CniCall } from '../cni/wire.ts';
import type { Attachments } from './attachments.ts';
import type { CniAnswer } from './cni-server.ts';
import type { Faults } from './faults.ts';
import type { AgentMetrics } from './metrics.ts';

export type HandlerOptions = {
  /** Waits a moment while the agent starts; throws AGENT_STARTING when that takes longer. */
  attachments: () => Attachments | Promise<Attachments>;
  metrics: AgentMetrics;
  now: () => number;
  /** Null when ADD can be served, else the STATUS error. */
  status: () => PodwayError | null | Promise<PodwayError | null>;
  /** An ADD has come (1) or is answered (-1). */
  onAdd: (delta: 1 | -1) => void;
  faults?: Faults;
  /** Hands a call that this agent cannot serve to the one that has taken over; null while there is none. */
  relay?: () => ((call: CniCall, signal: AbortSignal) => Promise<CniAnswer>) | null;
  onFailure: (verb: string, error: PodwayError, request: CniRequest | null) => void;
};

/** What a call fails with when the agent stops before the call has changed anything. */
const ENDED_BY_STOPPING: ReadonlySet<Cause> = new Set(['AGENT_UNREACHABLE', 'AGENT_STARTING']);

async function serve(o: HandlerOptions, request: CniRequest, signal: AbortSignal): Promise<string> {
  switch (request.verb) {
    case 'ADD': {
      o.onAdd(1);
      try {
        const attachments = await o.attachments();
        const result = await attachments.add(request, signal);
        return JSON.stringify(renderResult(result, request.conf.cniVersion));
      } finally {
        o.onAdd(-1);
      }
    }
    case 'DEL': {
      const attachments = await o.attachments();
      const { containerId, ifname } = request;
      await attachments.del({ network: request.conf.name, containerId, ifname });
      return '';
    }
    case 'CHECK':
      await (await o.attachments()).check(request);
      return '';
    case 'GC':
      await (await o.attachments()).gc(request, o.now());
      return '';
    case 'STATUS': {
      const error = await o.status();
      if (error) throw error;
      return '';
    }
    case 'VERSION':
      return JSON.stringify(versionAnswer(request.cniVersion));
  }
}

export function createCniHandler(o: HandlerOptions) {
  return async (call: CniCall, signal: AbortSignal): Promise<CniAnswer> => {
    const started = performance.now();
    let verb = 'none';
    let request: CniRequest | null = null;
    o.metrics.inFlight.inc();
    try {
      request = decodeRequest(call.env, call.stdin);
      verb = request.verb;
      o.faults?.begin(verb);
      o.faults?.boundary('request:decoded');
      const stdout = await serve(o, request, signal);
      o.faults?.boundary('answer:before');
      // The answer is written after this function returns; setImmediate runs after that write.
      if (o.faults) setImmediate(() => o.faults?.boundary('answer:after'));
      o.metrics.requests.inc({ verb, result: 'ok' });
      return { exit: 0, stdout };
    } catch (thrown) {
      const error = asPodwayError(thrown);
      const relay = ENDED_BY_STOPPING.has(error.code) && !signal.aborted ? o.relay?.() : null;
      if (relay) return await relay(call, signal);
      o.metrics.requests.inc({ verb, result: error.code });
      o.onFailure(verb, error, request);
      const version = request && 'conf' in request ? request.conf.cniVersion : versionOfStdin(call.stdin);
      return { exit: 1, stdout: JSON.stringify(renderError(version, error)) };
    } finally {
      o.metrics.inFlight.dec();
      o.metrics.latency.observe({ verb }, (performance.now() - started) / 1000);
    }
  };
}
