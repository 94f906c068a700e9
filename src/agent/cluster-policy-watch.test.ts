import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../base/clock.ts';
import {
  clusterNetworkPolicies,
  customResourceDefinitions,
  type followEach,
  type KubeClient,
  KubeError,
  type KubeObject,
} from '../kube/index.ts';
import { followClusterPolicies } from './cluster-policy-watch.ts';

const one = (name: string): KubeObject => ({ metadata: { name } });

test('the latest version that is served counts, and one that is withdrawn leaves what it told', async () => {
  const stop = new AbortController();
  const log: string[] = [];
  /** What each round serves; a round ends when a version has gone or none was there. */
  const rounds = [[], ['v1alpha2'], ['v1beta1', 'v1alpha2'], []];
  let round = 0;
  const clock = {
    now: () => 0,
    sleep: async () => {
      if (++round === rounds.length) stop.abort();
    },
  } as unknown as Clock;
  const fake = (async (_client, { version, kind }, { sink, endsWhenGone }) => {
    if (kind === 'CustomResourceDefinition') return;
    assert.equal(endsWhenGone, true);
    if (!rounds[round]?.includes(version)) return;
    sink.replace([one(version) as never]);
    sink.put(one('later') as never);
    sink.remove(one('later'));
  }) as typeof followEach;
  const names = (objects: readonly KubeObject[]) => objects.map(({ metadata }) => metadata.name).join();
  await followClusterPolicies(
    {
      client: {} as KubeClient,
      kube: { clusterNetworkPolicies, customResourceDefinitions, followEach: fake },
      sink: {
        replace: (objects) => log.push(`=${names(objects)}`),
        put: (object) => log.push(`+${names([object])}`),
        remove: (object) => log.push(`-${names([object as KubeObject])}`),
      },
      onAway: assert.fail,
    },
    stop.signal,
    clock,
  );
  assert.deepEqual(log, ['=', '=v1alpha2', '+later', '-later', '=v1beta1', '+later', '-later', '=']);
});

test('where the definition is watched nobody looks for it until it comes, and where it may not be, they do', async () => {
  for (const mayWatch of [true, false]) {
    const stop = new AbortController();
    const pauses: number[] = [];
    let notice = () => {};
    const clock = {
      now: () => 0,
      sleep: (ms: number, signal: AbortSignal) => {
        pauses.push(ms);
        if (pauses.length === 4) stop.abort();
        if (pauses.length > 1) return Promise.resolve();
        setImmediate(notice);
        return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
      },
    } as unknown as Clock;
    const fake = (async (_client, { kind }, { sink, onAway, fieldSelector }) => {
      if (kind !== 'CustomResourceDefinition') return;
      assert.equal(fieldSelector, 'metadata.name=clusternetworkpolicies.policy.networking.k8s.io');
      notice = () => sink.put(one('definition') as never);
      if (mayWatch) sink.replace([]);
      else onAway(new KubeError(403, 'Forbidden', 'may not list'));
    }) as typeof followEach;
    await followClusterPolicies(
      {
        client: {} as KubeClient,
        kube: { clusterNetworkPolicies, customResourceDefinitions, followEach: fake },
        sink: { replace() {}, put() {}, remove() {} },
        onAway: assert.fail,
      },
      stop.signal,
      clock,
    );
    const [first, ...soon] = pauses;
    assert.ok(mayWatch ? first! >= 3_600_000 : first! >= 30_000 && first! <= 45_000, `${first}`);
    assert.deepEqual(soon, [1_000, 1_000, 1_000]);
  }
});
