// Kills at each boundary of each call that changes something in EC2, with the journal kept and with it lost: afterwards
// EC2 has no ENI and no address of this node that the pool does not know, and no pod has lost its own. FOUND_BY says what
// finds again what a kill leaves; a boundary that is not in it fails the test.
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatCidr, formatIp, hostCidr, type Ipv4 } from '../../base/ip.ts';
import type { EniId } from '../../cloud/port.ts';
import { defaultPolicy } from '../policy.ts';
import { type GivenLease, ownerKey } from '../state.ts';
import { m5Large, podOwner, settle, TestNode } from '../testkit.ts';

/** Boundary, and what finds again what a kill there leaves: with the journal, and without it. */
const FOUND_BY: Readonly<Record<string, readonly [journal: string, lost: string]>> = {
  'create:intended': ['the creation record: `resume` makes it', 'nothing was made'],
  'before:CreateNetworkInterface': ['the creation record: `resume` makes it', 'nothing was made'],
  'after:CreateNetworkInterface': [
    'its client token: the repeated create finds the ENI',
    'its tags: `orphans.ts`',
  ],
  'create:answered': ['its client token: the repeated create finds the ENI', 'its tags: `orphans.ts`'],
  'before:AttachNetworkInterface': ['the creation record with the ENI’s id', 'its tags: `orphans.ts`'],
  'after:AttachNetworkInterface': [
    'the creation record: describe shows the attachment',
    'its tags: adopted, `setup`',
  ],
  'create:attached': ['the creation record: describe shows the attachment', 'its tags: adopted, `setup`'],
  'before:ModifyNetworkInterfaceAttribute': ['the creation record', 'its tags: adopted, `setup` sets it'],
  'after:ModifyNetworkInterfaceAttribute': ['the creation record', 'its tags: adopted'],
  'before:AssignPrivateIpAddresses': [
    'the `assigning` record: so many new ones are ours',
    'nothing was assigned',
  ],
  'after:AssignPrivateIpAddresses': [
    'the `assigning` record: so many new ones are ours',
    'first sight: ours',
  ],
  'assign:answered': ['the `assigning` record: so many new ones are ours', 'first sight: ours'],
  'unassign:intended': ['the block is `leaving`: asked again', 'first sight: ours, idle'],
  'before:UnassignPrivateIpAddresses': ['the block is `leaving`: asked again', 'first sight: ours, idle'],
  'after:UnassignPrivateIpAddresses': ['the block is `leaving`: EC2 says that it is gone', 'nothing is left'],
  'unassign:answered': ['the block is `leaving`: EC2 says that it is gone', 'nothing is left'],
  'remove:intended': ['the ENI is `leaving`: removed again', 'its tags: adopted, idle'],
  'before:DetachNetworkInterface': ['the ENI is `leaving`: removed again', 'its tags: adopted, idle'],
  'after:DetachNetworkInterface': ['the ENI is `leaving`: deleted', 'its tags: `orphans.ts`'],
  'remove:detached': ['the ENI is `leaving`: deleted', 'its tags: `orphans.ts`'],
  'before:DeleteNetworkInterface': ['the ENI is `leaving`: deleted', 'its tags: `orphans.ts`'],
  'after:DeleteNetworkInterface': ['the ENI is `leaving`: NotFound ends it', 'nothing is left'],
  'remove:deleted': ['the ENI is `leaving`: NotFound ends it', 'nothing is left'],
};
const READS = /Describe/;

class Killed extends Error {}
const never = new Promise<never>(() => {});

/** A node whose process dies at the n-th boundary from when it was armed. */
class MortalNode {
  readonly node: TestNode;
  readonly leases = new Map<string, GivenLease>();
  readonly passed: string[] = [];
  died: string | null = null;
  #left = Number.POSITIVE_INFINITY;
  #armed = false;
  #bytes: Buffer | null = null;
  #life = 0;

  constructor(prefixes: boolean) {
    this.node = new TestNode({
      settings: { warm: 0, cooldownMs: 1_000, idleReleaseMs: 5_000, beforeReuse: () => {} },
    });
    this.prefixes = prefixes;
    const { cloud } = this.node;
    for (const when of ['before', 'after'] as const)
      cloud[when] = async (action) => {
        const life = this.#life;
        if (!READS.test(action)) this.#pass(`${when}:${action}`);
        await new Promise((resolve) => setImmediate(resolve));
        if (this.died !== null || life !== this.#life) await never;
      };
    this.node.onBoundary = (name) => {
      if (this.died !== null) throw new Killed();
      if (name.startsWith('journal:')) return;
      this.#pass(name);
      if (this.died !== null) throw new Killed();
    };
  }

  readonly prefixes: boolean;

  async start(): Promise<void> {
    await this.node.start();
    if (this.prefixes) {
      const targets = { kind: 'warm', free: 0 } as const;
      const podLimit = m5Large.pods;
      this.node.pool.setPolicy({
        ...defaultPolicy,
        addressing: 'prefix',
        targets,
        podLimit,
        idleReleaseMs: 5_000,
      });
    }
  }

  arm(after: number): void {
    this.#left = after;
    this.#armed = true;
  }

  #pass(name: string): void {
    if (!this.#armed || this.died !== null) return;
    this.passed.push(name);
    if (this.#left-- > 0) return;
    this.died = name;
    this.#bytes = readFileSync(this.node.path);
  }

  add(name: string): void {
    const owner = podOwner(name);
    this.node.pool.acquire(owner).then(
      (lease) => this.leases.set(ownerKey(owner), lease),
      () => {},
    );
  }

  release(): void {
    for (const lease of this.leases.values()) this.node.pool.release(lease.owner);
    this.leases.clear();
  }

  /** Starts the process again, with its journal as it was or without it. */
  async revive(lost: boolean): Promise<void> {
    this.#armed = false;
    if (this.died === null) return;
    this.#life++;
    this.node.abandon();
    await settle();
    this.died = null;
    this.node.stand([...this.leases.values()]);
    if (lost) rmSync(join(this.node.dir, 'journal'));
    else writeFileSync(this.node.path, this.#bytes!);
    await this.start();
    // The runtime deletes what it was given no answer for.
    for (const lease of this.node.pool.held())
      if (!this.leases.has(ownerKey(lease.owner))) this.node.pool.release(lease.owner);
  }

  async agree(): Promise<void> {
    const { node } = this;
    for (let i = 0; i < 6; i++) await node.clock.advance(60_000);
    const { state } = node.pool;
    assert.equal(state.creations.size, 0, 'a creation is left');
    assert.deepEqual([...state.enis.keys()].sort(), [...node.cloud.enis.keys()].sort(), 'ENIs');
    const held = node.pool.held().map((lease) => `${ownerKey(lease.owner)} ${lease.ips.map(formatIp)}`);
    const expected = [...this.leases].map(([key, lease]) => `${key} ${lease.ips.map(formatIp)}`);
    assert.deepEqual(held.sort(), expected.sort(), 'holders');
    for (const eni of state.enis.values()) {
      const truth = node.cloud.enis.get(eni.id)!;
      assert.ok(truth.attachment?.deleteOnTermination, `${eni.id} would outlive the instance`);
      const theirs = truth.addresses.filter((one) => !one.primary).map((one) => hostCidr(one.ip));
      const all = [...theirs, ...truth.ipv4Prefixes].map(formatCidr).sort();
      assert.deepEqual([...eni.blocks.values()].map((one) => formatCidr(one.cidr)).sort(), all, eni.id);
      assert.ok(
        ![...eni.blocks.values()].some((one) => one.foreign || one.leaving),
        'all ours, none half gone',
      );
    }
    const { held: count } = node.pool.counts();
    assert.equal(
      node.pool.counts().free,
      this.prefixes && count > 0 ? 16 - (count % 16) : 0,
      'idle ones went back',
    );
  }
}

type Scenario = {
  name: string;
  prefixes?: boolean;
  before?: (it: MortalNode) => Promise<void>;
  act: (it: MortalNode) => Promise<void>;
};

const pods = (it: MortalNode, from: number, count: number) => {
  for (let i = from; i < from + count; i++) it.add(`p${i}`);
};
const grown = async (it: MortalNode) => {
  pods(it, 0, 11);
  await it.node.clock.advance(4_000);
};
const second = (it: MortalNode) =>
  [...it.node.cloud.enis.values()].find((one) => one.attachment?.deviceIndex === 1)!;

const scenarios: Scenario[] = [
  {
    name: 'addresses and an ENI for eleven pods',
    act: async (it) => {
      pods(it, 0, 11);
      await it.node.clock.advance(3_000);
    },
  },
  {
    name: 'all of them returned',
    before: grown,
    act: async (it) => {
      it.release();
      await it.node.clock.advance(60_000);
    },
  },
  {
    name: 'a prefix for a pod',
    prefixes: true,
    act: async (it) => {
      pods(it, 0, 1);
      await it.node.clock.advance(3_000);
    },
  },
  {
    name: 'a prefix returned',
    prefixes: true,
    before: async (it) => {
      pods(it, 0, 1);
      await it.node.clock.advance(3_000);
    },
    act: async (it) => {
      it.release();
      await it.node.clock.advance(60_000);
    },
  },
  {
    name: 'a pod’s address that somebody unassigned',
    before: grown,
    act: async (it) => {
      const lease = [...it.leases.values()][0]!;
      it.node.cloud.takeAway(lease.eni.id, lease.ips[0] as Ipv4, true);
      it.node.pool.reconcileNow().catch(() => {});
      await it.node.clock.advance(3_000);
    },
  },
  {
    name: 'a pod’s address that came to another ENI of the node',
    before: grown,
    act: async (it) => {
      const lease = [...it.leases.values()].find((one) => one.eni.deviceIndex === 0)!;
      it.node.cloud.moveTo(second(it).id, lease.eni.id as EniId, lease.ips[0] as Ipv4);
      it.node.pool.reconcileNow().catch(() => {});
      await it.node.clock.advance(20_000);
    },
  },
  {
    name: 'an ENI that somebody detached from under pods',
    before: grown,
    act: async (it) => {
      const eni = second(it);
      eni.attachment = null;
      eni.status = 'available';
      it.node.pool.reconcileNow().catch(() => {});
      await it.node.clock.advance(3_000);
    },
  },
];

const seen = new Set<string>();

for (const { name, prefixes = false, before, act } of scenarios)
  for (const lost of [false, true])
    test(`${name}: a kill at each boundary, the journal ${lost ? 'lost' : 'kept'}`, async () => {
      let ends = false;
      for (let count = 0; !ends; count++) {
        assert.ok(count < 100, 'boundaries without end');
        const it = new MortalNode(prefixes);
        await using _node = it.node;
        await it.start();
        await before?.(it);
        it.arm(count);
        await act(it);
        ends = it.died === null;
        const where = it.died ?? 'no kill';
        for (const one of it.passed) seen.add(one);
        await it.revive(lost);
        await it.agree().catch((error: Error) => {
          throw new Error(`killed at ${where} (${count}): ${error.message}`, { cause: error });
        });
      }
    });

test('each boundary has its row, and each row its boundary', () => {
  assert.deepEqual([...seen].sort(), Object.keys(FOUND_BY).sort());
});
