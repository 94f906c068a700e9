// The node's door to policy without policies: what the API refuses to tell is said, and keeps no pod from starting.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { eventually } from '../../test/support/wait.ts';
import { parseIp } from '../base/ip.ts';
import * as kube from '../kube/index.ts';
import { Policies, type PoliciesOptions } from './policies.ts';
import type { Telling } from './tell.ts';

const POD = { namespace: 'x', name: 'p' };
const IPS = [parseIp('10.0.0.1')];

/** `refused`: plurals that the role may not list. */
async function withPolicies(
  refused: readonly string[],
  policy: 'enforce' | 'audit' | 'off',
  run: (policies: Policies, told: Telling[], asked: string[]) => Promise<void>,
): Promise<void> {
  const runDir = mkdtempSync(join(tmpdir(), 'podway-policies-'));
  const told: Telling[] = [];
  const asked: string[] = [];
  const stop = new AbortController();
  const client = {
    async list({ plural }: kube.Resource) {
      asked.push(plural);
      // An API that does not answer.
      if (refused.includes('-silent')) throw new kube.KubeError(0, 'Unreachable', 'no answer');
      if (refused.includes(plural)) throw new kube.KubeError(403, 'Forbidden', `${plural} is forbidden`);
      return { metadata: { resourceVersion: '1' }, items: [] };
    },
    async *watch(_: unknown, __: unknown, signal: AbortSignal) {
      await new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
      );
    },
  };
  const quiet = () => {};
  const policies = new Policies({
    config: { runDir, nodeName: 'node-1' },
    api: { isConfigured: true, connect: async () => ({ client, kube }) },
    log: { debug: quiet, info: quiet, warn: quiet, error: quiet },
    tell: (one: Telling) => told.push(one),
    settings: () => ({ policy, policyTimeout: 'fail', flowLog: 'denied' }),
    cooldownMs: () => 30_000,
    held: () => [],
    onEnforce: async () => {},
  } as unknown as PoliciesOptions);
  const kept = policies.keep(stop.signal);
  try {
    await run(policies, told, asked);
  } finally {
    stop.abort();
    await kept;
    rmSync(runDir, { recursive: true, force: true });
  }
}

test('ClusterNetworkPolicies that may not be listed are told, and the other kind counts alone', () =>
  withPolicies(['clusternetworkpolicies'], 'enforce', async (policies, told) => {
    await policies.admit(POD, IPS, AbortSignal.timeout(5_000));
    await eventually('it is told', () => told.length > 0);
    assert.deepEqual([told[0]!.kind, told[0]!.object], ['policy', 'clusternetworkpolicies']);
    assert.match(told[0]!.text, /ClusterNetworkPolicies are not enforced on node-1: .*may not list them/);
    assert.equal(policies.admit(POD, IPS, AbortSignal.timeout(10)), undefined, 'no pod waits any more');
  }));

test('with both kinds refused pods start, and both are told', () =>
  withPolicies(['clusternetworkpolicies', 'networkpolicies'], 'enforce', async (policies, told) => {
    await policies.admit(POD, IPS, AbortSignal.timeout(5_000));
    await eventually('both are told', () => new Set(told.map(({ object }) => object)).size === 2);
  }));

test('audit keeps no pod from starting, whatever the API does not tell', () =>
  withPolicies(['-silent'], 'audit', async (policies, told) => {
    await policies.admit(POD, IPS, AbortSignal.timeout(10_000));
    assert.deepEqual(told, []);
  }));

test('off: nothing is asked of the API, and no pod waits', () =>
  withPolicies([], 'off', async (policies, _, asked) => {
    assert.equal(policies.admit(POD, IPS, AbortSignal.timeout(10)), undefined);
    assert.deepEqual(asked, []);
  }));
