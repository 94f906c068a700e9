// How each kind is reached: group, version and plural, with the type of its objects attached.
// One constant per kind; a kind of a CustomResourceDefinition is one more constant, written where it is used.
import type { KubeEvent, KubeObject, Namespace, Node, Pod, Service } from './types.ts';

export type Resource<T extends KubeObject = KubeObject> = {
  /** Empty for the core group. */
  readonly group: string;
  readonly version: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced: boolean;
  /** Never set: carries the type of the objects. */
  readonly __object?: T;
};

export function resource<T extends KubeObject>(
  apiVersion: string,
  plural: string,
  kind: string,
  scope: 'Namespaced' | 'Cluster',
): Resource<T> {
  const slash = apiVersion.indexOf('/');
  const group = slash < 0 ? '' : apiVersion.slice(0, slash);
  return { group, version: apiVersion.slice(slash + 1), plural, kind, namespaced: scope === 'Namespaced' };
}

export const apiVersionOf = (r: Resource): string => (r.group === '' ? r.version : `${r.group}/${r.version}`);

export const namespaces = resource<Namespace>('v1', 'namespaces', 'Namespace', 'Cluster');
export const nodes = resource<Node>('v1', 'nodes', 'Node', 'Cluster');
export const pods = resource<Pod>('v1', 'pods', 'Pod', 'Namespaced');
export const events = resource<KubeEvent>('v1', 'events', 'Event', 'Namespaced');
export const networkPolicies = resource<KubeObject & { spec?: unknown }>(
  'networking.k8s.io/v1',
  'networkpolicies',
  'NetworkPolicy',
  'Namespaced',
);
/** Kinds of one definition, which a cluster may not have; the later version first. */
export const clusterNetworkPolicies = ['v1beta1', 'v1alpha2'].map((version) =>
  resource<KubeObject & { spec?: unknown }>(
    `policy.networking.k8s.io/${version}`,
    'clusternetworkpolicies',
    'ClusterNetworkPolicy',
    'Cluster',
  ),
);
/** Of them the agent asks for one by its name. */
export const customResourceDefinitions = resource<KubeObject>(
  'apiextensions.k8s.io/v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'Cluster',
);
export const serviceAccounts = resource<KubeObject>('v1', 'serviceaccounts', 'ServiceAccount', 'Namespaced');
export const services = resource<Service>('v1', 'services', 'Service', 'Namespaced');

/** Path of a collection, or of one object in it, or of a subresource. */
export function resourcePath(r: Resource, namespace?: string, name?: string, subresource?: string): string {
  let path = r.group === '' ? `/api/${r.version}` : `/apis/${r.group}/${r.version}`;
  if (r.namespaced && namespace) path += `/namespaces/${encodeURIComponent(namespace)}`;
  path += `/${r.plural}`;
  if (name !== undefined) path += `/${encodeURIComponent(name)}`;
  if (subresource !== undefined) path += `/${subresource}`;
  return path;
}
