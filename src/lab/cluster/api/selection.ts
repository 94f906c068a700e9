// Which objects a list or a watch is about: namespace, name, labels and fields, as one predicate.
// Fails with 400 on a selector that does not parse or a field that the kind does not offer.
import {
  type FieldRequirement,
  fieldAt,
  matchesRequirements,
  parseFieldSelector,
  parseLabelSelector,
  type Requirement,
  SelectorError,
} from '../../../kube/selectors.ts';
import { badRequest } from './errors.ts';
import type { Kind } from './kinds.ts';
import type { Stored } from './storage.ts';

export type Selection = {
  readonly namespace: string;
  /** True when nothing but the namespace restricts it. */
  readonly everything: boolean;
  readonly matches: (stored: Stored) => boolean;
};

/** Fields that an absent value makes "false". */
const booleans = new Set(['spec.unschedulable', 'spec.hostNetwork']);

export type SelectionOptions = {
  namespace?: string | undefined;
  name?: string | undefined;
  labelSelector?: string | undefined;
  fieldSelector?: string | undefined;
};

export function selectionOf(kind: Kind, options: SelectionOptions): Selection {
  let labels: Requirement[];
  let fields: FieldRequirement[];
  try {
    labels = options.labelSelector ? parseLabelSelector(options.labelSelector) : [];
    fields = options.fieldSelector ? parseFieldSelector(options.fieldSelector) : [];
  } catch (error) {
    if (error instanceof SelectorError) throw badRequest(error.message);
    throw error;
  }
  for (const { path } of fields) {
    if (path !== 'metadata.name' && path !== 'metadata.namespace' && !kind.selectable.includes(path)) {
      throw badRequest(`field label not supported: ${path}`);
    }
  }
  if (options.name !== undefined)
    fields = [...fields, { path: 'metadata.name', equal: true, value: options.name }];
  const wanted = fields.map(({ path, equal, value }) => ({
    keys: path.split('.'),
    equal,
    value,
    missing: booleans.has(path) ? 'false' : '',
  }));
  const namespace = kind.namespaced ? (options.namespace ?? '') : '';
  return {
    namespace,
    everything: labels.length === 0 && fields.length === 0,
    matches: (stored) => {
      if (namespace !== '' && stored.namespace !== namespace) return false;
      for (const { keys, equal, value, missing } of wanted) {
        if (((fieldAt(stored.object, keys) || missing) === value) !== equal) return false;
      }
      return labels.length === 0 || matchesRequirements(labels, stored.object.metadata.labels);
    },
  };
}
