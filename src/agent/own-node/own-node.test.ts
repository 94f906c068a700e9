// What an agent says of itself and when: at once what the scheduler must hear, seldom what only counts, nothing at rest, and
// nothing but a rare question to an API without the definition.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../../base/clock.ts';
import { defaultPolicy } from '../../ipam/policy.ts';
import { emptyPool } from '../../ipam/state.ts';
import { m5Large } from '../../ipam/testkit.ts';
import {
  type FollowOptions,
  isNotFound,
  KubeError,
  type PodwayNode,
  type PodwayNodeAddresses,
  podwayNodes,
} from '../../kube/index.ts';
import { OwnNode, type OwnNodeOptions } from './own-node.ts';
import { askedOf, type Report, reportOf, statusOf, urgencyOf } from './report.ts';

const report = (more: Partial<Report> = {}): Report => ({
  spec: { instanceId: 'i-1', cluster: 'c', enis: [], subnets: ['subnet-1'] },
  nodeUID: 'u1',
  addresses: { held: 1, free: 2, cooling: 0, waiting: 0, obtainable: 3 },
  conditions: [{ type: 'Ready', status: 'True', reason: 'Serving', message: 'm' }],
  asked: null,
  ...more,
});
const addresses = (more: Partial<PodwayNodeAddresses>) => ({ ...report().addresses!, ...more });

for (const [what, now, urgency] of [
  ['the last address', report({ addresses: addresses({ free: 0, obtainable: 0 }) }), 'at once'],
  ['another Node', report({ nodeUID: 'u2' }), 'at once'],
  ['readiness', report({ conditions: [{ ...report().conditions[0]!, status: 'False' }] }), 'at once'],
  ['a wish for calls', report({ asked: { reads: 1, changes: 1, waiting: 1 } }), 'at once'],
  ['another ENI', report({ spec: { ...report().spec, subnets: [] } }), 'soon'],
  ['a count', report({ addresses: addresses({ held: 2, free: 1 }) }), 'seldom'],
  ['nothing', report(), 'never'],
] as const)
  test(`${what}: ${urgency}`, () => assert.equal(urgencyOf(report(), now), urgency));

test('an agent that does not know yet what its node has says nothing of addresses, then at once', () => {
  const of = (isKnown: boolean) =>
    reportOf({
      ...{
        state: emptyPool,
        policy: { ...defaultPolicy, podLimit: 29 },
        limits: m5Large,
        enis: [],
        cluster: 'c',
        nodeUID: 'u1',
      },
      identity: { instanceId: 'i-1' } as never,
      counts: { held: 0, free: 0, cooling: 0, waiting: 0, coming: 2 },
      ...{ trouble: null, isKnown, rates: { reads: 0, changes: 0 }, now: 0 },
    });
  assert.equal('addresses' in statusOf(of(false), undefined, 0), false);
  assert.equal(statusOf(of(true), undefined, 0).addresses?.waiting, 2);
  assert.equal(urgencyOf(of(false), of(true)), 'at once');
});

test('a node asks for calls only while it calls often or is throttled', () => {
  const none = { pauses: new Map() };
  assert.equal(askedOf({ reads: 0.4, changes: 0.2 }, none, 3, 0), null);
  assert.deepEqual(askedOf({ reads: 0.4, changes: 1.4 }, none, 3, 0), { reads: 0.5, changes: 2, waiting: 1 });
  const pause = { cause: 'CLOUD_THROTTLED', until: 10 } as never;
  const throttled = { pauses: new Map([['create', pause]]) };
  assert.deepEqual(askedOf({ reads: 0, changes: 0 }, throttled, 0, 5), { reads: 0, changes: 2, waiting: 0 });
  assert.equal(askedOf({ reads: 0, changes: 0 }, throttled, 0, 20), null);
});

/** An API of one object; `calls` are what was asked of it. */
function fakeApi({ isDefined = true } = {}) {
  const calls: string[] = [];
  const api = { object: null as PodwayNode | null, calls };
  const missing = () => new KubeError(404, 'NotFound', 'not here');
  let told: FollowOptions<PodwayNode, unknown>['onChange'] = () => {};
  const client = {
    get: async () => {
      calls.push('get');
      if (!api.object) throw missing();
      return structuredClone(api.object);
    },
    create: async (_: unknown, object: PodwayNode) => {
      calls.push('create');
      if (!isDefined) throw missing();
      api.object = structuredClone(object);
      return structuredClone(object);
    },
    update: async (_: unknown, object: PodwayNode) => {
      calls.push('update');
      api.object = structuredClone(object);
      return structuredClone(object);
    },
    patch: async (_: unknown, _name: string, _ns: undefined, patch: Partial<PodwayNode>) => {
      if (!api.object) throw missing();
      calls.push(patch.spec ? 'spec' : 'status');
      api.object = {
        ...api.object,
        ...(patch.spec ? { spec: { ...api.object.spec, ...patch.spec } } : {}),
        ...(patch.status ? { status: { ...api.object.status, ...patch.status } } : {}),
      } as PodwayNode;
      return structuredClone(api.object);
    },
  };
  const follow = async (_client: unknown, _of: unknown, options: { onChange: typeof told }) => {
    told = options.onChange;
  };
  const kube = { podwayNodes, isNotFound, follow, KubeError };
  return {
    api,
    options: { client, kube } as unknown as Pick<OwnNodeOptions, 'client' | 'kube'>,
    tell: (kept: ReadonlyMap<string, unknown>) => told(kept as never),
  };
}

const silent = { debug() {}, info() {}, warn() {}, error() {} };

/** Lets the keeper look once a second for so long. */
async function keep(fake: ReturnType<typeof fakeApi>, of: () => Report, onGranted = (_: unknown) => {}) {
  let now = 0;
  let wake = () => {};
  const stop = new AbortController();
  const clock: Clock = {
    now: () => now,
    sleep: () =>
      new Promise((resolve) => {
        wake = resolve;
      }),
  };
  const own = new OwnNode({
    ...{ nodeName: 'n', ...fake.options, report: of, onGranted, log: silent, clock },
  });
  void own.keep(stop.signal);
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  return {
    async pass(seconds: number) {
      for (let second = 0; second < seconds; second++) {
        await settle();
        now += 1_000;
        wake();
        await settle();
      }
    },
    stop: () => stop.abort(),
  };
}

test('the object is made once, and nothing is written at rest', async () => {
  const fake = fakeApi();
  const kept = await keep(fake, () => report());
  await kept.pass(600);
  kept.stop();
  assert.deepEqual(fake.api.calls, ['get', 'create', 'status']);
});

test('a count is written once a minute at most, the last address at once', async () => {
  const fake = fakeApi();
  let held = 1;
  let free = 2;
  const kept = await keep(fake, () =>
    report({ addresses: addresses({ held: held++, free, obtainable: 0 }) }),
  );
  await kept.pass(300);
  const writes = fake.api.calls.filter((call) => call === 'status').length;
  assert.ok(writes >= 3 && writes <= 6, `${writes} writes in five minutes`);
  free = 0;
  await kept.pass(2);
  kept.stop();
  assert.equal(fake.api.object?.status?.addresses?.free, 0);
});

test('a node that flaps is bounded', async () => {
  const fake = fakeApi();
  let turn = 0;
  const kept = await keep(fake, () => report({ addresses: addresses({ free: turn++ % 2, obtainable: 0 }) }));
  await kept.pass(120);
  kept.stop();
  const writes = fake.api.calls.filter((call) => call === 'status').length;
  assert.ok(writes <= 6 + 120 / 3 + 1, `${writes} writes in two minutes`);
});

test('without the definition it asks seldom', async () => {
  const fake = fakeApi({ isDefined: false });
  const kept = await keep(fake, () => report());
  await kept.pass(3_600);
  kept.stop();
  assert.ok(fake.api.calls.length <= 14, `${fake.api.calls.length} calls in an hour`);
});

test('an object that was deleted comes again, and what is granted is passed on', async () => {
  const fake = fakeApi();
  const granted: unknown[] = [];
  const kept = await keep(
    fake,
    () => report(),
    (one) => granted.push(one),
  );
  await kept.pass(5);
  fake.tell(new Map([['n', { reads: 1, changes: 2, seconds: 90, round: 1 }]]));
  fake.api.object = null;
  fake.tell(new Map());
  await kept.pass(5);
  kept.stop();
  assert.equal((fake.api.object as PodwayNode | null)?.spec?.instanceId, 'i-1');
  assert.deepEqual(granted, [{ reads: 1, changes: 2, seconds: 90, round: 1 }, null]);
});

test('the instance that had the name before is kept in mind', async () => {
  const fake = fakeApi();
  fake.api.object = {
    metadata: { name: 'n' },
    spec: { instanceId: 'i-0', cluster: 'c', former: [{ instanceId: 'i-9', cluster: 'c' }] },
  };
  const kept = await keep(fake, () => report());
  await kept.pass(3);
  kept.stop();
  const { instanceId, former } = (fake.api.object as PodwayNode).spec!;
  assert.equal(instanceId, 'i-1');
  assert.deepEqual(
    former?.map((one) => one.instanceId),
    ['i-9', 'i-0'],
  );
});

test('an agent that restarts writes the status once, when the API has told which Node this is', async () => {
  const fake = fakeApi();
  const { spec } = report();
  // As the API answers: fields in its own order.
  const sorted = Object.fromEntries(Object.entries(spec).sort(([a], [b]) => (a < b ? -1 : 1)));
  fake.api.object = {
    metadata: { name: 'n' },
    spec: { ...sorted, former: [{ instanceId: 'i-0', cluster: 'c' }] } as unknown as PodwayNode['spec'] & {},
  };
  let nodeUID: string | null = null;
  const kept = await keep(fake, () => report({ nodeUID }));
  await kept.pass(2);
  assert.deepEqual(fake.api.calls, []);
  nodeUID = 'u1';
  await kept.pass(60);
  kept.stop();
  assert.deepEqual(fake.api.calls, ['get', 'status']);
});

test('an API that never tells which Node this is keeps no word back', async () => {
  const fake = fakeApi();
  const kept = await keep(fake, () => report({ nodeUID: null }));
  await kept.pass(10);
  kept.stop();
  assert.deepEqual(fake.api.calls, ['get', 'create', 'status']);
});
