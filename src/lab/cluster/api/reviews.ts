// The reviews by which clients ask who they are, whose a token is, and what they or others may do. A review is asked by
// creating an object that is kept nowhere; the answer is its status.
import type { Attributes } from './attributes.ts';
import * as errors from './errors.ts';
import type { Any } from './kinds.ts';
import { objectOf } from './options.ts';
import type { User } from './pki.ts';
import type { Rbac } from './rbac.ts';

export type Review = {
  readonly group: string;
  readonly plural: string;
  readonly kind: string;
  readonly namespaced?: true;
};

const authorization = 'authorization.k8s.io';
const authentication = 'authentication.k8s.io';
export const reviews: readonly Review[] = [
  { group: authorization, plural: 'selfsubjectaccessreviews', kind: 'SelfSubjectAccessReview' },
  { group: authorization, plural: 'selfsubjectrulesreviews', kind: 'SelfSubjectRulesReview' },
  { group: authorization, plural: 'subjectaccessreviews', kind: 'SubjectAccessReview' },
  {
    group: authorization,
    plural: 'localsubjectaccessreviews',
    kind: 'LocalSubjectAccessReview',
    namespaced: true,
  },
  { group: authentication, plural: 'selfsubjectreviews', kind: 'SelfSubjectReview' },
  { group: authentication, plural: 'tokenreviews', kind: 'TokenReview' },
];

export type ReviewParts = {
  readonly rbac: Rbac;
  /** Null for nobody's; of a service account's token also the audiences, of those asked for, that it is good for. */
  readonly userOf: (
    token: string,
    audiences: readonly string[],
  ) => { user: User; audiences: string[] } | null;
};

/** `path`: segments after /apis. Undefined when they name no review. */
export function reviewOf(path: readonly string[]): { review: Review; namespace: string } | undefined {
  const [group, version, ...rest] = path;
  if (version !== 'v1') return undefined;
  const local = rest.length === 3 && rest[0] === 'namespaces';
  const plural = local ? rest[2] : rest.length === 1 ? rest[0] : undefined;
  const review = reviews.find((r) => r.group === group && r.plural === plural);
  if (review === undefined || local !== (review.namespaced ?? false)) return undefined;
  return { review, namespace: local ? rest[1]! : '' };
}

/** The review with its status. */
export function answerReview(parts: ReviewParts, { kind, group }: Review, user: User, body: unknown): Any {
  const asked = objectOf(body);
  return { ...asked, kind, apiVersion: `${group}/v1`, status: statusOf(parts, kind, user, asked) } as Any;
}

type Spec = {
  user?: string;
  groups?: string[];
  namespace?: string;
  token?: string;
  audiences?: string[];
  resourceAttributes?: Partial<
    Record<'verb' | 'group' | 'resource' | 'subresource' | 'namespace' | 'name', string>
  >;
  nonResourceAttributes?: { verb?: string; path?: string };
};

function statusOf({ rbac, userOf }: ReviewParts, kind: string, user: User, asked: Any): object {
  const spec = (asked['spec'] ?? {}) as Spec;
  switch (kind) {
    case 'SelfSubjectReview':
      return { userInfo: infoOf(user) };
    case 'TokenReview': {
      const found = userOf(spec.token ?? '', spec.audiences ?? []);
      if (found === null) return { authenticated: false, error: 'the token is of nobody known here' };
      return { authenticated: true, user: infoOf(found.user), audiences: found.audiences };
    }
    case 'SelfSubjectRulesReview': {
      const rules = rbac.rulesOf(user, spec.namespace ?? '');
      return {
        resourceRules: rules.filter((rule) => rule.resources),
        nonResourceRules: rules.filter((rule) => rule.nonResourceURLs),
        incomplete: false,
      };
    }
    case 'SelfSubjectAccessReview':
      return rbac.decide(user, wishedOf(spec));
    default: {
      if (!spec.user && !spec.groups?.length)
        throw errors.badRequest('spec.user: at least one of user or group must be specified');
      return rbac.decide({ name: spec.user ?? '', groups: spec.groups ?? [] }, wishedOf(spec));
    }
  }
}

function wishedOf({ resourceAttributes: r, nonResourceAttributes: p }: Spec): Attributes {
  if ((r === undefined) === (p === undefined))
    throw errors.badRequest('exactly one of nonResourceAttributes or resourceAttributes must be specified');
  if (p !== undefined) return { verb: p.verb ?? '', path: p.path ?? '' };
  const { verb = '', group = '', resource = '', subresource = '', namespace = '', name = '' } = r!;
  return { verb, group, resource, subresource, namespace, name };
}

const infoOf = ({ name, groups, uid, extra }: User) => ({
  username: name,
  ...(uid === undefined ? {} : { uid }),
  groups: [...groups],
  ...(extra === undefined ? {} : { extra }),
});
