// Which webhooks a request concerns: rules by operation, group, version, resource and scope, then the labels of its
// namespace and of its object. Pure.
import { matchesRequirements, selectorRequirements } from '../../../kube/selectors.ts';
import type { KubeObject, LabelSelector } from '../../../kube/types.ts';
import type { Hook, HookRule, Operation } from './hooks.ts';

export type Concern = {
  operation: Operation;
  group: string;
  /** Of the request; others that the resource is served at too. */
  version: string;
  otherVersions: readonly string[];
  resource: string;
  /** Empty for the object itself. */
  subresource: string;
  /** Empty for the whole cluster. */
  namespace: string;
  /** Of the request's namespace; a Namespace's own when it is the object. Null outside namespaces. */
  namespaceLabels: Readonly<Record<string, string>> | null;
};

/** The version that the hook is to see the object at; null when no rule names the request. */
export function versionFor(hook: Hook, concern: Concern): string | null {
  const versions = [concern.version, ...(hook.matchPolicy === 'Equivalent' ? concern.otherVersions : [])];
  for (const version of versions)
    if (hook.rules?.some((rule) => covers(rule, concern, version))) return version;
  return null;
}

function covers(rule: HookRule, concern: Concern, version: string): boolean {
  const has = (list: readonly string[], value: string) => list.includes('*') || list.includes(value);
  return (
    has(rule.operations, concern.operation) &&
    has(rule.apiGroups, concern.group) &&
    has(rule.apiVersions, version) &&
    rule.resources.some((pattern) => coversResource(pattern, concern)) &&
    (rule.scope === '*' || (rule.scope === 'Cluster') === isOfCluster(concern))
  );
}

/** A Namespace is an object of the cluster although its requests name it as theirs. */
const isOfCluster = ({ namespace, group, resource }: Concern): boolean =>
  namespace === '' || (group === '' && resource === 'namespaces');

/** `*` names no subresource, `star/star` names all of both. */
function coversResource(pattern: string, { resource, subresource }: Concern): boolean {
  const [ofResource, ofSubresource = ''] = pattern.split('/') as [string, string?];
  return (
    (ofResource === '*' || ofResource === resource) &&
    (ofSubresource === subresource || (ofSubresource === '*' && pattern !== '*'))
  );
}

const selects = (selector: LabelSelector, labels: Readonly<Record<string, string>> | undefined): boolean =>
  matchesRequirements(selectorRequirements(selector), labels ?? {});

export const concernsNamespace = (hook: Hook, { namespaceLabels }: Concern): boolean =>
  namespaceLabels === null || selects(hook.namespaceSelector, namespaceLabels);

/** One of the two objects is enough. */
export const concernsObject = (hook: Hook, objects: readonly (KubeObject | null)[]): boolean =>
  objects.some((object) => object !== null && selects(hook.objectSelector, object.metadata?.labels)) ||
  (objects.every((object) => object === null) && selects(hook.objectSelector, {}));
