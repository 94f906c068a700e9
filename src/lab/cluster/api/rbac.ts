// Who may do what: role-based access control over the stored roles and bindings, as kube-apiserver's RBAC authoriser
// evaluates them, aggregated ClusterRoles included. Members of system:masters may do everything. Nothing is kept: a
// question reads the objects as they are. Whoever creates a role may grant more than he has (no escalation check).
import { matchesRequirements, selectorRequirements } from '../../../kube/selectors.ts';
import type { KubeObject, LabelSelector } from '../../../kube/types.ts';
import { type Attributes, isOfPath } from './attributes.ts';
import * as errors from './errors.ts';
import type { Any } from './kinds.ts';
import type { User } from './pki.ts';

export type Rule = {
  verbs: string[];
  apiGroups?: string[];
  resources?: string[];
  resourceNames?: string[];
  nonResourceURLs?: string[];
};

type Subject = { kind: string; name: string; namespace?: string };
type Role = KubeObject & { rules?: Rule[]; aggregationRule?: { clusterRoleSelectors?: LabelSelector[] } };
type Binding = KubeObject & { subjects?: Subject[]; roleRef: { kind: string; name: string } };

/** Objects of a collection (its plural and group). */
export type ListObjects = (collection: string) => readonly KubeObject[];

export const MASTERS = 'system:masters';
const GROUP = 'rbac.authorization.k8s.io';
const DENIED = 'no role allows it';

export class Rbac {
  readonly #list: ListObjects;

  constructor(list: ListObjects) {
    this.#list = list;
  }

  /** Whether the user may, and by what. */
  decide(user: User, attributes: Attributes): { allowed: boolean; reason: string } {
    if (user.groups.includes(MASTERS)) return { allowed: true, reason: `member of ${MASTERS}` };
    const namespace = isOfPath(attributes) ? '' : attributes.namespace;
    for (const { rules, source } of this.#granted(user, namespace))
      if (rules.some((rule) => covers(rule, attributes))) return { allowed: true, reason: source };
    return { allowed: false, reason: DENIED };
  }

  /** Throws Forbidden, in kube-apiserver's words. */
  check(user: User, attributes: Attributes): void {
    if (!this.decide(user, attributes).allowed) throw refusal(user, attributes);
  }

  /** All rules of a user in a namespace: what `kubectl auth can-i --list` shows. */
  rulesOf(user: User, namespace: string): Rule[] {
    const all = { verbs: ['*'] };
    if (user.groups.includes(MASTERS))
      return [
        { ...all, apiGroups: ['*'], resources: ['*'] },
        { ...all, nonResourceURLs: ['*'] },
      ];
    return this.#granted(user, namespace).flatMap(({ rules }) => rules);
  }

  #granted(user: User, namespace: string): { rules: readonly Rule[]; source: string }[] {
    const cluster = this.#bindings('clusterrolebindings').map((binding) => ({ binding, where: '' }));
    const local = this.#bindings('rolebindings')
      .filter(({ metadata }) => namespace !== '' && metadata.namespace === namespace)
      .map((binding) => ({ binding, where: namespace }));
    return [...cluster, ...local].flatMap(({ binding, where }) => {
      if (!binding.subjects?.some((subject) => isSubject(subject, user, where))) return [];
      const { kind, name } = binding.roleRef;
      const source = `${binding.kind} "${binding.metadata.name}" of ${kind} "${name}"`;
      return [{ rules: this.#rulesOfRole(kind, name, where), source }];
    });
  }

  #bindings(plural: string): Binding[] {
    return this.#list(`${plural}.${GROUP}`) as Binding[];
  }

  #rulesOfRole(kind: string, name: string, namespace: string): readonly Rule[] {
    const local = kind === 'Role';
    const roles = this.#list(`${local ? 'roles' : 'clusterroles'}.${GROUP}`) as Role[];
    const role = roles.find(
      ({ metadata }) => metadata.name === name && (!local || metadata.namespace === namespace),
    );
    const selectors = role?.aggregationRule?.clusterRoleSelectors;
    if (selectors === undefined) return role?.rules ?? [];
    const wanted = selectors.map(selectorRequirements);
    return roles
      .filter(({ metadata }) => wanted.some((each) => matchesRequirements(each, metadata.labels)))
      .flatMap(({ rules }) => rules ?? []);
  }
}

/** `namespace`: of the binding, empty for one of the cluster. */
function isSubject(subject: Subject, user: User, namespace: string): boolean {
  if (subject.kind === 'Group') return user.groups.includes(subject.name);
  if (subject.kind === 'User') return user.name === subject.name;
  const where = subject.namespace ?? namespace;
  return subject.kind === 'ServiceAccount' && user.name === `system:serviceaccount:${where}:${subject.name}`;
}

export function covers(rule: Rule, attributes: Attributes): boolean {
  if (!has(rule.verbs, attributes.verb)) return false;
  if (isOfPath(attributes))
    return (rule.nonResourceURLs ?? []).some((url) =>
      url.endsWith('*') ? attributes.path.startsWith(url.slice(0, -1)) : url === attributes.path,
    );
  const { group, resource, subresource, name } = attributes;
  const full = subresource === '' ? resource : `${resource}/${subresource}`;
  const names = rule.resourceNames ?? [];
  return (
    has(rule.apiGroups, group) &&
    (has(rule.resources, full) || (subresource !== '' && rule.resources?.includes(`*/${subresource}`))) ===
      true &&
    (names.length === 0 || names.includes(name))
  );
}

const has = (list: readonly string[] | undefined, value: string): boolean =>
  list !== undefined && (list.includes('*') || list.includes(value));

function refusal(user: User, attributes: Attributes): errors.ApiError {
  const who = `User "${user.name}" cannot ${attributes.verb}`;
  if (isOfPath(attributes))
    return new errors.ApiError(403, 'Forbidden', `forbidden: ${who} path "${attributes.path}"`, {});
  const { group, resource, subresource, namespace, name } = attributes;
  const full = subresource === '' ? resource : `${resource}/${subresource}`;
  const where = namespace === '' ? 'at the cluster scope' : `in the namespace "${namespace}"`;
  const qualified = group === '' ? resource : `${resource}.${group}`;
  const what = name === '' ? qualified : `${qualified} "${name}"`;
  return new errors.ApiError(
    403,
    'Forbidden',
    `${what} is forbidden: ${who} resource "${full}" in API group "${group}" ${where}`,
    { ...(name === '' ? {} : { name }), ...(group === '' ? {} : { group }), kind: resource },
  );
}

const authenticated = [{ kind: 'Group', name: 'system:authenticated', apiGroup: GROUP }];
const reviews = ['selfsubjectaccessreviews', 'selfsubjectrulesreviews'];

/** Of kube-apiserver's bootstrap policy, what a client needs to find its way. */
const BOOTSTRAP: readonly { name: string; rules: Rule[]; subjects: readonly object[] }[] = [
  {
    name: 'cluster-admin',
    rules: [
      { verbs: ['*'], apiGroups: ['*'], resources: ['*'] },
      { verbs: ['*'], nonResourceURLs: ['*'] },
    ],
    subjects: [{ kind: 'Group', name: MASTERS, apiGroup: GROUP }],
  },
  {
    name: 'system:discovery',
    rules: [
      {
        verbs: ['get'],
        nonResourceURLs: [
          '/api',
          '/api/*',
          '/apis',
          '/apis/*',
          '/healthz',
          '/livez',
          '/openapi',
          '/openapi/*',
          '/readyz',
          '/version',
          '/version/',
        ],
      },
    ],
    subjects: authenticated,
  },
  {
    name: 'system:basic-user',
    rules: [
      { verbs: ['create'], apiGroups: ['authorization.k8s.io'], resources: reviews },
      { verbs: ['create'], apiGroups: ['authentication.k8s.io'], resources: ['selfsubjectreviews'] },
    ],
    subjects: authenticated,
  },
  {
    name: 'system:service-account-issuer-discovery',
    rules: [
      {
        verbs: ['get'],
        nonResourceURLs: ['/.well-known/openid-configuration', '/openid/v1/jwks'],
      },
    ],
    subjects: [{ kind: 'Group', name: 'system:serviceaccounts', apiGroup: GROUP }],
  },
];

/** The roles and bindings that every cluster has, by collection; missing ones are made at the start. */
export function bootstrapPolicy(): { plural: 'clusterroles' | 'clusterrolebindings'; object: Any }[] {
  return BOOTSTRAP.flatMap(({ name, rules, subjects }) => {
    const metadata = () => ({
      name,
      labels: { 'kubernetes.io/bootstrapping': 'rbac-defaults' },
      annotations: { 'rbac.authorization.kubernetes.io/autoupdate': 'true' },
    });
    const roleRef = { apiGroup: GROUP, kind: 'ClusterRole', name };
    return [
      { plural: 'clusterroles' as const, object: { metadata: metadata(), rules } as Any },
      {
        plural: 'clusterrolebindings' as const,
        object: { metadata: metadata(), subjects, roleRef } as Any,
      },
    ];
  });
}
