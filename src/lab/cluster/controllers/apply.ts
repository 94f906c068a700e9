// Does what a plan says, in its order, on the API's object store; the only file here that writes. Stops at the first
// refusal and throws it: what was done stays done, and the next pass plans from there.
import type { Resource } from '../../../kube/resources.ts';
import type { KubeObject } from '../../../kube/types.ts';
import { ApiError, type Store } from '../api/index.ts';
import { recordEvent } from '../events.ts';
import type { Action } from './plan.ts';

const COMPONENT = 'podway-controllers';
/** Who webhooks are told that it is. */
const CONTROLLER = {
  name: 'system:kube-controller-manager',
  groups: ['system:masters', 'system:authenticated'],
};
/** Of generateName, what the API keeps (metadata.ts). */
const MAX_BASE = 58;

/** A promise from the first creation on that webhooks are to see before it is done. */
export function applyActions(
  store: Store,
  actions: readonly Action[],
  now: () => number,
): void | Promise<void> {
  for (const [i, action] of actions.entries()) {
    if (isAdmitted(store, action)) return applyLater(store, actions.slice(i), now);
    applyOne(store, action, now);
  }
}

const isAdmitted = (store: Store, action: Action): action is Action & { do: 'create' } =>
  action.do === 'create' && store.isAdmitted(action.resource, action.object);

async function applyLater(store: Store, actions: readonly Action[], now: () => number): Promise<void> {
  for (const action of actions) {
    if (!isAdmitted(store, action)) {
      applyOne(store, action, now);
      continue;
    }
    const { resource, object } = action;
    await store.createAdmitted(resource, object, CONTROLLER).catch((error: unknown) => {
      throw nameless(error, object);
    });
  }
}

function applyOne(store: Store, action: Action, now: () => number): void {
  switch (action.do) {
    case 'create':
      create(store, action.resource, action.object);
      return;
    case 'update': {
      // Nothing else runs between plan and write, so a version in hand would only forbid two writes in one plan.
      const { resourceVersion: _, ...metadata } = action.object.metadata;
      unlessGone(() => store.update(action.resource, { ...action.object, metadata }));
      return;
    }
    case 'status': {
      const known = present(store, action.resource, action.object);
      if (known) store.updateStatus(action.resource, { ...known, status: action.status } as KubeObject);
      return;
    }
    case 'delete': {
      const { name = '', namespace = '', uid = '' } = action.object.metadata;
      unlessGone(() =>
        store.delete(action.resource, name, namespace, {
          propagationPolicy: 'Background',
          preconditions: { uid },
        }),
      );
      return;
    }
    case 'event':
      recordEvent(store, now, action.about, COMPONENT, action.notice);
      return;
  }
}

function create(store: Store, resource: Resource, object: KubeObject): void {
  try {
    store.create(resource, object);
  } catch (error) {
    throw nameless(error, object);
  }
}

/** A refusal speaks of the name that was to be generated: another at each try, which would make each a new failure. */
function nameless(error: unknown, object: KubeObject): unknown {
  const { name, generateName } = object.metadata;
  if (!(error instanceof ApiError) || name || !generateName) return error;
  const { code, reason, details } = error;
  const begins = generateName.slice(0, MAX_BASE);
  const text = error.message.replace(/"([^"]*)"/, (whole, made: string) =>
    made.startsWith(begins) ? `"${begins}"` : whole,
  );
  return new ApiError(code, reason, text, details);
}

function present(store: Store, resource: Resource, object: KubeObject): KubeObject | undefined {
  const { name = '', namespace = '', uid } = object.metadata;
  const known = store.find(resource, name, namespace) as KubeObject | null;
  return known?.metadata.uid === uid ? (known ?? undefined) : undefined;
}

function unlessGone(work: () => void): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 404) throw error;
  }
}
