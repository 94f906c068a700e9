// The scenarios of test/scenarios on the lab's own cluster; what it has not is skipped with the reason. On real kubelets the
// same ones are run by `npm run test:kubernetes`.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { cachePaths, KUBERNETES_VERSION } from '../../src/lab/kubernetes/version.ts';
import type { Lacks } from '../scenarios/cluster.ts';
import { type Outcome, runScenarios } from '../scenarios/run.ts';
import { scenarios } from '../scenarios/scenarios.ts';
import { execute, skip as notRoot } from './command.ts';
import { Lab, QUICK } from './lab.ts';

const PODS = 6;
/** The first that streams by WebSocket. */
const KUBECTL = 31;
const built = join(cachePaths(KUBERNETES_VERSION).bin, 'kubectl');
const kubectl = existsSync(built) ? built : 'kubectl';
const hasPortmap = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'].some((dir) =>
  existsSync(join(dir, 'portmap')),
);
const lacks: Lacks = {
  services: "the lab's own cluster has no kube-proxy and no DNS",
  probes: "nodes of the lab's own cluster put no probes",
  containers: "the lab's own cluster refuses a second container of a pod",
  'static pods': "nodes of the lab's own cluster take pods from the API alone",
  ...(hasPortmap ? {} : { hostPort: 'the CNI plugin portmap is not here' }),
};
const lab = new Lab('scen', [...QUICK, ...(hasPortmap ? ['--set', 'cniChain=portmap'] : [])]);
const bound = { skip: notRoot, timeout: 300_000 };
let isUp = false;
let outcomes: Outcome[] | undefined;

before(async () => {
  if (notRoot) return;
  const version = await execute([kubectl, 'version', '--client', '-o', 'json']).catch(() => undefined);
  if (Number(/"minor": "(\d+)/.exec(version?.stdout ?? '')?.[1] ?? 0) < KUBECTL) return;
  isUp = true;
  await lab.up();
  const { KUBECONFIG } = await lab.env();
  outcomes = await runScenarios({ lab: lab.name, kubectl, kubeconfig: KUBECONFIG!, lacks }, scenarios(PODS));
}, bound);
after(() => (isUp ? lab.down() : undefined));

for (const { name } of scenarios(PODS))
  test(name, bound, (t) => {
    if (!outcomes) return t.skip(`there is no kubectl 1.${KUBECTL} or newer`);
    const { state, message } = outcomes.find((each) => each.name === name)!;
    if (state === 'skipped') return t.skip(message ?? '');
    assert.equal(state, 'passed', message ?? '');
  });
