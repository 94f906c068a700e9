// Damage at random moments: a node whose pods come and go, whose agent is killed and whose journal is lost in random ways.
// Whatever happens, no two pods have one address, no pod that runs loses its own, none is given again within its
// cooldown, and in the end nothing is held or kept back that should not be.
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIp, type Ip } from '../../base/ip.ts';
import { encodeRecord } from '../../base/journal.ts';
import { type Lease, ownerKey } from '../state.ts';
import { podOwner, TestNode } from '../testkit.ts';

const COOLDOWN = 10_000;

type Step =
  | { kind: 'add' }
  | { kind: 'del'; which: number }
  | { kind: 'pass'; ms: number }
  | { kind: 'kill'; damage: Damage };
type Damage =
  | { kind: 'none' | 'missing' | 'empty' | 'version' | 'boot' }
  | { kind: 'cut'; at: number }
  | { kind: 'bytes'; at: number; bytes: Uint8Array }
  | { kind: 'line'; at: number; away: boolean };

const damage: fc.Arbitrary<Damage> = fc.oneof(
  fc.record({ kind: fc.constantFrom('none', 'missing', 'empty', 'version', 'boot') }),
  fc.record({ kind: fc.constant('cut'), at: fc.nat() }),
  fc.record({
    kind: fc.constant('bytes'),
    at: fc.nat(),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 60 }),
  }),
  fc.record({ kind: fc.constant('line'), at: fc.nat(), away: fc.boolean() }),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('add') }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('del'), which: fc.nat() }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('pass'), ms: fc.nat(15_000) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('kill'), damage }) },
);

/** What becomes of the file: its bytes, or null for none. */
function damaged(bytes: Buffer, what: Damage): Buffer | string | null {
  switch (what.kind) {
    case 'none':
    case 'boot':
      return bytes;
    case 'missing':
      return null;
    case 'empty':
      return '';
    case 'version':
      return encodeRecord({ journal: 7 });
    case 'cut':
      return bytes.subarray(0, what.at % (bytes.length + 1));
    case 'bytes': {
      const at = what.at % bytes.length;
      bytes.set(what.bytes.subarray(0, bytes.length - at), at);
      return bytes;
    }
    case 'line': {
      const lines = bytes.toString().split('\n');
      const at = what.at % lines.length;
      if (what.away) lines.splice(at, 1);
      else lines[at] = `${lines[at]}?`;
      return lines.join('\n');
    }
  }
}

function inflict(node: TestNode, what: Damage, round: number): void {
  if (what.kind === 'boot') node.origin = { boot: `boot ${round}`, netns: '1' };
  const after = damaged(readFileSync(node.path), what);
  if (after === null) rmSync(node.path);
  else writeFileSync(node.path, after);
}

test('random damage at random moments: one holder each, no pod loses its address, nothing leaks', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), fc.nat(), async (steps, seed) => {
      await using node = new TestNode({ seed, settings: { warm: 2, cooldownMs: COOLDOWN } });
      await node.start();
      await node.clock.advance(2_000);
      /** Pods that run, as their links say. */
      const running = new Map<string, Lease>();
      const releasedAt = new Map<Ip, number>();
      let names = 0;
      for (const [round, one] of steps.entries()) {
        if (one.kind === 'add') {
          const lease = node.pool.tryAcquire(podOwner(`p${names++}`));
          if (!lease) continue;
          const [ip] = lease.ips as [Ip];
          for (const other of running.values()) assert.notEqual(other.ips[0], ip, formatIp(ip));
          const since = node.clock.now() - (releasedAt.get(ip) ?? Number.NEGATIVE_INFINITY);
          assert.ok(since >= COOLDOWN, `${formatIp(ip)} was released ${since} ms ago`);
          running.set(ownerKey(lease.owner), lease);
        } else if (one.kind === 'del') {
          const lease = [...running.values()][one.which % (running.size || 1)];
          if (!lease) continue;
          assert.ok(node.pool.release(lease.owner), `${ownerKey(lease.owner)} is not held`);
          running.delete(ownerKey(lease.owner));
          releasedAt.set(lease.ips[0]!, node.clock.now());
        } else if (one.kind === 'pass') await node.clock.advance(one.ms);
        else {
          node.abandon();
          inflict(node, one.damage, round);
          // Cut between two records, which nothing tells: releases that are lost so are as if they had never been.
          if (one.damage.kind === 'cut' && /\n$/.test(readFileSync(node.path, 'utf8'))) releasedAt.clear();
          node.stand([...running.values()]);
          await node.start();
          for (const lease of running.values())
            assert.deepEqual(node.pool.find(lease.owner)?.ips, lease.ips, ownerKey(lease.owner));
        }
      }
      for (const lease of running.values()) node.pool.release(lease.owner);
      // What the journal still says of others has no link: their sandboxes are gone, and the node releases them.
      for (const { owner } of node.pool.held()) node.pool.release(owner);
      for (const ip of node.pool.quarantined()) node.pool.endQuarantine(ip);
      await node.clock.advance(400_000);
      const { held, free, cooling, quarantined } = node.pool.counts();
      assert.deepEqual({ held, cooling, quarantined }, { held: 0, cooling: 0, quarantined: 0 });
      assert.equal(free, 2);
      const assigned = [...node.cloud.enis.values()].reduce((sum, eni) => sum + eni.addresses.length - 1, 0);
      assert.equal(assigned, 2);
    }),
    { numRuns: 60 },
  );
});
