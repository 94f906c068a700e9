// Which of many selectors a pod satisfies. Pure. Most selectors ask for one value of a label, or are of one namespace: a
// pod is compared only with those that ask for what it has.
import type { Labels, Requirement } from '../kube/selectors.ts';
import type { Namespaces, PodSelector, PodView } from './model.ts';
import { selects } from './selector.ts';

type Entry = { readonly text: string; readonly selector: PodSelector };

/** `key=value` where one requirement asks for that alone. */
const askedLabel = (requirements: readonly Requirement[]): string | undefined => {
  const one = requirements.find(({ operator, values }) => operator === 'in' && values.length === 1);
  return one && `${one.key}=${one.values[0]}`;
};

const placeOf = ({ namespace, pods }: PodSelector): string => {
  const label = askedLabel(pods);
  if (label !== undefined) return `pod ${label}`;
  if (typeof namespace === 'string') return `of ${namespace}`;
  const own = askedLabel(namespace);
  return own === undefined ? '' : `ns ${own}`;
};

const labelsOf = (labels: Labels, kind: 'pod' | 'ns'): string[] =>
  Object.entries(labels).map(([key, value]) => `${kind} ${key}=${value}`);

export class SelectorIndex {
  readonly #places = new Map<string, Entry[]>();
  readonly #namespaces: Namespaces;
  readonly size: number;

  /** By text of the selector. */
  constructor(selectors: ReadonlyMap<string, PodSelector>, namespaces: Namespaces) {
    this.#namespaces = namespaces;
    this.size = selectors.size;
    for (const [text, selector] of selectors) {
      const place = placeOf(selector);
      const there = this.#places.get(place);
      if (there) there.push({ text, selector });
      else this.#places.set(place, [{ text, selector }]);
    }
  }

  /** Texts of the selectors that select the pod. */
  selecting(pod: Pick<PodView, 'namespace' | 'labels'>): string[] {
    const namespaces = this.#namespaces;
    const places = [
      '',
      `of ${pod.namespace}`,
      ...labelsOf(pod.labels, 'pod'),
      ...labelsOf(namespaces.get(pod.namespace) ?? {}, 'ns'),
    ];
    return places.flatMap((place) =>
      (this.#places.get(place) ?? [])
        .filter(({ selector }) => selects(selector, pod, namespaces))
        .map(({ text }) => text),
    );
  }
}
