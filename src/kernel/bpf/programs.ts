// The programs that tag and untag frames (802.1Q) and hand them from link to link. Pure: values to programs.
// Whatever else happens to a packet is nftables', conntrack's and routing's business on the link it is handed to.
// A program's name holds a hash of its instructions, so that what is attached says whether it is what should be.
import { createHash } from 'node:crypto';
import { assemble, type Instruction } from './assemble.ts';

export type Program = {
  /** At most 15 characters: `pw_`, what it does, and the first digits of a hash of the bytes. */
  name: string;
  bytes: Uint8Array;
};

/** Offsets in struct __sk_buff (linux/bpf.h). */
const VLAN_PRESENT = 20;
const VLAN_TCI = 24;

/** enum bpf_func_id. */
const VLAN_PUSH = 18;
const VLAN_POP = 19;
const SET_TUNNEL_KEY = 21;
const REDIRECT = 23;

/** BPF_F_INGRESS: as if the frame had come in by the link. */
const AS_RECEIVED = 1;
/** TCX_NEXT, and TC_ACT_UNSPEC of clsact: whoever comes next decides. */
const NEXT = -1;
/** TCX_DROP, TC_ACT_SHOT. */
const DROP = 2;

const VLAN_ID_MASK = 0xfff;
/** 0x8100 in network order, as the helper wants it. */
const ETH_P_8021Q_BE = 0x0081;

export const MAX_VLAN = 4094;

const NAME_PREFIX = 'pw_';
/** BPF_OBJ_NAME_LEN without its NUL. */
const MAX_NAME = 15;

function program(what: 'pop' | 'push' | 'key', instructions: readonly Instruction[]): Program {
  const bytes = assemble(instructions);
  const hash = createHash('sha256').update(bytes).digest('hex');
  return { name: `${NAME_PREFIX}${what}_${hash}`.slice(0, MAX_NAME), bytes };
}

/** Whether a program of that name is ours. */
export const isOurProgram = (name: string): boolean => name.startsWith(NAME_PREFIX);

const result = (value: number): Instruction[] => [{ op: 'set', to: 0, value }, { op: 'exit' }];

/** r6 = the packet, r7 = its VLAN id; a frame without a tag, or with a priority tag (id 0), goes on untouched. */
const readTag: readonly Instruction[] = [
  { op: 'copy', to: 6, from: 1 },
  { op: 'load', to: 7, from: 1, offset: VLAN_PRESENT, size: 4 },
  { op: 'jump-if', register: 7, is: 'eq', value: 0, label: 'next' },
  { op: 'load', to: 7, from: 1, offset: VLAN_TCI, size: 4 },
  { op: 'and', to: 7, value: VLAN_ID_MASK },
  { op: 'jump-if', register: 7, is: 'eq', value: 0, label: 'next' },
];

/** Takes the tag off; a failure (no memory) drops the frame. */
const popTag: readonly Instruction[] = [
  { op: 'copy', to: 1, from: 6 },
  { op: 'call', helper: VLAN_POP },
  { op: 'jump-if', register: 0, is: 'ne', value: 0, label: 'drop' },
];

const next: readonly Instruction[] = [{ op: 'label', label: 'next' }, ...result(NEXT)];
const ends: readonly Instruction[] = [...next, { op: 'label', label: 'drop' }, ...result(DROP)];

/**
 * For the ingress of a trunk: a tagged frame loses its tag and comes in by the link with the index `base` + VLAN id;
 * one whose link is not there is dropped. The kernel needs no map, and a branch that goes leaves nothing in the program.
 */
export const popByIndex = (base: number): Program =>
  program('pop', [
    ...readTag,
    ...popTag,
    { op: 'copy', to: 1, from: 7 },
    { op: 'add', to: 1, value: base },
    { op: 'set', to: 2, value: AS_RECEIVED },
    { op: 'call', helper: REDIRECT },
    { op: 'exit' },
    ...ends,
  ]);

/** As popByIndex, for the tags in the list alone, each with its link's index; frames with other tags go on with them. */
export const popByList = (tags: readonly { vlan: number; index: number }[]): Program =>
  program('pop', [
    ...readTag,
    ...[...tags]
      .sort((a, b) => a.vlan - b.vlan)
      .flatMap(({ vlan, index }): Instruction[] => [
        { op: 'jump-if', register: 7, is: 'ne', value: vlan, label: `not ${vlan}` },
        ...popTag,
        { op: 'set', to: 1, value: index },
        { op: 'set', to: 2, value: AS_RECEIVED },
        { op: 'call', helper: REDIRECT },
        { op: 'exit' },
        { op: 'label', label: `not ${vlan}` },
      ]),
    // The verifier of older kernels refuses what nothing leads to.
    ...(tags.length === 0 ? next : ends),
  ]);

/** For the egress of a branch's link: the frame gets the tag and leaves by the trunk. */
export const pushTo = (vlan: number, trunk: number): Program =>
  program('push', [
    { op: 'set', to: 2, value: ETH_P_8021Q_BE },
    { op: 'set', to: 3, value: vlan },
    { op: 'call', helper: VLAN_PUSH },
    { op: 'jump-if', register: 0, is: 'ne', value: 0, label: 'drop' },
    { op: 'set', to: 1, value: trunk },
    { op: 'set', to: 2, value: 0 },
    { op: 'call', helper: REDIRECT },
    { op: 'exit' },
    { op: 'label', label: 'drop' },
    ...result(DROP),
  ]);

/** struct bpf_tunnel_key up to tunnel_ext: what every kernel with the helper takes. */
const TUNNEL_KEY_BYTES = 28;

/**
 * For the ingress of a pod's host link: an empty tunnel key stands where early demultiplexing would put the route of a
 * socket of the node (ip_rcv_finish_core asks for a packet without one), so that the packet is routed by the rules.
 */
export const keepOffSockets = (): Program =>
  program('key', [
    ...Array.from(
      { length: 4 },
      (_, i): Instruction => ({ op: 'store', to: 10, offset: -32 + i * 8, size: 8, value: 0 }),
    ),
    { op: 'copy', to: 2, from: 10 },
    { op: 'add', to: 2, value: -32 },
    { op: 'set', to: 3, value: TUNNEL_KEY_BYTES },
    { op: 'set', to: 4, value: 0 },
    { op: 'call', helper: SET_TUNNEL_KEY },
    ...result(NEXT),
  ]);
