// The smallest proof on a real Kubernetes: two nodes Ready, and pods on both that reach each other by addresses that EC2
// lists. Builds nothing: skipped, with the reason, where the programs or their images are not in the cache. `npm test` gives it three
// minutes; all else is `npm run test:kubernetes`.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { type Binaries, findBinaries } from '../../src/lab/kubernetes/binaries.ts';
import { execute, executeOk, skip as notRoot, PODWAY } from '../e2e/command.ts';
import { runScenarios } from '../scenarios/run.ts';
import { scenarios } from '../scenarios/scenarios.ts';
import { missingKubernetes } from '../support/kubernetes.ts';

const BOUND_MS = 180_000;
const PODS = 4;
const lab = `e2e-kubernetes-${process.pid}`;

const noAgnhost = ({ images }: Binaries) =>
  images.some((file) => file.endsWith('/agnhost.tar'))
    ? false
    : 'the image agnhost is not built (podway lab kubernetes install)';
const skip = notRoot || missingKubernetes(noAgnhost);

after(async () => {
  if (!skip) await execute([PODWAY, 'lab', 'down', '--lab', lab]);
});

test('pods of two kubelets reach each other by addresses that EC2 lists', {
  skip,
  timeout: BOUND_MS,
}, async () => {
  await executeOk(
    [PODWAY, 'lab', 'up', '--lab', lab, '--kubernetes', '--nodes', '2', '--quiet'],
    {},
    BOUND_MS,
  );
  const env = JSON.parse(await executeOk([PODWAY, 'lab', 'env', '--lab', lab, '-o', 'json'])) as Record<
    string,
    string
  >;
  const cluster = { lab, kubectl: findBinaries({}).programs.kubectl, kubeconfig: env['KUBECONFIG']! };
  // What is up takes pods on each node: no taint of ours is left that would send the first ones to one node.
  const taints = await executeOk(
    [cluster.kubectl, 'get', 'nodes', '-o', 'jsonpath={.items[*].spec.taints[*].key}'],
    { KUBECONFIG: cluster.kubeconfig },
  );
  assert.doesNotMatch(taints, /podway/);
  const cases = await runScenarios(cluster, scenarios(PODS).slice(0, 3));
  assert.deepEqual(
    cases.filter((each) => each.state !== 'passed'),
    [],
  );
});
