// The kinds that the API serves from the start: one row each.

import { checkHooks, completeHooks } from '../admission/hooks.ts';
import { checkDefinition, completeDefinition } from './crds.ts';
import { eventFromCore, eventToCore } from './event-views.ts';
import type { Any, HookContext, Kind, ScalePaths } from './kinds.ts';
import { checkNetworkPolicy } from './network-policies.ts';
import { checkPod, completePod, graceOfPod } from './pods.ts';
import { columnsOf } from './printers.ts';
import { checkService, completeService } from './services.ts';
import { decoderOf } from './typed.ts';
import { idleKindWarning, jobWarnings, podWarnings, templateWarnings } from './warnings.ts';
import {
  checkDaemonSet,
  checkDeployment,
  checkJob,
  checkReplicaSet,
  completeDaemonSet,
  completeDeployment,
  completeJob,
  completeReplicas,
} from './workloads.ts';

type Row = {
  short?: string[];
  categories?: string[];
  cluster?: true;
  singular?: string;
  status?: true;
  createsWithStatus?: true;
  scale?: true;
  selectable?: string[];
  nameRule?: Kind['nameRule'];
  subresources?: string[];
  collection?: string;
  toStored?: (object: Any) => Any;
  fromStored?: (object: Any) => Any;
  storedVersion?: string;
  defaults?: (object: Any, context: HookContext, before: Any | null) => void;
  check?: Kind['check'];
  grace?: Kind['grace'];
  held?: Kind['held'];
  ending?: Kind['ending'];
  warnings?: Kind['warnings'];
  lasting?: Kind['lasting'];
  orphansByDefault?: true;
};

const all = ['all'];
const scalePaths: ScalePaths = { spec: '.spec.replicas', status: '.status.replicas' };
const workload: Row = { categories: all, status: true, scale: true };
const cluster = { cluster: true } as const;
const rbac = { nameRule: 'path' } as const;

const eventFields = [
  'involvedObject.kind',
  'involvedObject.namespace',
  'involvedObject.name',
  'involvedObject.uid',
  'involvedObject.apiVersion',
  'involvedObject.resourceVersion',
  'involvedObject.fieldPath',
  'reason',
  'reportingComponent',
  'type',
];

/** Keys: `group/version Kind plural`. */
const rows: Record<string, Row> = {
  'v1 Namespace namespaces': {
    short: ['ns'],
    ...cluster,
    status: true,
    nameRule: 'label',
    selectable: ['status.phase'],
    subresources: ['finalize'],
    defaults: completeNamespace,
    held: (object) => finalizersOf(object).length > 0,
    lasting: ({ metadata }) =>
      LASTING_NAMESPACES.has(metadata.name ?? '') ? 'this namespace may not be deleted' : null,
    ending: (object) => (object['status'] = { ...(object['status'] as object), phase: 'Terminating' }),
  },
  'v1 Node nodes': {
    short: ['no'],
    ...cluster,
    status: true,
    createsWithStatus: true,
    selectable: ['spec.unschedulable'],
  },
  'v1 Pod pods': {
    short: ['po'],
    categories: all,
    status: true,
    selectable: [
      'spec.nodeName',
      'spec.restartPolicy',
      'spec.schedulerName',
      'spec.serviceAccountName',
      'spec.hostNetwork',
      'status.phase',
      'status.podIP',
      'status.nominatedNodeName',
    ],
    subresources: ['binding', 'eviction', 'exec', 'log', 'portforward'],
    defaults: completePod,
    check: checkPod,
    grace: graceOfPod,
    warnings: podWarnings,
  },
  'v1 Service services': {
    short: ['svc'],
    categories: all,
    status: true,
    nameRule: 'label',
    selectable: ['spec.clusterIP', 'spec.type'],
    defaults: completeService,
    check: checkService,
  },
  'v1 ConfigMap configmaps': { short: ['cm'] },
  'v1 Secret secrets': { selectable: ['type'], defaults: completeSecret },
  'v1 ServiceAccount serviceaccounts': { short: ['sa'], subresources: ['token'] },
  'v1 Endpoints endpoints': { short: ['ep'], singular: 'endpoints' },
  'v1 Event events': { short: ['ev'], selectable: eventFields },
  'v1 PersistentVolume persistentvolumes': { short: ['pv'], ...cluster, status: true },
  'v1 PersistentVolumeClaim persistentvolumeclaims': { short: ['pvc'], status: true },
  'v1 ReplicationController replicationcontrollers': {
    short: ['rc'],
    ...workload,
    defaults: completeReplicas,
  },
  'v1 ResourceQuota resourcequotas': { short: ['quota'], status: true },
  'v1 LimitRange limitranges': { short: ['limits'] },
  'v1 PodTemplate podtemplates': {},
  'events.k8s.io/v1 Event events': {
    short: ['ev'],
    collection: 'events',
    storedVersion: 'v1',
    toStored: eventToCore,
    fromStored: eventFromCore,
    selectable: eventFields,
  },
  'apps/v1 Deployment deployments': {
    short: ['deploy'],
    ...workload,
    defaults: completeDeployment,
    check: checkDeployment,
    warnings: templateWarnings,
  },
  'apps/v1 DaemonSet daemonsets': {
    short: ['ds'],
    categories: all,
    status: true,
    defaults: completeDaemonSet,
    check: checkDaemonSet,
    warnings: templateWarnings,
  },
  'apps/v1 ReplicaSet replicasets': {
    short: ['rs'],
    ...workload,
    selectable: ['status.replicas'],
    defaults: completeReplicas,
    check: checkReplicaSet,
    warnings: templateWarnings,
  },
  'apps/v1 StatefulSet statefulsets': { short: ['sts'], ...workload, defaults: completeReplicas },
  'apps/v1 ControllerRevision controllerrevisions': {},
  'batch/v1 Job jobs': {
    categories: all,
    status: true,
    selectable: ['status.successful'],
    defaults: completeJob,
    check: checkJob,
    warnings: jobWarnings,
    orphansByDefault: true,
  },
  'batch/v1 CronJob cronjobs': { short: ['cj'], categories: all, status: true },
  'discovery.k8s.io/v1 EndpointSlice endpointslices': {},
  'networking.k8s.io/v1 NetworkPolicy networkpolicies': { short: ['netpol'], check: checkNetworkPolicy },
  'networking.k8s.io/v1 Ingress ingresses': { short: ['ing'], status: true, singular: 'ingress' },
  'networking.k8s.io/v1 IngressClass ingressclasses': { ...cluster, singular: 'ingressclass' },
  'networking.k8s.io/v1 ServiceCIDR servicecidrs': { ...cluster, status: true },
  'networking.k8s.io/v1 IPAddress ipaddresses': { short: ['ip'], ...cluster, singular: 'ipaddress' },
  'coordination.k8s.io/v1 Lease leases': {},
  'policy/v1 PodDisruptionBudget poddisruptionbudgets': { short: ['pdb'], status: true },
  'rbac.authorization.k8s.io/v1 Role roles': { ...rbac },
  'rbac.authorization.k8s.io/v1 RoleBinding rolebindings': { ...rbac },
  'rbac.authorization.k8s.io/v1 ClusterRole clusterroles': { ...cluster, ...rbac },
  'rbac.authorization.k8s.io/v1 ClusterRoleBinding clusterrolebindings': { ...cluster, ...rbac },
  'scheduling.k8s.io/v1 PriorityClass priorityclasses': {
    short: ['pc'],
    ...cluster,
    singular: 'priorityclass',
  },
  'storage.k8s.io/v1 StorageClass storageclasses': { short: ['sc'], ...cluster, singular: 'storageclass' },
  'storage.k8s.io/v1 CSINode csinodes': { ...cluster },
  'storage.k8s.io/v1 CSIDriver csidrivers': { ...cluster },
  'storage.k8s.io/v1 VolumeAttachment volumeattachments': { ...cluster, status: true },
  'node.k8s.io/v1 RuntimeClass runtimeclasses': { ...cluster, singular: 'runtimeclass' },
  'autoscaling/v2 HorizontalPodAutoscaler horizontalpodautoscalers': {
    short: ['hpa'],
    categories: all,
    status: true,
  },
  'admissionregistration.k8s.io/v1 MutatingWebhookConfiguration mutatingwebhookconfigurations': {
    ...cluster,
    defaults: (object) => completeHooks(object, true),
    check: checkHooks,
  },
  'admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration validatingwebhookconfigurations': {
    ...cluster,
    defaults: (object) => completeHooks(object, false),
    check: checkHooks,
  },
  'certificates.k8s.io/v1 CertificateSigningRequest certificatesigningrequests': {
    short: ['csr'],
    ...cluster,
    status: true,
    subresources: ['approval'],
  },
  'apiextensions.k8s.io/v1 CustomResourceDefinition customresourcedefinitions': {
    short: ['crd', 'crds'],
    categories: ['api-extensions'],
    ...cluster,
    status: true,
    defaults: completeDefinition,
    check: checkDefinition,
  },
};

const LASTING_NAMESPACES = new Set(['default', 'kube-system', 'kube-public']);

function completeNamespace(object: Any, _context: HookContext, before: Any | null): void {
  const namespace = object as Any & { spec?: { finalizers?: string[] }; status?: { phase?: string } };
  namespace.metadata.labels = {
    ...namespace.metadata.labels,
    'kubernetes.io/metadata.name': namespace.metadata.name!,
  };
  if (before === null) {
    namespace.spec = { ...namespace.spec, finalizers: ['kubernetes'] };
    namespace.status = { phase: 'Active' };
  }
}

const finalizersOf = (namespace: Any): readonly string[] =>
  (namespace['spec'] as { finalizers?: string[] } | undefined)?.finalizers ?? [];

function completeSecret(object: Any): void {
  const secret = object as Any & {
    type?: string;
    data?: Record<string, string>;
    stringData?: Record<string, string>;
  };
  secret.type ??= 'Opaque';
  if (secret.stringData === undefined) return;
  secret.data ??= {};
  for (const [key, text] of Object.entries(secret.stringData))
    secret.data[key] = Buffer.from(text).toString('base64');
  delete secret.stringData;
}

export function builtinKinds(): Kind[] {
  return Object.entries(rows).map(([head, row]) => {
    const [apiVersion, kind, plural] = head.split(' ') as [string, string, string];
    const slash = apiVersion.indexOf('/');
    const group = slash < 0 ? '' : apiVersion.slice(0, slash);
    const collection = row.collection ?? (group === '' ? plural : `${plural}.${group}`);
    const warnings = row.warnings ?? idleKindWarning(collection, kind);
    return {
      group,
      kind,
      listKind: `${kind}List`,
      plural,
      singular: row.singular ?? kind.toLowerCase(),
      shortNames: row.short ?? [],
      categories: row.categories ?? [],
      namespaced: !row.cluster,
      versions: [
        {
          name: apiVersion.slice(slash + 1),
          columns: columnsOf(group, plural),
          decode: decoderOf(group, apiVersion.slice(slash + 1), kind),
          ...(row.toStored ? { toStored: row.toStored } : {}),
          ...(row.fromStored ? { fromStored: row.fromStored } : {}),
        },
      ],
      storedVersion: row.storedVersion ?? apiVersion,
      collection,
      nameRule: row.nameRule ?? 'subdomain',
      status: row.status ?? false,
      createsWithStatus: row.createsWithStatus ?? false,
      ...(row.scale ? { scale: scalePaths } : {}),
      selectable: row.selectable ?? [],
      custom: false,
      subresources: row.subresources ?? [],
      ...(row.defaults ? { defaults: row.defaults } : {}),
      ...(row.check ? { check: row.check } : {}),
      ...(row.grace ? { grace: row.grace } : {}),
      ...(row.held ? { held: row.held } : {}),
      ...(row.ending ? { ending: row.ending } : {}),
      ...(row.lasting ? { lasting: row.lasting } : {}),
      ...(row.orphansByDefault ? { orphansByDefault: true } : {}),
      ...(warnings ? { warnings } : {}),
    };
  });
}
