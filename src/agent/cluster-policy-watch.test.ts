import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Clock } from '../base/clock.ts';
import { clusterNetworkPolicies, type followEach, type KubeClient, type KubeObject } from '../kube/index.ts';
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
  const fake = (async (_client, { version }, { sink, endsWhenGone }) => {
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
      kube: { clusterNetworkPolicies, followEach: fake },
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
