// Programs on links of this kernel, by both ways of attaching: frames that carry tags between two namespaces, without the
// 8021q module, and what happens to programs when their processes and links end.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { parseIp } from '../../base/ip.ts';
import { parseMac } from '../../base/mac.ts';
import { SyscallError } from '../errors.ts';
import { createAnonymousNetns, type Netns, withNetns } from '../netns.ts';
import { RtNetlink } from '../rtnetlink.ts';
import { inFreshNetns, needsRoot } from '../testing.ts';
import { assemble } from './assemble.ts';
import { hookWay, programsOn, setProgram, type Way } from './hooks.ts';
import { keepOffSockets, popByIndex, popByList, pushTo } from './programs.ts';
import { loadProgram, ProgramRefused, tcxAttach, tcxPrograms } from './syscall.ts';

const BASE = 0x500000;
const WAYS: Way[] = ['tcx', 'clsact'];

/** A link of a branch: up, with an address; what leaves by it gets the tag. */
function branch(ns: Netns, way: Way, vlan: number, ip: string, mac: string): number {
  using rt = RtNetlink.open(ns);
  const index = BASE + vlan;
  rt.apply([
    { op: 'veth-add', name: `b${vlan}`, index, mac: parseMac(mac), peer: { name: `x${vlan}` } },
    { op: 'addr-add', index, ip: parseIp(ip), length: 24 },
    { op: 'link-set', name: `x${vlan}`, up: true },
    { op: 'link-set', index, up: true },
  ]);
  setProgram(ns, index, 'egress', pushTo(vlan, rt.link('trunk')!.index), way);
  return index;
}

/** How long an answer may take (s), on a busy machine; and how long none has to come. */
const PATIENCE = '-W30';
const SILENCE = '-W0.4';
const answers = (ns: Netns, ip: string, wait = PATIENCE): boolean =>
  withNetns(ns, () => spawnSync('ping', ['-c1', wait, '-n', ip]).status === 0);

describe('programs on links', needsRoot, () => {
  for (const way of WAYS) {
    test(`${way}: frames bear the tag of their branch on the trunk, and reach the branch of their tag alone`, () =>
      inFreshNetns((near) => {
        using far = createAnonymousNetns();
        using rt = RtNetlink.open(near);
        using farRt = RtNetlink.open(far);
        rt.apply([{ op: 'veth-add', name: 'trunk', peer: { name: 'trunk', netns: far } }]);
        rt.apply([{ op: 'link-set', name: 'trunk', up: true }]);
        farRt.apply([{ op: 'link-set', name: 'trunk', up: true }]);
        branch(near, way, 7, '10.9.7.1', '02:00:00:00:07:01');
        const there = branch(far, way, 7, '10.9.7.2', '02:00:00:00:07:02');
        const [nearTrunk, farTrunk] = [rt.link('trunk')!.index, farRt.link('trunk')!.index];
        setProgram(near, nearTrunk, 'ingress', popByIndex(BASE), way);
        // Without a program the tagged frames belong to nobody.
        assert.equal(answers(near, '10.9.7.2', SILENCE), false);
        setProgram(far, farTrunk, 'ingress', popByList([{ vlan: 8, index: there }]), way);
        assert.equal(answers(near, '10.9.7.2', SILENCE), false);
        setProgram(far, farTrunk, 'ingress', popByList([{ vlan: 7, index: there }]), way);
        assert.equal(programsOn(far, farTrunk, 'ingress', way).length, 1);
        assert.equal(answers(near, '10.9.7.2'), true);
        // What bears no tag goes its usual way.
        rt.apply([{ op: 'addr-add', index: nearTrunk, ip: parseIp('10.9.0.1'), length: 24 }]);
        farRt.apply([{ op: 'addr-add', index: farTrunk, ip: parseIp('10.9.0.2'), length: 24 }]);
        assert.equal(answers(near, '10.9.0.2'), true);
        // A branch that has gone: its frames are dropped, others' go on.
        farRt.apply([{ op: 'link-del', index: there }]);
        assert.equal(answers(near, '10.9.7.2', SILENCE), false);
        assert.equal(answers(near, '10.9.0.2'), true);
      }));

    test(`${way}: a program is set, replaced and taken away, and leaves others alone`, () =>
      inFreshNetns((ns) => {
        using rt = RtNetlink.open(ns);
        rt.apply([{ op: 'veth-add', name: 'a', peer: { name: 'b' } }]);
        const { index } = rt.link('a')!;
        const other = { name: 'other', bytes: keepOffSockets().bytes };
        if (way === 'tcx') {
          using loaded = loadProgram(other);
          tcxAttach(ns, index, 'ingress', loaded);
        }
        const on = () => programsOn(ns, index, 'ingress', way);
        assert.deepEqual(on(), []);
        setProgram(ns, index, 'ingress', null, way);
        setProgram(ns, index, 'ingress', popByIndex(1), way);
        setProgram(ns, index, 'ingress', popByIndex(1), way);
        assert.deepEqual(on(), [popByIndex(1).name]);
        assert.deepEqual(programsOn(ns, index, 'egress', way), []);
        setProgram(ns, index, 'ingress', popByIndex(2), way);
        setProgram(ns, index, 'egress', pushTo(1, 2), way);
        assert.deepEqual(on(), [popByIndex(2).name]);
        assert.deepEqual(programsOn(ns, index, 'egress', way), [pushTo(1, 2).name]);
        setProgram(ns, index, 'ingress', null, way);
        assert.deepEqual(on(), []);
        if (way === 'tcx') {
          const left = tcxPrograms(ns, index, 'ingress')!;
          assert.deepEqual(
            left.map((one) => one.name),
            ['other'],
          );
          for (const one of left) one[Symbol.dispose]();
        }
      }));
  }

  test('two of ours on one hook, after a race of two processes, become one', () =>
    inFreshNetns((ns) => {
      using rt = RtNetlink.open(ns);
      rt.apply([{ op: 'veth-add', name: 'a', peer: { name: 'b' } }]);
      const { index } = rt.link('a')!;
      for (const base of [1, 2, 3]) {
        using loaded = loadProgram(popByIndex(base));
        tcxAttach(ns, index, 'ingress', loaded);
      }
      setProgram(ns, index, 'ingress', popByIndex(2));
      assert.deepEqual(programsOn(ns, index, 'ingress'), [popByIndex(2).name]);
    }));

  test('a program outlives the process that attached it', () =>
    inFreshNetns((ns) => {
      using rt = RtNetlink.open(ns);
      rt.apply([{ op: 'veth-add', name: 'a', peer: { name: 'b' } }]);
      const { index } = rt.link('a')!;
      const code = `
        const { setProgram } = await import(${JSON.stringify(import.meta.resolve('./hooks.ts'))});
        const { popByIndex } = await import(${JSON.stringify(import.meta.resolve('./programs.ts'))});
        const { currentNetns } = await import(${JSON.stringify(import.meta.resolve('../netns.ts'))});
        setProgram(currentNetns(), ${index}, 'ingress', popByIndex(5));`;
      withNetns(ns, () => execFileSync(process.execPath, ['--input-type=module', '-e', code]));
      assert.deepEqual(programsOn(ns, index, 'ingress', hookWay(ns, index)), [popByIndex(5).name]);
    }));

  test('refusals name the program and the link, and give the verifier the word', () =>
    inFreshNetns((ns) => {
      const bad = { name: 'pw_bad', bytes: assemble([{ op: 'exit' }]) };
      assert.throws(
        () => loadProgram(bad),
        (error) =>
          error instanceof ProgramRefused &&
          /pw_bad: EACCES.*R0 !read_ok/.test(error.message) &&
          error.log !== '',
      );
      for (const way of WAYS) {
        assert.throws(
          () => setProgram(ns, 999, 'ingress', popByIndex(1), way),
          way === 'tcx' ? (error) => error instanceof SyscallError && error.code === 'ENODEV' : /link 999/,
        );
      }
    }));

  test('a signal that comes while the verifier works costs no program', async () => {
    const noted = () => {};
    process.on('SIGWINCH', noted);
    const sender = spawn('sh', ['-c', `while kill -WINCH ${process.pid}; do sleep 0.001; done`]);
    try {
      const program = popByList(Array.from({ length: 100 }, (_, i) => ({ vlan: i + 1, index: i + 1 })));
      for (let round = 0; round < 300; round++) {
        loadProgram(program)[Symbol.dispose]();
        await turn();
      }
    } finally {
      sender.kill('SIGKILL');
      process.off('SIGWINCH', noted);
    }
  });
});
