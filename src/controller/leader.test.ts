// Two that stand for election never lead at once, whatever the API does; a dead leader is followed; a released one at once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { KubeError } from '../kube/index.ts';
import { Leader, type LeaderOptions, type Lease } from './leader.ts';

const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** Time that passes when everybody sleeps. */
class Time {
  now = 0;
  #waiting: { at: number; wake: () => void }[] = [];

  sleep = (ms: number, signal: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const entry = { at: this.now + ms, wake: resolve };
      this.#waiting.push(entry);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });

  async pass(ms: number, look: () => void): Promise<void> {
    for (const end = this.now + ms; this.now < end; this.now += 100) {
      const due = this.#waiting.filter(({ at }) => at <= this.now);
      this.#waiting = this.#waiting.filter(({ at }) => at > this.now);
      for (const { wake } of due) wake();
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
      look();
    }
  }
}

class Api {
  lease: Lease | null = null;
  #version = 0;
  /** Of each caller: true fails its calls. */
  readonly isCut = new Set<string>();

  clientOf(who: string): LeaderOptions['client'] {
    const guard = () => {
      if (this.isCut.has(who)) throw new KubeError(0, 'Unreachable', 'cut off');
    };
    const put = (lease: Lease): Lease => {
      this.lease = structuredClone(lease);
      this.lease.metadata.resourceVersion = String(++this.#version);
      return structuredClone(this.lease);
    };
    return {
      get: async () => {
        guard();
        if (!this.lease) throw new KubeError(404, 'NotFound', 'no lease');
        return structuredClone(this.lease);
      },
      create: async (_: unknown, lease: Lease) => {
        guard();
        if (this.lease) throw new KubeError(409, 'AlreadyExists', 'it is there');
        return put(lease);
      },
      update: async (_: unknown, lease: Lease) => {
        guard();
        if (lease.metadata.resourceVersion !== this.lease?.metadata.resourceVersion)
          throw new KubeError(409, 'Conflict', 'changed');
        return put(lease);
      },
    } as unknown as LeaderOptions['client'];
  }
}

function stand(api: Api, time: Time, identity: string) {
  const stop = new AbortController();
  const leader = new Leader({
    client: api.clientOf(identity),
    ...{ namespace: 'kube-system', name: 'lease', identity, log: silent },
    ...{ ticks: () => time.now, now: () => time.now, sleep: time.sleep },
  });
  const one = { leader, leading: false, stop };
  void leader.run((signal) => {
    one.leading = true;
    return new Promise((resolve) => {
      signal.addEventListener('abort', () => {
        one.leading = false;
        resolve();
      });
    });
  }, stop.signal);
  return one;
}

test('never two lead, however the API is cut off from each', async () => {
  const cuts = fc.array(
    fc.record({ who: fc.constantFrom('a', 'b'), cut: fc.boolean(), ms: fc.nat(20_000) }),
    { maxLength: 12 },
  );
  await fc.assert(
    fc.asyncProperty(cuts, async (steps) => {
      const [api, time] = [new Api(), new Time()];
      const both = ['a', 'b'].map((name) => stand(api, time, name));
      const look = () => assert.ok(both.filter(({ leading }) => leading).length < 2, 'two lead');
      for (const { who, cut, ms } of steps) {
        if (cut) api.isCut.add(who);
        else api.isCut.delete(who);
        await time.pass(ms, look);
      }
      api.isCut.clear();
      await time.pass(40_000, look);
      assert.equal(both.filter(({ leading }) => leading).length, 1, 'one leads in the end');
      for (const { stop } of both) stop.abort();
      await time.pass(1_000, () => {});
    }),
    { numRuns: 30 },
  );
});

test('a leader that ends gives its lease back, and the next one leads at its next look', async () => {
  const [api, time] = [new Api(), new Time()];
  const first = stand(api, time, 'a');
  await time.pass(1_000, () => {});
  const second = stand(api, time, 'b');
  await time.pass(5_000, () => {});
  assert.deepEqual([first.leading, second.leading], [true, false]);
  first.stop.abort();
  await time.pass(4_000, () => {});
  assert.deepEqual([first.leading, second.leading], [false, true]);
  second.stop.abort();
});

test('who is killed and comes again with the same identity leads at once', async () => {
  const [api, time] = [new Api(), new Time()];
  stand(api, time, 'a');
  await time.pass(1_000, () => {});
  api.isCut.add('a');
  const again = stand({ ...api, clientOf: () => api.clientOf('again') } as unknown as Api, time, 'a');
  await time.pass(1_000, () => {});
  assert.equal(again.leading, true);
});
