// Rules, routes and the nft table of pods with branches, as values.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatCidr, parseCidr, parseIp } from '../base/ip.ts';
import { parseMac } from '../base/mac.ts';
import { type Branch, branchRoutes, branchRules, renderBranchScript, renderBranchTable } from './branch.ts';

const branch = (vlan: number, ips: string[]): Branch => ({
  eniId: `eni-${vlan}`,
  mac: parseMac('02:00:00:00:00:07'),
  vlan,
  subnetCidr: parseCidr('10.0.9.0/24'),
  hostIfname: `pw${vlan}`,
  ips: ips.map(parseIp),
});
const node = { branches: [branch(7, ['10.0.9.33']), branch(4094, ['10.0.9.34', '2600::34'])] };
const text = (rule: ReturnType<typeof branchRules>[number]): string =>
  [
    `${rule.family} ${rule.priority}:`,
    rule.invert ? 'not' : '',
    rule.iifname ?? '',
    rule.fwmask ? `0x${(rule.fwmark ?? 0).toString(16)}/0x${rule.fwmask.toString(16)}` : '',
    rule.action === 'goto' ? `goto ${rule.goto}` : (rule.action ?? `table 0x${rule.table.toString(16)}`),
  ]
    .filter((part) => part !== '')
    .join(' ');

describe('branches as values', () => {
  it('nothing is there without a branch', () => {
    assert.deepEqual([branchRules({}), branchRoutes({ branches: [] })], [[], []]);
    assert.doesNotMatch(renderBranchScript(null), /chain/);
  });

  it('packets that leave by a branch alone walk the rules of branches, before the node’s own addresses', () => {
    const four = (rules: ReturnType<typeof branchRules>) =>
      rules.filter(({ family }) => family === 4).map(text);
    assert.deepEqual(four(branchRules(node)), [
      '4 1: not 0x400/0xc00 goto 20',
      '4 9: 0x1400/0x1c00 table 0x7000',
      '4 10: pw7 table 0x6007',
      '4 10: pw4094 table 0x6ffe',
      '4 11: 0x400/0xc00 blackhole',
      '4 20: table 0xff',
      '4 509: 0x1000/0x1400 table 0x6fff',
      '4 509: 0x1c00/0x1c00 table 0x6000',
      '4 510: lo 0x0/0xc00 table 0x6000',
      '4 510: 0x800/0xc00 table 0x6000',
      '4 511: 0x800/0xc00 blackhole',
    ]);
    assert.deepEqual(
      branchRules(node)
        .filter(({ family, priority }) => family === 6 && priority === 10)
        .map(text),
      ['6 10: pw4094 table 0x6ffe'],
    );
    // With policies only what they have judged finds a pod, what the node sends aside.
    const judged = four(branchRules({ ...node, judged: { mark: 0x100, mask: 0x300 } }));
    assert.ok(judged.includes('4 510: 0x900/0xf00 table 0x6000'), judged.join('\n'));
  });

  it('a pod in standard mode leaves by its branch after all that is on the node, and moves no rule of the kernel', () => {
    const standard = { branches: [{ ...branch(9, ['10.0.9.35']), mode: 'standard' as const }] };
    assert.deepEqual(branchRules(standard).map(text), [
      '4 1025: not 0x7d/0x7f goto 1027',
      '4 1026: pw9 table 0x6009',
      '4 1027: 0x7d/0x7f blackhole',
      '4 510: lo 0x0/0xc00 table 0x6000',
      '4 510: 0x800/0xc00 table 0x6000',
      '4 511: 0x800/0xc00 blackhole',
    ]);
    const table = renderBranchTable(standard, new Map([['pw9', 14]]));
    assert.match(table, /map zones \{ typeof iif : ct zone; \}/);
    assert.match(table, /set standard \{ type iface_index; elements = \{ 14 \}; \}/);
    assert.equal(branchRoutes(standard).length, 2);
  });

  it('each branch leads to its subnet’s router by its stand-in', () => {
    assert.deepEqual(
      branchRoutes(node).map(
        (route) => `0x${route.table.toString(16)} ${formatCidr(route.dst)} ${route.oif}`,
      ),
      [
        '0x6007 10.0.9.1/32 5242887',
        '0x6007 0.0.0.0/0 5242887',
        '0x6ffe 10.0.9.1/32 5246974',
        '0x6ffe 0.0.0.0/0 5246974',
        '0x6ffe ::/0 5246974',
        // Across the pair.
        '0x6fff 0.0.0.0/0 5246977',
        '0x7000 0.0.0.0/0 5246978',
        '0x6fff ::/0 5246977',
        '0x7000 ::/0 5246978',
      ],
    );
  });

  it('the table gives each branch a zone, by the pod’s link and by the stand-in', () => {
    const table = renderBranchTable(node, new Map([['pw7', 12]]));
    assert.match(table, /map zones \{ typeof iif : ct zone; elements = \{ 12 : 7, 5242887 : 7 \}; \}/);
    assert.match(table, /map zones4 .*elements = \{ 10\.0\.9\.33 : 7 \}/);
    assert.match(table, /map zones6 \{ typeof ip6 saddr : ct zone; \}/);
    assert.match(table, /set links \{ type iface_index; elements = \{ 12 \}; \}/);
  });
});
