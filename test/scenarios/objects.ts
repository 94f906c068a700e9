// What scenarios apply. Values alone. Servers are the lab's own program, which both clusters have under one name and which
// answers "POD PEER_ADDRESS"; a shell is agnhost's on real nodes and the machine's on the lab's own.
import { BUILT_IN_IMAGE } from '../../src/lab/cluster/command.ts';
import { labImage } from '../../src/lab/kubernetes/images.ts';
import { NAMESPACE } from './cluster.ts';

export const PORT = 8080;

export const server = (more: object = {}) => ({
  name: 'main',
  image: BUILT_IN_IMAGE,
  imagePullPolicy: 'Never',
  args: ['--name', '$(POD_NAME)'],
  env: [{ name: 'POD_NAME', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
  ...more,
});

export const shell = (script: string, more: object = {}) => ({
  name: 'shell',
  image: labImage('agnhost'),
  imagePullPolicy: 'Never',
  command: ['sh', '-c', script],
  ...more,
});

export const podOf = (name: string, node: string | undefined, ...containers: object[]) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: NAMESPACE, labels: { app: name } },
  spec: { ...(node === undefined ? {} : { nodeName: node }), terminationGracePeriodSeconds: 1, containers },
});

export const deployment = (name: string, replicas: number) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { terminationGracePeriodSeconds: 1, containers: [server()] },
    },
  },
});

export const serviceOf = (name: string) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name },
  spec: { selector: { app: name }, ports: [{ port: 80, targetPort: PORT }] },
});

export const job = (name: string, completions: number) => ({
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name },
  spec: {
    completions,
    parallelism: 10,
    template: { spec: { restartPolicy: 'Never', containers: [shell('true')] } },
  },
});
