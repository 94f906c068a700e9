// Asks the webhooks that a request concerns. Mutating ones come one after the other, in the order of their
// configurations' names; one that asks for it is called once more when another changed the object after it. Validating
// ones are asked at once. A call that fails refuses the request, or is passed over, as its policy says.
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { ApiError } from '../api/errors.ts';
import type { Any } from '../api/kinds.ts';
import { type Json, jsonPatch } from '../api/patch.ts';
import { callHook, type Dial, type Objects } from './call.ts';
import type { Hook } from './hooks.ts';
import { type Concern, concernsNamespace, concernsObject, versionFor } from './match.ts';
import { type AdmissionRequest, denial, reviewOf, type Verdict, verdictOf } from './review.ts';

type Kind = 'Mutating' | 'Validating';

/** A webhook, and the version that it is to see the object at. */
type Called = { hook: Hook; version: string };

export type Admitting = { mutating: readonly Called[]; validating: readonly Called[] };

export type Ask = {
  request: AdmissionRequest;
  object: Any | null;
  oldObject: Any | null;
  warn: (text: string) => void;
  /** The object at another version of its kind. */
  convert: (object: Any, version: string) => Any;
};

export type AdmissionParts = { list: Objects; dial: Dial };

const GROUP = 'admissionregistration.k8s.io';

export class Admission {
  readonly #parts: AdmissionParts;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  /** The webhooks that may have to be asked; null when there are none, so that nothing needs to wait. */
  concerned(concern: Concern): Admitting | null {
    // Nobody may lock himself out of the configurations.
    if (concern.group === GROUP) return null;
    const mutating = this.#hooks('Mutating', concern);
    const validating = this.#hooks('Validating', concern);
    return mutating.length + validating.length === 0 ? null : { mutating, validating };
  }

  #hooks(kind: Kind, concern: Concern): Called[] {
    const configurations = this.#parts.list(`${kind.toLowerCase()}webhookconfigurations.${GROUP}`) as (Any & {
      webhooks?: Hook[];
    })[];
    return [...configurations]
      .sort((a, b) => (a.metadata.name! < b.metadata.name! ? -1 : 1))
      .flatMap(({ webhooks = [] }) => webhooks)
      .flatMap((hook) => {
        const version = versionFor(hook, concern);
        return version !== null && concernsNamespace(hook, concern) ? [{ hook, version }] : [];
      });
  }

  /** The object as the mutating webhooks left it. Throws ApiError. */
  async mutate(hooks: readonly Called[], ask: Ask): Promise<Any | null> {
    let object = ask.object;
    /** Of each hook that asks to come again: the object as it left it. */
    const again: { called: Called; left: Any | null }[] = [];
    for (const called of hooks) {
      if (!concernsObject(called.hook, [object, ask.oldObject])) continue;
      object = await this.#mutateOnce(called, { ...ask, object });
      if (called.hook.reinvocationPolicy === 'IfNeeded') again.push({ called, left: object });
    }
    for (const { called, left } of again) {
      if (isDeepStrictEqual(object, left)) continue;
      if (concernsObject(called.hook, [object, ask.oldObject]))
        object = await this.#mutateOnce(called, { ...ask, object });
    }
    return object;
  }

  async #mutateOnce(called: Called, ask: Ask): Promise<Any | null> {
    const verdict = await this.#ask(called, ask, true);
    if (verdict?.patch === undefined || ask.object === null) return ask.object;
    const { version } = ask.request.kind;
    try {
      const seen = ask.convert(ask.object, called.version);
      return ask.convert(jsonPatch(seen as Json, verdict.patch as Json) as Any, version);
    } catch (error) {
      throw internal(called.hook, `cannot apply its patch: ${(error as Error).message}`);
    }
  }

  async validate(hooks: readonly Called[], ask: Ask): Promise<void> {
    const concerned = hooks.filter(({ hook }) => concernsObject(hook, [ask.object, ask.oldObject]));
    const results = await Promise.allSettled(concerned.map((called) => this.#ask(called, ask, false)));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  /** Null for a call that failed and may be passed over. */
  async #ask({ hook, version }: Called, ask: Ask, mutating: boolean): Promise<Verdict | null> {
    const uid = randomUUID();
    const at = (object: Any | null) => (object === null ? null : ask.convert(object, version));
    const review = reviewOf(ask.request, uid, version, at(ask.object), at(ask.oldObject));
    let verdict: Verdict;
    try {
      const answer = await callHook(hook, review, this.#parts.list, this.#parts.dial);
      verdict = verdictOf(answer, uid, mutating);
    } catch (error) {
      if (hook.failurePolicy === 'Ignore') return null;
      throw internal(hook, (error as Error).message);
    }
    for (const text of verdict.warnings) ask.warn(text);
    if (!verdict.allowed) throw denial(hook.name, verdict.result);
    return verdict;
  }
}

const internal = (hook: Hook, why: string): ApiError =>
  new ApiError(
    500,
    'InternalError',
    `Internal error occurred: failed calling webhook "${hook.name}": ${why}`,
    {
      causes: [{ reason: '', message: `failed calling webhook "${hook.name}": ${why}` }],
    },
  );
