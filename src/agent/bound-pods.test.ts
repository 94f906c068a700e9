import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '../kube/index.ts';
import { BoundPods, isComing } from './bound-pods.ts';

const pod = (over: { phase?: string; podIP?: string; hostNetwork?: boolean; deleted?: boolean } = {}): Pod =>
  ({
    metadata: { name: 'a', ...(over.deleted ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}) },
    spec: { containers: [], ...(over.hostNetwork ? { hostNetwork: true } : {}) },
    status: { ...(over.phase ? { phase: over.phase } : {}), ...(over.podIP ? { podIP: over.podIP } : {}) },
  }) as unknown as Pod;

test('a pod is coming until it has an address, runs, ends or is deleted', () => {
  assert.equal(isComing(pod()), true);
  assert.equal(isComing(pod({ phase: 'Pending' })), true);
  for (const not of [
    pod({ podIP: '10.0.0.9' }),
    pod({ phase: 'Running' }),
    pod({ phase: 'Failed' }),
    pod({ hostNetwork: true }),
    pod({ deleted: true }),
  ])
    assert.equal(isComing(not), false);
});

test('the pool is told each pod once, and when it comes no more', () => {
  const told: string[] = [];
  const bound = new BoundPods({
    expectPod: (name) => void told.push(`+${name}`),
    expectNoMore: (name) => void told.push(`-${name}`),
  });
  bound.note(
    new Map([
      ['x/a', true],
      ['x/b', false],
    ]),
  );
  bound.note(
    new Map([
      ['x/a', true],
      ['x/b', true],
    ]),
  );
  bound.note(new Map([['x/a', false]]));
  assert.deepEqual(told, ['+x/a', '+x/b', '-x/a', '-x/b']);
});
