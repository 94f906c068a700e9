// The agent's rights are exactly the verbs that its code uses.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { manifests, one, right, rights } from './manifest.ts';

const root = join(import.meta.dirname, '../..');
const granted = rights(one(manifests(), 'ClusterRole').rules!);

/** Each constant of a kind, with its group and plural. */
const kinds: Record<string, [group: string, plural: string]> = {
  nodes: ['', 'nodes'],
  pods: ['', 'pods'],
  services: ['', 'services'],
  events: ['', 'events'],
  nodeNetworks: ['podway.dev', 'nodenetworks'],
  podwayNodes: ['podway.dev', 'podwaynodes'],
  cniNodes: ['vpcresources.k8s.aws', 'cninodes'],
  securityGroupPolicies: ['vpcresources.k8s.aws', 'securitygrouppolicies'],
  serviceAccounts: ['', 'serviceaccounts'],
  eniConfigs: ['crd.k8s.amazonaws.com', 'eniconfigs'],
  networkPolicies: ['networking.k8s.io', 'networkpolicies'],
  clusterNetworkPolicy: ['policy.networking.k8s.io', 'clusternetworkpolicies'],
  namespaces: ['', 'namespaces'],
  customResourceDefinitions: ['apiextensions.k8s.io', 'customresourcedefinitions'],
};

test('the rules are the verbs that the code of the agent uses, and no others', () => {
  const used = new Set<string>();
  const shared = ['src/kube/recorder.ts', 'src/kube/pod-groups-view.ts'];
  const files = [...globSync('src/agent/**/*.ts', { cwd: root }), ...shared];
  for (const file of files.filter((name) => !name.endsWith('.test.ts'))) {
    const text = readFileSync(join(root, file), 'utf8');
    const calls = /\bclient\.(get|list|create|update|patch|delete)\(\s*(?:kube\.)?(\w+)([^;]*);/g;
    for (const [, verb = '', kind = '', rest = ''] of text.matchAll(calls)) {
      const [group, plural] =
        kinds[kind] ?? assert.fail(`${file} calls ${verb} of ${kind}, which is not known here`);
      // The options of a patch may be a value of their own.
      const options =
        /subresource: 'status'/.test(rest) ||
        (/\boptions\b/.test(rest) && /subresource: 'status'/.test(text));
      used.add(right(verb, group, options ? `${plural}/status` : plural));
    }
    for (const [, kind = ''] of text.matchAll(
      /(?<!policies\.)\bfollow(?:Each)?(?:<\w+>)?\(\s*client,\s*(?:kube\.)?(\w+)/g,
    )) {
      const [group, plural] = kinds[kind] ?? assert.fail(`${file} follows ${kind}, which is not known here`);
      for (const verb of ['list', 'watch']) used.add(right(verb, group, plural));
    }
  }
  assert.deepEqual(granted, [...used].sort());
});

test('the account that is bound is the one that runs', () => {
  const { subjects } = one(manifests(), 'ClusterRoleBinding');
  const { namespace } = one(manifests(), 'ServiceAccount').metadata;
  assert.deepEqual(subjects, [{ kind: 'ServiceAccount', name: 'podway-agent', namespace }]);
  assert.equal(one(manifests(), 'DaemonSet').spec!.template.spec['serviceAccountName'], 'podway-agent');
});
