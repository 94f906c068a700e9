// BPF programs as values: a list of instructions with labels, and the bytes that the kernel takes. Pure.
// One instruction is eight bytes (struct bpf_insn): code u8, registers u8 (source high), offset s16, immediate s32.
// A jump names a label; an unknown or doubled label, or one too far away, throws RangeError.

/** r0: results; r1 to r5: arguments, lost in a call; r6 to r9: kept; r10: the stack's end. */
export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;

const OPERATORS = { add: 0x00, or: 0x40, and: 0x50 } as const;
const CONDITIONS = { eq: 0x10, ne: 0x50 } as const;
/** Bytes to BPF_SIZE. */
const SIZES = { 1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18 } as const;
type Size = keyof typeof SIZES;

export type Instruction =
  /** `to` = number, or register `from`. */
  | { op: 'set'; to: Register; value: number }
  | { op: 'copy'; to: Register; from: Register }
  /** `to` = `to` operator number. */
  | { op: keyof typeof OPERATORS; to: Register; value: number }
  /** `to` = memory at `from` + offset. */
  | { op: 'load'; to: Register; from: Register; offset: number; size: Size }
  /** Memory at `to` + offset = number. */
  | { op: 'store'; to: Register; offset: number; size: Size; value: number }
  | { op: 'jump-if'; register: Register; is: keyof typeof CONDITIONS; value: number; label: string }
  | { op: 'label'; label: string }
  | { op: 'call'; helper: number }
  | { op: 'exit' };

const ALU64_K = 0x07;
const ALU64_X = 0x0f;
const MOV = 0xb0;
const LDX_MEM = 0x61;
const ST_MEM = 0x62;
const JMP_K = 0x05;
const JMP_CALL = 0x85;
const JMP_EXIT = 0x95;
/** BPF_SIZE is in the code's bits 0x18; LDX and ST above are those of a word. */
const withSize = (code: number, size: Size): number => code | SIZES[size];

export const INSTRUCTION_BYTES = 8;

export function assemble(program: readonly Instruction[]): Uint8Array {
  const places = placesOf(program);
  const bytes = new Uint8Array(program.filter((one) => one.op !== 'label').length * INSTRUCTION_BYTES);
  const view = new DataView(bytes.buffer);
  let at = 0;
  const put = (code: number, to: number, from: number, offset: number, value: number) => {
    view.setUint8(at, code);
    view.setUint8(at + 1, (from << 4) | to);
    view.setInt16(at + 2, offset, true);
    view.setInt32(at + 4, value, true);
    at += INSTRUCTION_BYTES;
  };
  for (const one of program) {
    switch (one.op) {
      case 'set':
        put(ALU64_K | MOV, one.to, 0, 0, one.value);
        break;
      case 'copy':
        put(ALU64_X | MOV, one.to, one.from, 0, 0);
        break;
      case 'add':
      case 'or':
      case 'and':
        put(ALU64_K | OPERATORS[one.op], one.to, 0, 0, one.value);
        break;
      case 'load':
        put(withSize(LDX_MEM, one.size), one.to, one.from, one.offset, 0);
        break;
      case 'store':
        put(withSize(ST_MEM, one.size), one.to, 0, one.offset, one.value);
        break;
      case 'jump-if':
        put(JMP_K | CONDITIONS[one.is], one.register, 0, distance(places, one.label, at), one.value);
        break;
      case 'call':
        put(JMP_CALL, 0, 0, 0, one.helper);
        break;
      case 'exit':
        put(JMP_EXIT, 0, 0, 0, 0);
        break;
      case 'label':
        break;
    }
  }
  return bytes;
}

/** Number of the instruction that each label stands before. */
function placesOf(program: readonly Instruction[]): Map<string, number> {
  const places = new Map<string, number>();
  let number = 0;
  for (const one of program) {
    if (one.op !== 'label') number++;
    else if (places.has(one.label)) throw new RangeError(`the label ${one.label} stands twice`);
    else places.set(one.label, number);
  }
  return places;
}

/** From the instruction after the jump at byte `at`; the kernel takes 16 bits. */
function distance(places: ReadonlyMap<string, number>, label: string, at: number): number {
  const place = places.get(label);
  if (place === undefined) throw new RangeError(`no label ${label}`);
  const offset = place - (at / INSTRUCTION_BYTES + 1);
  if (offset > 0x7fff || offset < -0x8000)
    throw new RangeError(`the label ${label} is ${offset} instructions away`);
  return offset;
}
