// A fault: which requests it meets and what happens to them. Whether the n-th request that it meets is hit follows from
// its seed and n alone, never from the time: the same seed gives the same run. Pure; fails with FaultRefused.
import { hasMeaning } from '../actions/index.ts';
import { chance } from './chance.ts';

export type FaultEffect =
  /** EC2's error code, or IMDS' HTTP status. The request has no effect. */
  | { kind: 'error'; code: string }
  /** The request has its effect; then the connection closes. */
  | { kind: 'drop-answer' }
  /** The connection closes before the request has an effect. */
  | { kind: 'drop-request' }
  /** Milliseconds before the request is looked at. */
  | { kind: 'delay'; ms: number }
  /** Reads only: the answer is of the state so many milliseconds ago, but no older than the fault. */
  | { kind: 'stale'; ms: number }
  /** IMDS only: 200 without a body. */
  | { kind: 'empty' };

export type FaultRequest = {
  /** An EC2 action, `imds:PATH` below /latest/meta-data (`imds:token` is the token), with `*` for any text. */
  action: string;
  effect: FaultEffect;
  /** Share of the requests that are hit, above 0 to 1. */
  rate: number;
  /** Ends after so many hits. */
  count?: number;
  seed: number;
  /** Only requests of this instance. */
  node?: string;
};
export type FaultRule = FaultRequest & { id: string };
export type FaultView = FaultRule & {
  /** Requests that it has met. */ seen: number /** …and hit. */;
  hit: number;
};

export class FaultRefused extends Error {
  override name = 'FaultRefused';
}

const MAX_MS = 86_400_000;
const CODE = /^[A-Za-z][A-Za-z0-9.]{0,79}$/;
const IMDS = 'imds:';

const isStatus = (code: string): boolean => /^[45]\d\d$/.test(code);

/** Throws FaultRefused, naming the field, its value and its limit. */
export function checkFault(asked: FaultRequest): FaultRequest {
  const { action, effect, rate, count, seed } = asked;
  const imds = action.startsWith(IMDS);
  if (imds ? !/^imds:[\w*/.:-]{1,200}$/.test(action) : !knownAction(action))
    throw new FaultRefused(
      `action "${action}" is no action of this EC2, no pattern of one, and no imds:PATH`,
    );
  if (!(rate > 0 && rate <= 1)) throw new FaultRefused(`rate is ${rate}, not above 0 and at most 1`);
  if (count !== undefined && !(Number.isInteger(count) && count >= 1))
    throw new FaultRefused(`count is ${count}, not a whole number from 1`);
  if (!(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32))
    throw new FaultRefused(`seed is ${seed}, not a whole number below 2^32`);
  switch (effect.kind) {
    case 'error':
      if (imds && !isStatus(effect.code))
        throw new FaultRefused(
          `error is "${effect.code}", but IMDS fails with an HTTP status, as 404 or 500`,
        );
      if (!imds && !CODE.test(effect.code))
        throw new FaultRefused(`error is "${effect.code}", which is no error code, as InternalError`);
      break;
    case 'delay':
    case 'stale':
      if (!(effect.ms > 0 && effect.ms <= MAX_MS))
        throw new FaultRefused(`${effect.kind} is ${effect.ms} ms, not above 0 and at most 24 h`);
      break;
    case 'empty':
      if (!imds) throw new FaultRefused('empty is an answer of IMDS: action imds:PATH');
      break;
    case 'drop-answer':
    case 'drop-request':
      break;
  }
  return asked;
}

const knownAction = (action: string): boolean =>
  hasMeaning(action) || (/^[A-Za-z0-9]*\*$/.test(action) && action.length <= 80);

/** True when the rule is for such a request; `*` in its action is any text. */
export function meets(rule: FaultRequest, action: string, instance: string | undefined): boolean {
  if (rule.node !== undefined && rule.node !== instance) return false;
  if (!rule.action.includes('*')) return rule.action === action;
  if (action.startsWith(IMDS) !== rule.action.startsWith(IMDS)) return false;
  const parts = rule.action.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(action);
}

/** Whether the request that the rule meets as its `seen`-th, from 0, is hit. */
export const isHit = (rule: FaultRequest, seen: number, hit: number): boolean =>
  (rule.count === undefined || hit < rule.count) && chance(rule.seed, seen) < rule.rate;
