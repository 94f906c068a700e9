// A pool under chaos, for property tests: pods come and go, calls fail before and after their effect, describes lag and
// are shuffled, the mode of addressing changes, the process is killed at journal and cloud boundaries. It keeps what its
// callers know, and checks it at each step.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  addToIp,
  type Cidr,
  cidrContains,
  cidrSize,
  formatCidr,
  formatIp,
  hostCidr,
  type Ip,
  type Ipv4,
} from '../base/ip.ts';
import { CloudError, type EniDescription, type EniId } from '../cloud/port.ts';
import type { Addressing } from './policy.ts';
import { type Lease, ownerKey } from './state.ts';
import { podOwner, settle, TestNode } from './testkit.ts';

const COOLDOWN = 30_000;

export type Event =
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
  | { kind: 'roomy' }
  | { kind: 'fragment' }
  | { kind: 'mode'; addressing: Addressing };

class Killed extends Error {}
const never = new Promise<never>(() => {});

/** A node whose process can be killed at the n-th boundary from now, and a model of what its callers know. */
export class ChaosNode {
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

  constructor(seed: number, addressing: Addressing = 'secondary') {
    this.#seed = seed + 1;
    this.node = new TestNode({
      seed: seed + 1,
      settings: { cooldownMs: COOLDOWN, waitMs: 20_000, beforeReuse: () => {}, addressing },
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
        .map((eni) => ({
          ...eni,
          addresses: this.#shuffled(eni.addresses),
          ipv4Prefixes: [...eni.ipv4Prefixes].sort(() => this.#random() - 0.5),
        }));
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
      if (!eni.attachment) continue;
      for (const one of eni.addresses) there.add(one.ip);
      for (const ip of eni.ipv4Prefixes.flatMap(inPrefix)) there.add(ip);
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
    else if (event.kind === 'fragment') node.cloud.fragment('subnet-0a');
    else if (event.kind === 'mode') this.setMode(event.addressing);
    else node.cloud.vacate('subnet-0a');
    await settle(4);
    await this.revive();
    this.checkPool();
  }

  setMode(addressing: Addressing): void {
    const { node } = this;
    node.settings = { ...node.settings, addressing };
    node.pool.setPolicy({ ...node.pool.policy, addressing });
  }

  /** Somebody unassigns the address of a pod, or the prefix that it is in; the prefix may not be had back whole. */
  #take(pick: number): void {
    const leases = [...this.answered.values()];
    const lease = leases[pick % leases.length];
    const ip = lease?.ips[0] as Ipv4 | undefined;
    if (!lease?.eni || ip === undefined || !this.#attached().has(ip)) return;
    const { cloud } = this.node;
    const prefix = cloud.enis.get(lease.eni.id)?.ipv4Prefixes.find((one) => cidrContains(one, ip));
    const answered = leases.flatMap((one) => one.ips);
    const lost = prefix ? inPrefix(prefix) : [ip];
    // Until a describe tells, the pool gives out the prefix's other addresses.
    for (const each of lost) this.#takenByOthers.add(each);
    cloud.takeAway(lease.eni.id, prefix ? (prefix.ip as Ipv4) : ip, true);
    const other = lost.find((each) => !answered.includes(each));
    if (other !== undefined && pick % 2 === 0 && cloud.freeIn('subnet-0a') > 0)
      cloud.spoil('subnet-0a', other);
  }

  #isTaken(ip: Ip): boolean {
    if (this.#takenByOthers.has(ip)) return true;
    const eni = [...this.node.cloud.enis.values()].find((one) => carries(one, ip));
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
    this.node.cloud.unspoil();
    // Two rests of at most 7.5 minutes: the first after a start looks for loose ENIs alone, and no metadata service hints here.
    // A subnet without whole /28s is left alone for at most ten minutes.
    const minutes = this.node.settings.addressing === 'secondary' ? 16 : 25;
    for (let i = 0; i < minutes; i++) await this.node.clock.advance(60_000);
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
      const ours = [...eni.blocks.values()].map(({ cidr }) => formatCidr(cidr)).sort();
      const singles = truth.addresses.filter((one) => !one.primary).map((one) => hostCidr(one.ip));
      const theirs = [...singles, ...truth.ipv4Prefixes].map(formatCidr).sort();
      assert.deepEqual(ours, theirs, `${eni.id} has other addresses`);
    }
  }
}

const inPrefix = (prefix: Cidr): Ipv4[] =>
  Array.from({ length: cidrSize(prefix) }, (_, i) => addToIp(prefix.ip as Ipv4, i));

const carries = (eni: EniDescription, ip: Ip): boolean =>
  eni.addresses.some((at) => at.ip === ip) || eni.ipv4Prefixes.some((prefix) => cidrContains(prefix, ip));
