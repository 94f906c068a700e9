// Pods with branch ENIs: who reaches whom, by which way, and as whom it is seen, port included, in both modes and families;
// what others take away comes back, and what goes leaves nothing.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { parseIp } from '../../src/base/ip.ts';
import { createDatapath } from '../../src/datapath/datapath.ts';
import { BRANCH_TABLE } from '../../src/datapath/marks.ts';
import { quiet } from '../../src/datapath/testing.ts';
import { programsOn, setProgram } from '../../src/kernel/bpf/hooks.ts';
import { NfNetlink } from '../../src/kernel/nfnetlink.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { allow, edit, INTERNET_HOST, skipReason } from '../../src/lab/fabric/testing.ts';
import {
  BranchWorld,
  DB,
  DB6,
  hostIfname,
  ipOf,
  NODE,
  NODE6,
  NODE_GROUP,
  NODE_PUBLIC,
  nodeWith,
  PLAIN,
  PODS,
  worldState,
} from './branch-world.ts';

const SILENT = 'silent';
const same = (ip: string) => `${ip}, same port`;
const [A, B, C, D, E] = ['a', 'b', 'c', 'd', 'e'].map((pod) => ipOf(pod)) as [
  string,
  string,
  string,
  string,
  string,
];

describe('pods with branches', { skip: skipReason }, () => {
  let world: BranchWorld;
  before(async () => {
    world = await BranchWorld.open();
  });
  after(() => world?.close());

  const rows: [from: string, to: string, as: string][] = [
    ['pod-a', DB!, same(A)],
    ['pod-a', B, same(A)],
    ['pod-a', PLAIN!, same(A)],
    ['pod-a', NODE!, same(A)],
    ['pod-plain', A, same(PLAIN!)],
    ['pod-plain', NODE!, same(PLAIN!)],
    ['pod-plain', DB!, same(PLAIN!)],
    ['db', A, same(DB!)],
    ['node', A, same(NODE!)],
    ['node', DB!, same(NODE!)],
    // Of a group that lets nothing in: the node's own probes need no rule.
    ['node', C, same(NODE!)],
    ['pod-a', C, SILENT],
    ['pod-plain', C, SILENT],
    ['db', C, SILENT],
    ['pod-c', DB!, same(C)],
    ['pod-c', A, same(C)],
    // Standard: as strict towards the VPC and towards strict pods, and no group is asked on the node.
    ['pod-d', DB!, same(D)],
    ['db', D, same(DB!)],
    ['db', E, SILENT],
    ['pod-d', NODE!, same(D)],
    ['pod-d', PLAIN!, same(D)],
    ['pod-d', E, same(D)],
    ['pod-e', D, same(E)],
    ['pod-plain', D, same(PLAIN!)],
    ['pod-plain', E, same(PLAIN!)],
    ['node', D, same(NODE!)],
    ['node', E, same(NODE!)],
    ['pod-d', A, same(D)],
    ['pod-d', C, SILENT],
    ['pod-a', D, same(A)],
    ['pod-a', E, SILENT],
    ['pod-e', A, same(E)],
    // Outside the VPC a pod in standard mode has the node's address; a strict one its own, which needs a NAT gateway.
    ['pod-d', INTERNET_HOST, same(NODE_PUBLIC)],
    ['pod-a', INTERNET_HOST, SILENT],
  ];
  for (const [from, to, as] of rows) {
    test(`${from} to ${to}: ${as}`, () => assert.equal(world.seen(from, to), as));
  }

  const [a6, c6, d6, e6, s6, t6] = ['a', 'c', 'd', 'e', 's', 't'].map((pod) => ipOf(pod, 6)) as string[];
  const rows6: [from: string, to: string, as: string][] = [
    ['pod-a', DB6!, a6!],
    ['pod-a', s6!, a6!],
    ['pod-a', NODE6!, a6!],
    ['pod-a', d6!, a6!],
    ['pod-a', c6!, SILENT],
    ['pod-a', e6!, SILENT],
    ['pod-s', DB6!, s6!],
    ['pod-s', a6!, s6!],
    ['pod-s', t6!, s6!],
    ['pod-d', DB6!, d6!],
    ['pod-d', NODE6!, d6!],
    ['pod-d', e6!, d6!],
    ['pod-d', t6!, d6!],
    ['pod-d', s6!, d6!],
    ['pod-t', DB6!, t6!],
    ['pod-t', d6!, t6!],
    ['db', a6!, DB6!],
    ['db', s6!, DB6!],
    ['db', t6!, DB6!],
    ['db', c6!, SILENT],
    ['db', e6!, SILENT],
    ['node', a6!, NODE6!],
    ['node', c6!, NODE6!],
    ['node', d6!, NODE6!],
    ['node', e6!, NODE6!],
  ];
  for (const [from, to, who] of rows6) {
    const as = who === SILENT ? SILENT : same(who);
    test(`${from} to ${to}: ${as}`, () => assert.equal(world.seen(from, to), as));
  }
});
