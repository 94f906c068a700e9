// Sets how long a turn of the calling thread on a CPU may be. Linux takes first the thread that asks for the shortest
// turn (EEVDF, Linux 6.12 on; cgroups pass it up). A thread that works for a fraction of a millisecond at a time then
// gets a CPU between dozens of starting containers. Its share does not grow. An earlier kernel ignores it.
import { koffi } from './ffi.ts';

/** sched_getattr and sched_setattr, for which glibc had no name before 2.41. */
const CALLS = process.arch === 'arm64' ? { get: 275, set: 274 } : { get: 315, set: 314 };
/** struct sched_attr up to sched_period (linux/sched/types.h). */
const ATTRIBUTES_BYTES = 48;
const POLICY_AT = 4;
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

/** ns; 0 of a kernel that has no turns. */
export type Turns = { readonly before: bigint; readonly now: bigint };

/**
 * The calling thread asks for the shortest turns, and so do threads that it starts. Returns what the kernel says of
 * them; null where somebody chose another policy, or where the kernel refuses.
 */
export function askForShortTurns(): Turns | null {
  const call = load();
  const asked = attributes(call);
  if (asked === null || asked.getUint32(POLICY_AT, true) !== SCHED_OTHER) return null;
  const before = asked.getBigUint64(RUNTIME_AT, true);
  asked.setBigUint64(RUNTIME_AT, SHORTEST_TURN_NS, true);
  if (call(CALLS.set, OWN_THREAD, new Uint8Array(asked.buffer), 0, 0) !== 0) return null;
  const granted = attributes(call);
  return granted && { before, now: granted.getBigUint64(RUNTIME_AT, true) };
}
