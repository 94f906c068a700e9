// bpf(2): programs loaded, attached to links by tcx, asked for and told. Every refusal is a SyscallError that names the
// call; a program that the verifier refuses is a ProgramRefused with the verifier's own log.
// The kernel looks for the link in the namespace of the thread: attach, detach and query run inside `ns`.
import { closeSync } from 'node:fs';
import { errnoName, errnoText, SyscallError } from '../errors.ts';
import { addressOf, lastErrno, libc } from '../ffi.ts';
import { textBytes, textFromBytes } from '../netlink/bytes.ts';
import { type Netns, withNetns } from '../netns.ts';
import { INSTRUCTION_BYTES } from './assemble.ts';
import type { Program } from './programs.ts';

export type Hook = 'ingress' | 'egress';

/** enum bpf_cmd. */
const PROG_LOAD = 5;
const PROG_ATTACH = 8;
const PROG_DETACH = 9;
const PROG_GET_FD_BY_ID = 13;
const OBJ_GET_INFO_BY_FD = 15;
const PROG_QUERY = 16;

const BPF_PROG_TYPE_SCHED_CLS = 3;
const BPF_F_REPLACE = 4;
/** enum bpf_attach_type. */
const TCX = { ingress: 46, egress: 47 } as const;
/** Programs on one hook; the kernel takes 64 (BPF_MPROG_MAX). */
const MOST_PROGRAMS = 64;
const LOG_BYTES = 64 << 10;
/**
 * The verifier ends with EAGAIN when a signal waits for the thread (bpf_check in kernel/bpf/verifier.c); the next call
 * has it behind it.
 */
const LOAD_ATTEMPTS = 100;
/** `bpf_helpers` for tagging are for everybody; the licence is asked of those that trace. */
const LICENCE = 'Apache-2.0';
const NAME_AT = 64;
const INFO_BYTES = 80;

/** The verifier refused a program, or the kernel has no room for it. `log` is the verifier's; empty when it said nothing. */
export class ProgramRefused extends SyscallError {
  override name = 'ProgramRefused';
  readonly log: string;

  constructor(program: string, errno: number, log: string) {
    super(`load of BPF program ${program}`, errno);
    this.log = log;
    const last = log.trim().split('\n').at(-2) ?? '';
    if (last !== '') this.message = `${program}: ${errnoName(errno)} (${errnoText(errno)}): ${last}`;
  }
}

/** union bpf_attr, field by field at its offset. */
class Attributes {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Buffers that the kernel is given by address stay referenced until the call is over. */
  readonly #kept: Uint8Array[] = [];

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }

  u32(at: number, value: number): this {
    this.view.setUint32(at, value, true);
    return this;
  }

  pointer(at: number, value: Uint8Array): this {
    this.#kept.push(value);
    this.view.setBigUint64(at, addressOf(value), true);
    return this;
  }

  text(at: number, value: string): this {
    this.bytes.set(textBytes(value), at);
    return this;
  }

  /** The call's result; negative: the errno. */
  call(command: number): number {
    const result = libc().bpf(command, this.bytes, this.bytes.length);
    return result < 0 ? -lastErrno() : result;
  }
}

/** A loaded program. Attached or not, it lives while the descriptor is open; attached, without it too. */
export class LoadedProgram implements Disposable {
  readonly fd: number;
  readonly name: string;

  constructor(fd: number, name: string) {
    this.fd = fd;
    this.name = name;
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

export function loadProgram({ name, bytes }: Program): LoadedProgram {
  const log = new Uint8Array(LOG_BYTES);
  const load = (level: 0 | 1): number => {
    const attributes = new Attributes(120)
      .u32(0, BPF_PROG_TYPE_SCHED_CLS)
      .u32(4, bytes.length / INSTRUCTION_BYTES)
      .pointer(8, bytes)
      .pointer(16, textBytes(`${LICENCE}\0`))
      .text(48, name);
    if (level > 0) attributes.u32(24, level).u32(28, log.length).pointer(32, log);
    for (let attempt = 1; ; attempt++) {
      const result = attributes.call(PROG_LOAD);
      if (attempt === LOAD_ATTEMPTS || result >= 0 || errnoName(-result) !== 'EAGAIN') return result;
    }
  };
  const fd = load(0);
  if (fd >= 0) return new LoadedProgram(fd, name);
  // Only a second attempt asks for the log: writing one costs the verifier more than the check.
  const again = load(1);
  if (again >= 0) return new LoadedProgram(again, name);
  throw new ProgramRefused(name, -again, textFromBytes(log));
}

/** A program by the kernel's number of it; null when it is gone meanwhile. */
function programById(id: number): LoadedProgram | null {
  const fd = new Attributes(12).u32(0, id).call(PROG_GET_FD_BY_ID);
  if (fd < 0) return null;
  const info = new Uint8Array(INFO_BYTES);
  const told = new Attributes(16).u32(0, fd).u32(4, info.length).pointer(8, info).call(OBJ_GET_INFO_BY_FD);
  if (told < 0) {
    closeSync(fd);
    throw new SyscallError('bpf information of a program', -told);
  }
  return new LoadedProgram(fd, textFromBytes(info.subarray(NAME_AT, NAME_AT + 16)));
}

/** Programs on the link's hook, first run first; null where the kernel has no tcx (before Linux 6.6). Dispose of them. */
export function tcxPrograms(ns: Netns, index: number, hook: Hook): LoadedProgram[] | null {
  const ids = new Uint32Array(MOST_PROGRAMS);
  const attributes = new Attributes(64)
    .u32(0, index)
    .u32(4, TCX[hook])
    .pointer(16, new Uint8Array(ids.buffer))
    .u32(24, ids.length);
  const asked = withNetns(ns, () => attributes.call(PROG_QUERY));
  const errno = -asked;
  // EINVAL: an attach type that the kernel does not know. ENOENT: nothing was ever attached.
  if (asked < 0 && errnoName(errno) === 'EINVAL') return null;
  if (asked < 0 && errnoName(errno) === 'ENOENT') return [];
  if (asked < 0) throw new SyscallError(`bpf query of link ${index}`, errno);
  const count = attributes.view.getUint32(24, true);
  return [...ids.subarray(0, count)].flatMap((id) => programById(id) ?? []);
}

/** Attaches at the end of the hook, or in the place of `instead` in one step. Lasts as long as the link. */
export function tcxAttach(
  ns: Netns,
  index: number,
  hook: Hook,
  program: LoadedProgram,
  instead?: LoadedProgram,
): void {
  const attributes = new Attributes(32).u32(0, index).u32(4, program.fd).u32(8, TCX[hook]);
  if (instead) attributes.u32(12, BPF_F_REPLACE).u32(16, instead.fd);
  const result = withNetns(ns, () => attributes.call(PROG_ATTACH));
  if (result < 0) throw new SyscallError(`attach of ${program.name} to link ${index} (${hook})`, -result);
}

/** Takes the program away; one that is not there is away. */
export function tcxDetach(ns: Netns, index: number, hook: Hook, program: LoadedProgram): void {
  const attributes = new Attributes(32).u32(0, index).u32(4, program.fd).u32(8, TCX[hook]);
  const result = withNetns(ns, () => attributes.call(PROG_DETACH));
  if (result < 0 && errnoName(-result) !== 'ENOENT')
    throw new SyscallError(`detach of ${program.name} from link ${index} (${hook})`, -result);
}
