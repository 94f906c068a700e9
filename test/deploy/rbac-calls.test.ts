// What agents of a lab were seen to call is granted to the agent of the chart.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { CallRecord } from '../../src/lab/cluster/api/calls.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { Lab } from '../e2e/lab.ts';
import { eventually } from '../support/wait.ts';
import { manifests, one, right, rights } from './manifest.ts';

const granted = rights(one(manifests(), 'ClusterRole').rules!);
const example = join(import.meta.dirname, '../../examples/custom-networking.yaml');
const isRoot = process.getuid?.() === 0;
const skip = isRoot ? false : 'needs root for network namespaces';
const lab = new Lab('rbac');
before(() => (isRoot ? lab.up('-f', example) : undefined), {
  timeout: 120_000,
});
after(() => (isRoot ? lab.down() : undefined));

test('agents with custom networking call nothing else', { skip, timeout: 120_000 }, async () => {
  const file = join(labPaths(lab.name).root, 'kube-calls.jsonl');
  const seen = () =>
    readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as CallRecord)
      .filter(({ user, resource }) => user.startsWith('system:node:') && resource !== undefined);
  const wanted = ['list', 'watch'].flatMap((verb) => [
    `${verb} nodes`,
    `${verb} pods`,
    `${verb} nodenetworks.podway.dev`,
    `${verb} eniconfigs.crd.k8s.amazonaws.com`,
  ]);
  const names = () => seen().map(({ verb, group = '', resource = '' }) => right(verb, group, resource));
  await eventually(
    'agents follow what they need',
    async () => wanted.every((name) => names().includes(name)),
    60_000,
  );
  for (const name of names())
    assert.ok(granted.includes(name), `an agent called ${name}, which its role does not grant`);
});
