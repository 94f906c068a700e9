// A Job of 500 short pods on two nodes: each runs, none holds an address of another, and nothing is left of them once the
// Job is deleted. Cooldown is 0 s, so that addresses are used again at once.
// PODWAY_SOAK=1 only: the churn of npm test is churn.test.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BatchV1Api, KubeConfig } from '@kubernetes/client-node';
import { heldTwice } from '../support/lab.ts';
import { cloudOf, sameTraces, tracesAtRest } from '../support/leaks.ts';
import { BACK_WITHIN_MS, full, skip, storm } from '../support/storm.ts';

const PODS = 500;
const AT_ONCE = 24;
const LOOK_EVERY_MS = 200;
const job = { name: 'short', namespace: 'default' };

const lacks = skip || (full ? false : 'PODWAY_SOAK=1 runs it');
const { lab, streams } = lacks ? ({} as ReturnType<typeof storm>) : storm(`storm-j${process.pid}`, '2s');

test(`a Job of ${PODS} short pods leaves nothing behind`, { skip: lacks, timeout: 1_800_000 }, async (t) => {
  const cloud = await cloudOf(lab);
  const before = await tracesAtRest(lab, cloud, BACK_WITHIN_MS);
  const config = new KubeConfig();
  config.loadFromFile((await lab.status()).kubeconfig);
  const batch = config.makeApiClient(BatchV1Api);
  const began = performance.now();
  await batch.createNamespacedJob({
    namespace: job.namespace,
    body: {
      metadata: { name: job.name },
      spec: {
        completions: PODS,
        parallelism: AT_ONCE,
        backoffLimit: 0,
        template: {
          spec: {
            restartPolicy: 'Never',
            containers: [{ name: 'main', image: 'podway/command', command: ['true'] }],
          },
        },
      },
    },
  });
  for (let succeeded = 0; succeeded < PODS; await sleep(LOOK_EVERY_MS)) {
    assert.deepEqual(heldTwice(await lab.show()), [], 'an address is held twice');
    const { status } = await batch.readNamespacedJob(job);
    assert.equal(status?.failed ?? 0, 0);
    succeeded = status?.succeeded ?? 0;
  }
  t.diagnostic(`${PODS} pods in ${((performance.now() - began) / 1000).toFixed(1)} s`);
  await batch.deleteNamespacedJob({ ...job, propagationPolicy: 'Background' });
  await sameTraces(lab, cloud, before, BACK_WITHIN_MS);
  await lab.agreed();
  await streams.alive();
});
