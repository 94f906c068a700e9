// What the lab applies to a real API as its first acts: who may do what beyond Kubernetes' own defaults, Podway's custom
// resources and its agent's rights, and CoreDNS. Objects are values; `kubectl apply` on the server's side is the only
// effect, so that a second run changes nothing.
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import { writeFileAtomic } from '../../base/files.ts';
import type { KubeObject } from '../../kube/types.ts';
import { packageRoot } from '../daemon/parts.ts';
import type { Settings } from '../shape/settings.ts';
import { CLUSTER_DOMAIN, COREDNS_IMAGE, DNS_SERVICE_ADDRESS } from './layout.ts';
import { ADMIN_GROUP } from './pki.ts';

const APPLY_MS = 60_000;

type Manifest = KubeObject & Record<string, unknown>;

/** Of deploy/podway.yaml the custom resources, and the rights of what the lab itself starts: agents, the controller. */
export function podwayManifests({ agent, controller }: Pick<Settings, 'agent' | 'controller'>): Manifest[] {
  const all = parseAllDocuments(readFileSync(join(packageRoot, 'deploy', 'podway.yaml'), 'utf8'))
    .map((document) => document.toJS() as Manifest | null)
    .filter((object) => object !== null);
  return all.filter(({ kind, metadata: { name } }) => {
    if (kind === 'CustomResourceDefinition') return true;
    if (kind === 'DaemonSet' || kind === 'Deployment') return false;
    return (name === 'podway-controller' ? controller : agent) === 'process';
  });
}

const binding = (
  name: string,
  role: string,
  subject: { kind: 'User' | 'Group'; name: string },
): Manifest => ({
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'ClusterRoleBinding',
  metadata: { name },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: role },
  subjects: [{ apiGroup: 'rbac.authorization.k8s.io', ...subject }],
});

/** Kubernetes binds its own components itself; these two are what kubeadm adds. */
export const bindingManifests = (): Manifest[] => [
  binding('podway:cluster-admins', 'cluster-admin', { kind: 'Group', name: ADMIN_GROUP }),
  binding('podway:kube-apiserver-kubelet-client', 'system:kubelet-api-admin', {
    kind: 'User',
    name: 'kube-apiserver-kubelet-client',
  }),
];

const COREFILE = `${CLUSTER_DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 {
    errors
    health {
        lameduck 5s
    }
    ready
    kubernetes ${CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    prometheus :9153
    cache 30
    reload
    loadbalance
}
.:53 {
    errors
    template ANY ANY {
        rcode NXDOMAIN
        authority "{{ .Zone }} 30 IN SOA lab. lab. 1 30 30 30 30"
    }
}
`;

/** As kubeadm's, without a server beyond: a lab has no resolver of the VPC, so other names do not
 * exist, and are said not to: a server's failure would end the search of a resolver at the first suffix. */
export function dnsManifests(): Manifest[] {
  const name = 'coredns';
  const namespace = 'kube-system';
  const labels = { 'k8s-app': 'kube-dns' };
  return [
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace } },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name: 'system:coredns' },
      rules: [
        { apiGroups: [''], resources: ['services', 'pods', 'namespaces'], verbs: ['list', 'watch'] },
        { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
      ],
    },
    {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: 'system:coredns' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'system:coredns' },
      subjects: [{ kind: 'ServiceAccount', name, namespace }],
    },
    {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace },
      data: { Corefile: COREFILE },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'kube-dns', namespace, labels: { ...labels, 'kubernetes.io/name': 'CoreDNS' } },
      spec: {
        clusterIP: DNS_SERVICE_ADDRESS,
        selector: labels,
        ports: [
          { name: 'dns', port: 53, protocol: 'UDP', targetPort: 53 },
          { name: 'dns-tcp', port: 53, protocol: 'TCP', targetPort: 53 },
          { name: 'metrics', port: 9153, protocol: 'TCP', targetPort: 9153 },
        ],
      },
    },
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name, namespace, labels },
      spec: {
        replicas: 1,
        selector: { matchLabels: labels },
        template: {
          metadata: { labels },
          spec: {
            priorityClassName: 'system-cluster-critical',
            serviceAccountName: name,
            dnsPolicy: 'Default',
            tolerations: [{ key: 'CriticalAddonsOnly', operator: 'Exists' }],
            containers: [
              {
                name,
                image: COREDNS_IMAGE,
                imagePullPolicy: 'Never',
                args: ['-conf', '/etc/coredns/Corefile'],
                ports: [
                  { containerPort: 53, name: 'dns', protocol: 'UDP' },
                  { containerPort: 53, name: 'dns-tcp', protocol: 'TCP' },
                  { containerPort: 9153, name: 'metrics', protocol: 'TCP' },
                ],
                readinessProbe: { httpGet: { path: '/ready', port: 8181 } },
                livenessProbe: { httpGet: { path: '/health', port: 8080 }, initialDelaySeconds: 60 },
                volumeMounts: [{ name: 'config', mountPath: '/etc/coredns', readOnly: true }],
              },
            ],
            volumes: [
              { name: 'config', configMap: { name, items: [{ key: 'Corefile', path: 'Corefile' }] } },
            ],
          },
        },
      },
    },
  ];
}

/** `file` is where the objects are written for kubectl to read. */
export async function apply(
  objects: readonly object[],
  { kubectl, kubeconfig, file }: { kubectl: string; kubeconfig: string; file: string },
): Promise<void> {
  writeFileAtomic(file, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
  const args = ['apply', '--server-side', '--force-conflicts', '--field-manager=podway-lab', '-f', file];
  await promisify(execFile)(kubectl, ['--kubeconfig', kubeconfig, ...args], {
    timeout: APPLY_MS,
    env: { PATH: process.env['PATH'] ?? '', HOME: '/nonexistent' },
  });
}
