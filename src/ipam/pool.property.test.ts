// The pool under chaos: pods come and go, calls fail before and after their effect, describes lag and are shuffled, the
// process is killed at journal and cloud boundaries. What must hold: no two holders of one address; none given again
// within its cooldown; none held is given back to EC2; what was answered survives; in the end the pool, the journal
// and the cloud agree and are at the warm target.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatIp, type Ip, type Ipv4 } from '../base/ip.ts';
import { CloudError, type EniDescription, type EniId } from '../cloud/port.ts';
import { type Lease, ownerKey } from './state.ts';
import { podOwner, settle, TestNode } from './testkit.ts';

const RUNS = Number(process.env['PODWAY_PROPERTY_RUNS'] ?? 40);
const COOLDOWN = 30_000;

type Event =
  | { kind: 'add'; count: number }
  | { kind: 'del'; pick: number; count: number }
  | { kind: 'wait'; ms: number }
  | { kind: 'restart' }
  | { kind: 'kill'; after: number }
  | { kind: 'fail'; calls: number; when: 'before' | 'after'; code: string }
  | { kind: 'lag'; seconds: number }
  | { kind: 'take'; pick: number }
  | { kind: 'detach' }
  | { kind: 'full' }
  | { kind: 'roomy' };

const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ kind: fc.constant('add' as const), count: fc.integer({ min: 1, max: 12 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('del' as const),
      pick: fc.nat(40),
      count: fc.integer({ min: 1, max: 12 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('wait' as const),
      ms: fc.constantFrom(0, 10, 700, 5_000, 31_000, 95_000),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('kill' as const), after: fc.nat(12) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('fail' as const),
      calls: fc.integer({ min: 1, max: 4 }),
      when: fc.constantFrom('before' as const, 'after' as const),
      code: fc.constantFrom('Network', 'RequestLimitExceeded', 'UnauthorizedOperation', 'InternalError'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('lag' as const), seconds: fc.constantFrom(0, 5, 20) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('take' as const), pick: fc.nat(40) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'detach' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'full' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'roomy' as const }) },
);

class Killed extends Error {}
const never = new Promise<never>(() => {});

/** A node whose process can be killed at the n-th boundary from now, and a model of what its callers know. */
class ChaosNode {
  readonly node: TestNode;
  /** What callers were told they hold. */
  readonly answered = new Map<string, Lease>();
  /** When an address was released, by the latest that its holder could still be using it. */
  readonly releasedAt = new Map<Ip, number>();
  /** Taken by others and not back yet. */
  readonly #takenByOthers = new Set<Ip>();
  /** Until the pool attaches it again, more addresses may come to it and be given out. */
  readonly #detachedByOthers = new Set<EniId>();
  #killIn = -1;
  #generation = 0;
  #dead = false;
  #bytesAtDeath: Buffer | null = null;
  #failures: { calls: number; when: 'before' | 'after'; code: string } | null = null;
  #next = 0;
  #lag = 0;
  #history: { at: number; truth: EniDescription[] }[] = [];
  #seed: number;

  constructor(seed: number) {
    this.#seed = seed + 1;
    this.node = new TestNode({
      seed: seed + 1,
      settings: { cooldownMs: COOLDOWN, waitMs: 20_000, beforeReuse: () => {} },
    });
    const { cloud } = this.node;
    cloud.before = (action) => this.#cloudBoundary('before', action);
    cloud.after = async (action) => {
      this.#checkHeldIsAttached(action);
      this.#history.push({ at: this.node.clock.now(), truth: structuredClone([...cloud.enis.values()]) });
      if (this.#history.length > 200) this.#history.splice(0, 100);
      await this.#cloudBoundary('after', action);
    };
    cloud.describeLag = (truth) => {
      const at = this.node.clock.now() - this.#lag * 1000;
      const seen = this.#history.findLast((one) => one.at <= at)?.truth ?? truth;
      const list = this.#lag === 0 ? truth : structuredClone(seen).filter((eni) => eni.attachment);
      return list
        .sort(() => this.#random() - 0.5)
        .map((eni) => ({ ...eni, addresses: this.#shuffled(eni.addresses) }));
    };
    this.node.onBoundary = (name) => this.#boundary(name);
  }

  #random(): number {
    this.#seed = (this.#seed * 1_103_515_245 + 12_345) & 0x7fffffff;
    return this.#seed / 0x7fffffff;
  }

  #shuffled(addresses: EniDescription['addresses']): EniDescription['addresses'] {
    const [primary, ...rest] = addresses;
    return [primary!, ...rest.sort(() => this.#random() - 0.5)];
  }

  #boundary(_name: string): void {
    if (this.#dead) throw new Killed();
    if (this.#killIn < 0) return;
    if (this.#killIn-- > 0) return;
    this.#dead = true;
    this.#bytesAtDeath = readFileSync(join(this.node.dir, 'journal'));
    throw new Killed();
  }

  async #cloudBoundary(when: 'before' | 'after', action: string): Promise<void> {
    const generation = this.#generation;
    try {
      this.#boundary(`cloud:${when}:${action}`);
    } catch {
      await never;
    }
    const failures = this.#failures;
    if (failures && failures.when === when) {
      failures.calls--;
      if (failures.calls <= 0) this.#failures = null;
      // An answer that is lost after its effect is never a refusal.
      throw new CloudError(
        action,
        when === 'after' ? 'Network' : failures.code,
        'injected',
        when === 'after',
      );
    }
    await new Promise((resolve) => setImmediate(resolve));
    if (this.#dead || generation !== this.#generation) await never;
  }

  #attached(): Set<Ip> {
    const there = new Set<Ip>();
    for (const eni of this.node.cloud.enis.values()) {
      if (eni.attachment) for (const one of eni.addresses) there.add(one.ip);
    }
    return there;
  }

  #checkHeldIsAttached(action: string): void {
    const there = this.#attached();
    for (const [key, lease] of this.answered) {
      for (const ip of lease.ips) {
        if (there.has(ip)) this.#takenByOthers.delete(ip);
        else if (!this.#isTaken(ip))
          this.problem ??= new Error(`${formatIp(ip)} held by ${key} was given back by ${action}`);
      }
    }
  }

  async start(): Promise<void> {
    await this.node.start();
  }

  /** Starts the process again if it was killed. */
  async revive(): Promise<void> {
    if (!this.#dead) return;
    this.#generation++;
    this.node.abandon();
    await settle();
    this.#dead = false;
    this.#killIn = -1;
    writeFileSync(join(this.node.dir, 'journal'), this.#bytesAtDeath!);
    await this.node.start();
    this.#afterRestart();
  }

  #afterRestart(): void {
    const held = new Map(this.node.pool.held().map((lease) => [ownerKey(lease.owner) as string, lease]));
    for (const [key, lease] of this.answered) {
      assert.deepEqual(held.get(key)?.ips, lease.ips, `${key} lost its address over a restart`);
    }
    // Whoever was not answered is not there any more: the runtime deletes what it does not know.
    for (const [key, lease] of held) if (!this.answered.has(key)) this.release(lease);
  }

  async run(event: Event): Promise<void> {
    const { node } = this;
    if (event.kind === 'add') for (let i = 0; i < event.count; i++) this.add();
    else if (event.kind === 'del') {
      const leases = [...this.answered.values()];
      for (let i = 0; i < event.count && leases.length > 0 && !this.#dead; i++) {
        this.release(leases.splice((event.pick + i) % leases.length, 1)[0]!);
      }
    } else if (event.kind === 'wait') await node.clock.advance(event.ms);
    else if (event.kind === 'restart') {
      this.#killIn = -1;
      this.#generation++;
      await node.restart();
      this.#afterRestart();
    } else if (event.kind === 'kill') this.#killIn = event.after;
    else if (event.kind === 'fail')
      this.#failures = { calls: event.calls, when: event.when, code: event.code };
    else if (event.kind === 'lag') this.#lag = event.seconds;
    else if (event.kind === 'take') this.#take(event.pick);
    else if (event.kind === 'detach') await this.#detach();
    else if (event.kind === 'full') node.cloud.occupy('subnet-0a', 3);
    else node.cloud.vacate('subnet-0a');
    await settle(4);
    await this.revive();
    this.checkPool();
  }

  /** Somebody unassigns the address of a pod. */
  #take(pick: number): void {
    const leases = [...this.answered.values()];
    const lease = leases[pick % leases.length];
    const ip = lease?.ips[0] as Ipv4 | undefined;
    if (!lease?.eni || ip === undefined || !this.#attached().has(ip)) return;
    this.#takenByOthers.add(ip);
    this.node.cloud.takeAway(lease.eni.id, ip, true);
  }

  #isTaken(ip: Ip): boolean {
    if (this.#takenByOthers.has(ip)) return true;
    const eni = [...this.node.cloud.enis.values()].find((one) => one.addresses.some((at) => at.ip === ip));
    return eni !== undefined && this.#detachedByOthers.has(eni.id);
  }

  /** Somebody detaches an ENI that has pods. */
  async #detach(): Promise<void> {
    const lease = [...this.answered.values()].find((one) => one.eni && one.eni.deviceIndex > 0);
    const eni = lease?.eni && this.node.cloud.enis.get(lease.eni.id);
    if (!eni?.attachment) return;
    this.#detachedByOthers.add(eni.id);
    eni.attachment = null;
    eni.status = 'available';
  }

  add(): void {
    const owner = podOwner(`p${this.#next++}`);
    const key = ownerKey(owner);
    const { pool } = this.node;
    pool
      .acquire(owner)
      .then(
        (lease) => {
          const now = this.node.clock.now();
          for (const ip of lease.ips) {
            assert.ok(
              this.#attached().has(ip) || this.#isTaken(ip),
              `${formatIp(ip)} was given out and EC2 does not route it here`,
            );
            const holder = [...this.answered].find(([, other]) => other.ips.includes(ip));
            assert.equal(holder, undefined, `${formatIp(ip)} has two holders`);
            const released = this.releasedAt.get(ip);
            assert.ok(
              released === undefined || released + COOLDOWN <= now,
              `${formatIp(ip)} was given within its cooldown`,
            );
          }
          this.answered.set(key, lease);
        },
        () => {},
      )
      .catch((error) => {
        this.problem ??= error as Error;
      });
  }

  problem: Error | undefined;

  release(lease: Lease): void {
    const key = ownerKey(lease.owner);
    try {
      this.node.pool.release(lease.owner);
    } catch (error) {
      // Killed in the middle: it is released when the journal says so, and was in use until now.
      if (!this.#dead) throw error;
    }
    for (const ip of lease.ips) this.releasedAt.set(ip, this.node.clock.now());
    this.answered.delete(key);
  }

  checkPool(): void {
    if (this.problem) throw this.problem;
    const owners = new Map<Ip, string>();
    for (const lease of this.node.pool.held()) {
      for (const ip of lease.ips) {
        assert.ok(!owners.has(ip), `${formatIp(ip)} is held twice`);
        owners.set(ip, ownerKey(lease.owner));
      }
    }
    for (const [key, lease] of this.answered) {
      for (const ip of lease.ips) assert.equal(owners.get(ip), key, `${formatIp(ip)} is not with ${key}`);
    }
  }

  /** Ends all trouble and lets time pass. */
  async calm(): Promise<void> {
    this.#killIn = -1;
    this.#failures = null;
    this.#lag = 0;
    this.node.cloud.vacate('subnet-0a');
    for (let i = 0; i < 8; i++) await this.node.clock.advance(60_000);
    this.checkPool();
  }

  checkAgreement(): void {
    const { pool, cloud } = this.node;
    assert.equal(pool.state.creations.size, 0, 'a creation is left over');
    assert.equal(pool.state.busy.size, 0, 'a call is left over');
    assert.equal(pool.state.taken.size, 0, 'an address that nobody has is not had back');
    const there = this.#attached();
    for (const lease of this.answered.values())
      assert.ok(there.has(lease.ips[0]!), `${formatIp(lease.ips[0]!)} was not had back`);
    const known = [...pool.state.enis.keys()].sort();
    assert.deepEqual(known, [...cloud.enis.keys()].sort(), 'the pool and the cloud know other ENIs');
    for (const eni of pool.state.enis.values()) {
      const truth = cloud.enis.get(eni.id)!;
      assert.ok(truth.attachment, `${eni.id} hangs nowhere`);
      assert.ok(truth.attachment.deleteOnTermination, `${eni.id} would outlive the instance`);
      const ours = [...eni.blocks.keys()].map((ip) => formatIp(ip)).sort();
      const theirs = truth.addresses
        .filter((one) => !one.primary)
        .map((one) => formatIp(one.ip))
        .sort();
      assert.deepEqual(ours, theirs, `${eni.id} has other addresses`);
    }
  }
}

test('under chaos no address has two holders, none is given while cooling, none held is given back; it converges', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(event, { minLength: 5, maxLength: 40 }),
      fc.nat(1_000_000),
      async (events, seed) => {
        const chaos = new ChaosNode(seed);
        await using _node = chaos.node;
        await chaos.start();
        for (const one of events) await chaos.run(one);
        await chaos.calm();
        chaos.checkAgreement();
        const { free, held, cooling, foreign } = chaos.node.pool.counts();
        assert.equal(foreign, 0, 'an address of ours is taken for somebody else’s');
        assert.equal(held, chaos.answered.size);
        assert.equal(cooling, 0);
        assert.equal(free, Math.min(4, 27 - held), 'not at the warm target');
        for (const lease of [...chaos.answered.values()]) chaos.release(lease);
        await chaos.calm();
        chaos.checkAgreement();
        assert.equal(chaos.node.pool.counts().free, 4);
        assert.equal(chaos.node.cloud.enis.size, 1, 'an idle ENI stays');
      },
    ),
    { numRuns: RUNS, endOnFailure: process.env['PODWAY_PROPERTY_SHRINK'] === undefined },
  );
});
