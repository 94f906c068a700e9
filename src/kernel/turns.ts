// How long a turn of the calling thread on a CPU may be. Of the threads that may run, Linux takes first whoever asks for
// the least time (EEVDF, Linux 6.12 on; cgroups pass it up): a thread that works for a fraction of a millisecond at a time
// gets it between dozens that start containers, and no larger share. An earlier kernel ignores it.
import { koffi } from './ffi.ts';

/** sched_getattr and sched_setattr, for which glibc had no name before 2.41. */
const CALLS = process.arch === 'arm64' ? { get: 275, set: 274 } : { get: 315, set: 314 };
/** struct sched_attr up to sched_period (linux/sched/types.h). */
const ATTRIBUTES_BYTES = 48;
const RUNTIME_AT = 24;
const SCHED_OTHER = 0;
const OWN_THREAD = 0;

/** The shortest that the kernel grants (ns). */
export const SHORTEST_TURN_NS = 100_000n;

type SystemCall = (
  number: number,
  pid: number,
  attributes: Uint8Array,
  last: number,
  flags: number,
) => number;

let systemCall: SystemCall | undefined;

function attributes(call: SystemCall): DataView | null {
  const bytes = new Uint8Array(ATTRIBUTES_BYTES);
  if (call(CALLS.get, OWN_THREAD, bytes, bytes.length, 0) !== 0) return null;
  return new DataView(bytes.buffer);
}

const load = (): SystemCall => {
  systemCall ??= koffi()
    .load(null)
    .func('long syscall(long, long, _Inout_ void *, long, long)') as unknown as SystemCall;
  return systemCall;
};

/** Of the calling thread (ns); null where the kernel does not tell. */
export const turnOf = (): bigint | null => attributes(load())?.getBigUint64(RUNTIME_AT, true) ?? null;

/** The calling thread asks for the shortest turns, and so do threads that it starts. False: somebody chose another policy. */
export function askForShortTurns(): boolean {
  const call = load();
  const view = attributes(call);
  if (view === null || view.getUint32(4, true) !== SCHED_OTHER) return false;
  view.setBigUint64(RUNTIME_AT, SHORTEST_TURN_NS, true);
  return call(CALLS.set, OWN_THREAD, new Uint8Array(view.buffer), 0, 0) === 0;
}
