// A trace of pods on nodes: what a simulation replays. CSV with the header `time,node,pod,event`, or JSON lines with
// these fields. Reading checks every line; the first wrong one is refused with its number, value and rule.
import { LabError } from '../lab/daemon/errors.ts';

/** bound: the agent can know of the pod from here on; start: its network is set up; stop: it ends. */
export type TraceEventKind = 'bound' | 'start' | 'stop';
/** `time`: seconds from the start of the trace. */
export type TraceEvent = {
  readonly time: number;
  readonly node: string;
  readonly pod: string;
  readonly event: TraceEventKind;
};

export const TRACE_HEADER = 'time,node,pod,event';
const FIELDS = ['time', 'node', 'pod', 'event'] as const;
const KINDS: readonly string[] = ['bound', 'start', 'stop'];
/** Nodes and pods are named as in Kubernetes; a namespace may stand before a pod's name. */
const NAME = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,252}$/;
/** Longest trace: a year, in seconds. */
const LONGEST = 366 * 86_400;

class TraceReader {
  readonly #source: string;
  readonly events: TraceEvent[] = [];
  /** Where each bound or running pod is. */
  readonly #pods = new Map<string, { node: string; event: TraceEventKind }>();
  #last = 0;

  constructor(source: string) {
    this.#source = source;
  }

  refuse(line: number, rule: string): LabError {
    const next = `each line is ${TRACE_HEADER}, sorted by time; podway ipam trace-generate steady shows one`;
    return new LabError('INVALID_TRACE', `${this.#source} line ${line}: ${rule}`, next);
  }

  add(line: number, fields: Record<(typeof FIELDS)[number], unknown>): void {
    const { node, pod, event } = fields;
    const time = typeof fields.time === 'number' ? fields.time : decimal(fields.time);
    if (!(time >= 0 && time <= LONGEST))
      throw this.refuse(line, `time is ${JSON.stringify(fields.time)}, not seconds from 0 to ${LONGEST}`);
    if (time < this.#last)
      throw this.refuse(line, `time ${time} comes after ${this.#last}: the trace is not sorted by time`);
    if (typeof node !== 'string' || !NAME.test(node))
      throw this.refuse(line, `node is ${JSON.stringify(node)}, not a name`);
    if (typeof pod !== 'string' || !NAME.test(pod))
      throw this.refuse(line, `pod is ${JSON.stringify(pod)}, not a name`);
    if (typeof event !== 'string' || !KINDS.includes(event))
      throw this.refuse(line, `event is ${JSON.stringify(event)}, not bound, start or stop`);
    this.#follow(line, node, pod, event as TraceEventKind);
    this.#last = time;
    this.events.push({ time, node, pod, event: event as TraceEventKind });
  }

  #follow(line: number, node: string, pod: string, event: TraceEventKind): void {
    const known = this.#pods.get(pod);
    if (known && known.node !== node)
      throw this.refuse(
        line,
        `pod ${pod} is on ${known.node} and has not stopped, yet its ${event} names ${node}`,
      );
    if (event === 'stop') {
      if (!known) throw this.refuse(line, `pod ${pod} stops without a start`);
      this.#pods.delete(pod);
      return;
    }
    if (known && (event === 'bound' || known.event === 'start'))
      throw this.refuse(line, `pod ${pod} has its ${known.event} already and has not stopped`);
    this.#pods.set(pod, { node, event });
  }
}

const decimal = (text: unknown): number =>
  typeof text === 'string' && /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;

/** Parses a trace; `source` names it in errors. Throws INVALID_TRACE with the line's number and what is wrong. */
export function parseTrace(text: string, source = 'trace'): TraceEvent[] {
  const reader = new TraceReader(source);
  const isJson = /^\s*\{/.test(text);
  let line = 0;
  for (let begin = 0; begin < text.length; ) {
    let end = text.indexOf('\n', begin);
    if (end < 0) end = text.length;
    const row = text.slice(begin, end).trim();
    begin = end + 1;
    line++;
    if (isJson) {
      if (row !== '') reader.add(line, jsonFields(reader, line, row));
      continue;
    }
    if (line === 1) {
      if (row.replace(/^\ufeff/, '') !== TRACE_HEADER)
        throw reader.refuse(1, `the header is ${JSON.stringify(row.slice(0, 80))}, not ${TRACE_HEADER}`);
      continue;
    }
    if (row === '') continue;
    const cells = row.split(',');
    if (cells.length !== FIELDS.length)
      throw reader.refuse(line, `${cells.length} fields, not ${FIELDS.length}`);
    reader.add(line, { time: cells[0], node: cells[1], pod: cells[2], event: cells[3] });
  }
  if (reader.events.length === 0) throw reader.refuse(Math.max(1, line), 'the trace has no event');
  return reader.events;
}

function jsonFields(
  reader: TraceReader,
  line: number,
  row: string,
): Record<(typeof FIELDS)[number], unknown> {
  let value: unknown;
  try {
    value = JSON.parse(row);
  } catch (error) {
    throw reader.refuse(line, `not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw reader.refuse(line, 'not a JSON object');
  const unknown = Object.keys(value).find((key) => !(FIELDS as readonly string[]).includes(key));
  if (unknown !== undefined) throw reader.refuse(line, `unknown field ${JSON.stringify(unknown)}`);
  return value as Record<(typeof FIELDS)[number], unknown>;
}

/** One CSV line, without its line feed; times to the millisecond. */
export const formatTraceEvent = ({ time, node, pod, event }: TraceEvent): string =>
  `${Number(time.toFixed(3))},${node},${pod},${event}`;
