// Selectors of pods. Each has one text, so that equal selectors of different policies are one and are matched once.
import { type Labels, matchesRequirements, type Requirement } from '../kube/selectors.ts';
import type { Namespaces, PodSelector, PodView } from './model.ts';

/** Every pod of the cluster. */
export const ALL_PODS: PodSelector = { namespace: [], pods: [] };

const requirementsText = (requirements: readonly Requirement[]): string =>
  requirements
    .map(({ key, operator, values }) => JSON.stringify([key, operator, [...new Set(values)].sort()]))
    .sort()
    .join('');

const texts = new WeakMap<PodSelector, string>();

/** The same for selectors that match the same labels by the same requirements. */
export function selectorText(selector: PodSelector): string {
  let text = texts.get(selector);
  if (text === undefined) {
    const { namespace, pods } = selector;
    text = `${typeof namespace === 'string' ? namespace : `{${requirementsText(namespace)}}`} ${requirementsText(pods)}`;
    texts.set(selector, text);
  }
  return text;
}

/** A pod of a namespace that is not known has no namespace labels. */
export function selects(
  { namespace, pods }: PodSelector,
  pod: Pick<PodView, 'namespace' | 'labels'>,
  namespaces: Namespaces,
): boolean {
  if (typeof namespace === 'string') {
    if (pod.namespace !== namespace) return false;
  } else if (namespace.length > 0 && !matchesRequirements(namespace, labelsOf(pod.namespace, namespaces))) {
    return false;
  }
  return matchesRequirements(pods, pod.labels);
}

const labelsOf = (name: string, namespaces: Namespaces): Labels => namespaces.get(name) ?? {};
