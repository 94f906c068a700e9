// Printer columns of the built-in kinds: the names, the order and the texts of `kubectl get`.
import {
  age,
  ageColumn,
  at,
  column,
  count,
  labelsText,
  listAt,
  nameColumn,
  number,
  numberAt,
  selectorText,
  since,
  text,
  textAt,
  wide,
  withMore,
} from './columns.ts';
import { eventToCore } from './event-views.ts';
import type { Any, Column } from './kinds.ts';
import { podColumns } from './pod-columns.ts';

const join = (items: readonly unknown[], missing = '<none>'): string =>
  items.length === 0 ? missing : items.join(',');

const template = 'spec.template.spec.containers';
const workloadWide = (selector = true): Column[] => [
  wide('Containers', (o) => join(listAt(o, template).map((c) => textAt(c, 'name')))),
  wide('Images', (o) => join(listAt(o, template).map((c) => textAt(c, 'image')))),
  ...(selector ? [wide('Selector', (o) => selectorText(at(o, 'spec.selector')))] : []),
];

function nodeStatus(node: Any): string {
  const ready = listAt(node, 'status.conditions').find((c) => c['type'] === 'Ready');
  const status = ready === undefined ? 'Unknown' : ready['status'] === 'True' ? 'Ready' : 'NotReady';
  return at(node, 'spec.unschedulable') === true ? `${status},SchedulingDisabled` : status;
}

function nodeRoles(node: Any): string {
  const roles: string[] = [];
  for (const [key, value] of Object.entries(node.metadata.labels ?? {})) {
    if (key.startsWith('node-role.kubernetes.io/') && key.length > 24) roles.push(key.slice(24));
    else if (key === 'kubernetes.io/role' && value !== '') roles.push(value);
  }
  return join(roles.sort());
}

const nodeAddress = (type: string) => (node: Any) =>
  textAt(
    listAt(node, 'status.addresses').find((a) => a['type'] === type),
    'address',
    '<none>',
  );

function externalIp(service: Any): string {
  const external = listAt(service, 'spec.externalIPs');
  const type = textAt(service, 'spec.type');
  if (type === 'ExternalName') return textAt(service, 'spec.externalName');
  if (type !== 'LoadBalancer') return join(external);
  const ingress = listAt(service, 'status.loadBalancer.ingress').map(
    (i) => textAt(i, 'ip') || textAt(i, 'hostname'),
  );
  return join([...ingress, ...external], '<pending>');
}

function servicePorts(service: Any): string {
  return join(
    listAt(service, 'spec.ports').map((p) => {
      const nodePort = numberAt(p, 'nodePort');
      return `${textAt(p, 'port')}${nodePort > 0 ? `:${nodePort}` : ''}/${textAt(p, 'protocol')}`;
    }),
  );
}

const event = (cell: (core: Any, now: number) => unknown) => (object: Any, now: number) =>
  cell('regarding' in object || 'note' in object ? eventToCore(object) : object, now);

const firstSeen = (core: Any, now: number) =>
  age(textAt(core, 'firstTimestamp') || textAt(core, 'eventTime'), now);

function lastSeen(core: Any, now: number): string {
  const last = textAt(core, 'series.lastObservedTime') || textAt(core, 'lastTimestamp');
  return last === '' ? firstSeen(core, now) : age(last, now);
}

function eventSource(core: Any): string {
  const component = textAt(core, 'source.component') || textAt(core, 'reportingComponent');
  const host = textAt(core, 'source.host') || textAt(core, 'reportingInstance');
  return host === '' ? component : `${component}, ${host}`;
}

function endpointsText(endpoints: Any): string {
  const out: string[] = [];
  for (const subset of listAt(endpoints, 'subsets')) {
    for (const address of listAt(subset, 'addresses')) {
      const ip = textAt(address, 'ip');
      const ports = listAt(subset, 'ports');
      if (ports.length === 0) out.push(ip);
      for (const port of ports) out.push(`${ip.includes(':') ? `[${ip}]` : ip}:${textAt(port, 'port')}`);
    }
  }
  return withMore(out, 3);
}

function jobStatus(job: Any): string {
  const is = (type: string) =>
    listAt(job, 'status.conditions').some((c) => c['type'] === type && c['status'] === 'True');
  if (is('Complete')) return 'Complete';
  if (is('Failed')) return 'Failed';
  if (job.metadata.deletionTimestamp) return 'Terminating';
  if (is('Suspended')) return 'Suspended';
  return is('FailureTarget') ? 'FailureTarget' : is('SuccessCriteriaMet') ? 'SuccessCriteriaMet' : 'Running';
}

const keys =
  (path: string, other = '') =>
  (o: Any) =>
    String(
      Object.keys((at(o, path) as object | undefined) ?? {}).length +
        (other === '' ? 0 : Object.keys((at(o, other) as object | undefined) ?? {}).length),
    );

const roleColumns: Column[] = [
  nameColumn,
  column('Role', (o) => `${textAt(o, 'roleRef.kind')}/${textAt(o, 'roleRef.name')}`),
  ageColumn,
  ...(['Users', 'Groups', 'ServiceAccounts'] as const).map((name) =>
    wide(name, (o) =>
      listAt(o, 'subjects')
        .filter((s) => `${textAt(s, 'kind')}s` === name)
        .map((s) => (name === 'ServiceAccounts' ? `${textAt(s, 'namespace')}/` : '') + textAt(s, 'name'))
        .join(','),
    ),
  ),
];

const created: Column = {
  name: 'Created At',
  type: 'date',
  priority: 0,
  cell: (o) => o.metadata.creationTimestamp ?? '',
};

const table: Record<string, readonly Column[]> = {
  pods: podColumns,
  nodes: [
    nameColumn,
    column('Status', nodeStatus),
    column('Roles', nodeRoles),
    ageColumn,
    column('Version', text('status.nodeInfo.kubeletVersion')),
    wide('Internal-IP', nodeAddress('InternalIP')),
    wide('External-IP', nodeAddress('ExternalIP')),
    wide('OS-Image', text('status.nodeInfo.osImage', '<unknown>')),
    wide('Kernel-Version', (o) => {
      const architecture = textAt(o, 'status.nodeInfo.architecture');
      return (
        textAt(o, 'status.nodeInfo.kernelVersion', '<unknown>') +
        (architecture === '' ? '' : ` (${architecture})`)
      );
    }),
    wide('Container-Runtime', text('status.nodeInfo.containerRuntimeVersion', '<unknown>')),
  ],
  namespaces: [nameColumn, column('Status', text('status.phase')), ageColumn],
  services: [
    nameColumn,
    column('Type', text('spec.type')),
    column('Cluster-IP', text('spec.clusterIP', '<none>')),
    column('External-IP', externalIp),
    column('Port(s)', servicePorts),
    ageColumn,
    wide('Selector', (o) => labelsText(at(o, 'spec.selector'))),
  ],
  events: [
    column('Last Seen', event(lastSeen)),
    column(
      'Type',
      event((e) => textAt(e, 'type')),
    ),
    column(
      'Reason',
      event((e) => textAt(e, 'reason')),
    ),
    column(
      'Object',
      event((e) => `${textAt(e, 'involvedObject.kind').toLowerCase()}/${textAt(e, 'involvedObject.name')}`),
    ),
    wide(
      'Subobject',
      event((e) => textAt(e, 'involvedObject.fieldPath')),
    ),
    wide('Source', event(eventSource)),
    column(
      'Message',
      event((e) => textAt(e, 'message').trim()),
    ),
    wide('First Seen', event(firstSeen)),
    wide(
      'Count',
      event((e) => numberAt(e, 'series.count') || numberAt(e, 'count') || 1),
    ),
    { ...wide('Name', (o) => o.metadata.name), format: 'name' },
  ],
  configmaps: [nameColumn, column('Data', keys('data', 'binaryData')), ageColumn],
  secrets: [nameColumn, column('Type', text('type')), column('Data', keys('data')), ageColumn],
  endpoints: [nameColumn, column('Endpoints', endpointsText), ageColumn],
  replicationcontrollers: replicas(),
  'replicasets.apps': replicas(),
  'deployments.apps': [
    nameColumn,
    column('Ready', (o) => `${numberAt(o, 'status.readyReplicas')}/${numberAt(o, 'spec.replicas', 1)}`),
    column('Up-to-date', number('status.updatedReplicas')),
    column('Available', number('status.availableReplicas')),
    ageColumn,
    ...workloadWide(),
  ],
  'daemonsets.apps': [
    nameColumn,
    column('Desired', number('status.desiredNumberScheduled'), 'integer'),
    column('Current', number('status.currentNumberScheduled'), 'integer'),
    column('Ready', number('status.numberReady'), 'integer'),
    column('Up-to-date', number('status.updatedNumberScheduled'), 'integer'),
    column('Available', number('status.numberAvailable'), 'integer'),
    column('Node Selector', (o) => labelsText(at(o, 'spec.template.spec.nodeSelector'))),
    ageColumn,
    ...workloadWide(),
  ],
  'statefulsets.apps': [
    nameColumn,
    column('Ready', (o) => `${numberAt(o, 'status.readyReplicas')}/${numberAt(o, 'spec.replicas', 1)}`),
    ageColumn,
    ...workloadWide(false),
  ],
  'controllerrevisions.apps': [
    nameColumn,
    column('Controller', (o) => {
      const owner = o.metadata.ownerReferences?.find((r) => r.controller);
      return owner ? `${owner.kind.toLowerCase()}.${owner.apiVersion.split('/')[0]}/${owner.name}` : '<none>';
    }),
    column('Revision', number('revision'), 'integer'),
    ageColumn,
  ],
  'jobs.batch': [
    nameColumn,
    column('Status', jobStatus),
    column('Completions', (o) => `${numberAt(o, 'status.succeeded')}/${numberAt(o, 'spec.completions', 1)}`),
    column('Duration', since('status.startTime', '')),
    ageColumn,
    ...workloadWide(),
  ],
  'cronjobs.batch': [
    nameColumn,
    column('Schedule', text('spec.schedule')),
    column('Timezone', text('spec.timeZone', '<none>')),
    column('Suspend', (o) => (at(o, 'spec.suspend') === true ? 'True' : 'False'), 'boolean'),
    column('Active', count('status.active'), 'integer'),
    column('Last Schedule', since('status.lastScheduleTime', '<none>')),
    ageColumn,
  ],
  'endpointslices.discovery.k8s.io': [
    nameColumn,
    column('AddressType', text('addressType')),
    column('Ports', (o) =>
      withMore(
        listAt(o, 'ports').map((p) => textAt(p, 'port', '*')),
        3,
      ).replace('<none>', '<unset>'),
    ),
    column('Endpoints', (o) =>
      withMore(
        listAt(o, 'endpoints').flatMap((e) => listAt(e, 'addresses').map(String)),
        3,
      ).replace('<none>', '<unset>'),
    ),
    ageColumn,
  ],
  'networkpolicies.networking.k8s.io': [
    nameColumn,
    column('Pod-Selector', (o) => selectorText(at(o, 'spec.podSelector'))),
    ageColumn,
  ],
  'ingresses.networking.k8s.io': [
    nameColumn,
    column('Class', text('spec.ingressClassName', '<none>')),
    column('Hosts', (o) =>
      withMore(
        listAt(o, 'spec.rules').map((r) => textAt(r, 'host', '*')),
        3,
      ).replace('<none>', '*'),
    ),
    column('Address', (o) =>
      listAt(o, 'status.loadBalancer.ingress')
        .map((i) => textAt(i, 'ip') || textAt(i, 'hostname'))
        .join(','),
    ),
    column('Ports', (o) => (listAt(o, 'spec.tls').length > 0 ? '80, 443' : '80')),
    ageColumn,
  ],
  'ingressclasses.networking.k8s.io': [
    nameColumn,
    column('Controller', text('spec.controller')),
    column('Parameters', text('spec.parameters.name', '<none>')),
    ageColumn,
  ],
  'servicecidrs.networking.k8s.io': [
    nameColumn,
    column('CIDRs', (o) => listAt(o, 'spec.cidrs').join(',')),
    ageColumn,
  ],
  'ipaddresses.networking.k8s.io': [
    nameColumn,
    column('ParentRef', (o) =>
      ['resource', 'namespace', 'name']
        .map((f) => textAt(o, `spec.parentRef.${f}`))
        .filter(Boolean)
        .join('/'),
    ),
  ],
  'leases.coordination.k8s.io': [nameColumn, column('Holder', text('spec.holderIdentity')), ageColumn],
  'poddisruptionbudgets.policy': [
    nameColumn,
    column('Min Available', text('spec.minAvailable', 'N/A')),
    column('Max Unavailable', text('spec.maxUnavailable', 'N/A')),
    column('Allowed Disruptions', number('status.disruptionsAllowed'), 'integer'),
    ageColumn,
  ],
  'roles.rbac.authorization.k8s.io': [nameColumn, created],
  'clusterroles.rbac.authorization.k8s.io': [nameColumn, created],
  'rolebindings.rbac.authorization.k8s.io': roleColumns,
  'clusterrolebindings.rbac.authorization.k8s.io': roleColumns,
  'priorityclasses.scheduling.k8s.io': [
    nameColumn,
    column('Value', number('value'), 'integer'),
    column('Global-Default', (o) => at(o, 'globalDefault') === true, 'boolean'),
    ageColumn,
    column('PreemptionPolicy', text('preemptionPolicy', 'PreemptLowerPriority')),
  ],
  'storageclasses.storage.k8s.io': [
    nameColumn,
    column('Provisioner', text('provisioner')),
    column('ReclaimPolicy', text('reclaimPolicy', 'Delete')),
    column('VolumeBindingMode', text('volumeBindingMode', 'Immediate')),
    column('AllowVolumeExpansion', text('allowVolumeExpansion', 'false')),
    ageColumn,
  ],
  'runtimeclasses.node.k8s.io': [nameColumn, column('Handler', text('handler')), ageColumn],
  'mutatingwebhookconfigurations.admissionregistration.k8s.io': [
    nameColumn,
    column('Webhooks', count('webhooks'), 'integer'),
    ageColumn,
  ],
  'validatingwebhookconfigurations.admissionregistration.k8s.io': [
    nameColumn,
    column('Webhooks', count('webhooks'), 'integer'),
    ageColumn,
  ],
  'customresourcedefinitions.apiextensions.k8s.io': [nameColumn, created],
};

function replicas(): Column[] {
  return [
    nameColumn,
    column('Desired', number('spec.replicas', 1), 'integer'),
    column('Current', number('status.replicas'), 'integer'),
    column('Ready', number('status.readyReplicas'), 'integer'),
    ageColumn,
    ...workloadWide(),
  ];
}

export function columnsOf(group: string, plural: string): readonly Column[] {
  if (plural === 'events') return table['events']!;
  return table[group === '' ? plural : `${plural}.${group}`] ?? [nameColumn, ageColumn];
}
