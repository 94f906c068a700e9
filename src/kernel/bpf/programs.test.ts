// The programs' bytes, instruction by instruction as llvm-objdump prints them, and what the assembler refuses.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assemble } from './assemble.ts';
import { isOurProgram, keepOffSockets, type Program, popByIndex, popByList, pushTo } from './programs.ts';

const lines = ({ bytes }: Program): string[] => Buffer.from(bytes).toString('hex').match(/.{16}/g) ?? [];

const READ_TAG = (untagged: string, priority: string) => [
  'bf16000000000000', // r6 = r1
  '6117140000000000', // r7 = *(u32 *)(r1 + 20)
  `1507${untagged}00000000`, // if r7 == 0 goto next
  '6117180000000000', // r7 = *(u32 *)(r1 + 24)
  '57070000ff0f0000', // r7 &= 4095
  `1507${priority}00000000`, // if r7 == 0 goto next
];
const ENDS = [
  'b7000000ffffffff', // r0 = -1
  '9500000000000000', // exit
  'b700000002000000', // r0 = 2
  '9500000000000000', // exit
];

describe('programs of links', () => {
  test('the trunk of a node takes the tag off and hands the frame to the link of its number', () => {
    assert.deepEqual(lines(popByIndex(0x500000)), [
      ...READ_TAG('0b00', '0800'),
      'bf61000000000000', // r1 = r6
      '8500000013000000', // call bpf_skb_vlan_pop
      '5500070000000000', // if r0 != 0 goto drop
      'bf71000000000000', // r1 = r7
      '0701000000005000', // r1 += 0x500000
      'b702000001000000', // r2 = BPF_F_INGRESS
      '8500000017000000', // call bpf_redirect
      '9500000000000000',
      ...ENDS,
    ]);
  });

  test('the router compares one tag after another, and passes on those that it does not know', () => {
    const tags = [
      { vlan: 8, index: 10 },
      { vlan: 7, index: 9 },
    ];
    const one = (vlan: string, drop: string, index: string) => [
      `55070700${vlan}000000`, // if r7 != vlan goto the next one
      'bf61000000000000',
      '8500000013000000',
      `5500${drop}00000000`, // if r0 != 0 goto drop
      `b7010000${index}000000`, // r1 = link
      'b702000001000000',
      '8500000017000000',
      '9500000000000000',
    ];
    assert.deepEqual(lines(popByList(tags)), [
      ...READ_TAG('1300', '1000'),
      ...one('07', '0e00', '09'),
      ...one('08', '0600', '0a'),
      ...ENDS,
    ]);
    assert.deepEqual(lines(popByList([])), [...READ_TAG('0300', '0000'), ...ENDS.slice(0, 2)]);
    assert.equal(popByList(tags).name, popByList([...tags].reverse()).name);
  });

  test('a branch puts its tag on and leaves by the trunk', () => {
    assert.deepEqual(lines(pushTo(7, 3)), [
      'b702000081000000', // r2 = 0x8100 in network order
      'b703000007000000', // r3 = VLAN id
      '8500000012000000', // call bpf_skb_vlan_push
      '5500040000000000', // if r0 != 0 goto drop
      'b701000003000000', // r1 = link of the trunk
      'b702000000000000', // r2 = 0
      '8500000017000000', // call bpf_redirect
      '9500000000000000',
      ...ENDS.slice(2),
    ]);
  });

  test('an empty tunnel key of 28 bytes is laid on the packet', () => {
    assert.deepEqual(lines(keepOffSockets()), [
      '7a0ae0ff00000000', // *(u64 *)(r10 - 32) = 0
      '7a0ae8ff00000000',
      '7a0af0ff00000000',
      '7a0af8ff00000000',
      'bfa2000000000000', // r2 = r10
      '07020000e0ffffff', // r2 += -32
      'b70300001c000000', // r3 = 28
      'b704000000000000', // r4 = 0
      '8500000015000000', // call bpf_skb_set_tunnel_key
      ...ENDS.slice(0, 2),
    ]);
  });

  test('a name tells whose a program is and what stands in it', () => {
    const names = [popByIndex(1), popByIndex(2), pushTo(1, 2), pushTo(2, 1), keepOffSockets()].map(
      (it) => it.name,
    );
    assert.equal(new Set(names).size, names.length);
    for (const name of names) assert.ok(isOurProgram(name) && name.length <= 15, name);
    assert.ok(!isOurProgram('cil_from_netdev'));
  });

  test('labels that are missing, doubled or too far are refused', () => {
    const jump = { op: 'jump-if', register: 0, is: 'eq', value: 0, label: 'end' } as const;
    const label = { op: 'label', label: 'end' } as const;
    assert.throws(() => assemble([jump]), /no label end/);
    assert.throws(() => assemble([jump, label, label]), /stands twice/);
    const far = Array.from({ length: 0x8000 }, () => ({ op: 'exit' }) as const);
    assert.throws(() => assemble([jump, ...far, label]), /32768 instructions away/);
  });
});
