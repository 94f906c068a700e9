import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container, Pod } from '../../kube/types.ts';
import { environmentOf, expandedCommand } from './environment.ts';

const pod: Pod = {
  metadata: { name: 'web-1', namespace: 'team', uid: 'u', labels: { 'example.com/app': 'web' } },
  spec: { nodeName: 'node-1', serviceAccountName: 'default', containers: [] },
};
const facts = { pod, ips: ['10.0.0.6', 'fd00::6'], hostIps: ['10.0.0.4'] };
const field = (name: string, fieldPath: string) => ({ name, valueFrom: { fieldRef: { fieldPath } } });

test('a container reads its pod in its environment, and its command its environment', () => {
  const container: Container = {
    name: 'c',
    command: ['serve', '--on=$(IP):80', '$(NOBODY)', '$$(IP)', 'cost: $5'],
    env: [
      field('IP', 'status.podIP'),
      field('IPS', 'status.podIPs'),
      field('HOST', 'status.hostIP'),
      field('NODE', 'spec.nodeName'),
      field('APP', "metadata.labels['example.com/app']"),
      field('NONE', "metadata.labels['none']"),
      field('UNKNOWN', 'spec.nothing'),
      { name: 'URL', value: 'http://$(IP)/$(LATER)' },
      { name: 'LATER', value: 'x' },
    ],
  };
  const environment = environmentOf(container, facts);
  assert.deepEqual(environment, {
    IP: '10.0.0.6',
    IPS: '10.0.0.6,fd00::6',
    HOST: '10.0.0.4',
    NODE: 'node-1',
    APP: 'web',
    NONE: '',
    UNKNOWN: '',
    URL: 'http://10.0.0.6/$(LATER)',
    LATER: 'x',
  });
  assert.deepEqual(expandedCommand(container, environment), [
    'serve',
    '--on=10.0.0.6:80',
    '$(NOBODY)',
    '$(IP)',
    'cost: $5',
  ]);
});

test('options alone are for an entrypoint that is not here; other arguments are a command', () => {
  assert.deepEqual(expandedCommand({ name: 'c', args: ['-g', 'daemon off;'] }, {}), []);
  assert.deepEqual(expandedCommand({ name: 'c', args: ['sleep', '9'] }, {}), ['sleep', '9']);
  assert.deepEqual(expandedCommand({ name: 'c', command: ['ls'], args: ['-l'] }, {}), ['ls', '-l']);
});
