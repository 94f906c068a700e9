// One turn of the pool's loop: serve, clean, plan, start what is due, refuse pods that wait in vain; and when the next
// is due. Invariants: a turn is synchronous, what it starts runs in the background; nothing but setup runs before EC2
// has answered or failed once, because a kill may have lost the record of addresses that were assigned.
import type { Cause } from '../base/causes.ts';
import type { PodwayError } from '../base/errors.ts';
import type { Cleaner } from './cleaner.ts';
import type { Core } from './core.ts';
import { runAction } from './ec2/actions.ts';
import type { MetadataHint } from './ec2/hint.ts';
import type { Learner } from './ec2/learner.ts';
import type { Reconciler } from './ec2/reconcile.ts';
import type { JournalKeeper } from './journal/journal-keeper.ts';
import type { Leases } from './leases.ts';
import { type Loop, REST } from './loop.ts';
import { countPool, givingNow, type Totals } from './plan/census.ts';
import { nextWake } from './plan/due.ts';
import type { Expectation } from './plan/expectation.ts';
import type { Gatherer } from './plan/gather.ts';
import { type Action, plan } from './plan/plan.ts';
import type { Demand } from './policy.ts';
import type { PoolSettings } from './settings.ts';
import { diagnose } from './views/diagnose.ts';
import type { WaitingLine } from './waiting.ts';

/** The pool's parts; each has its own file. */
export type PoolParts = {
  readonly core: Core;
  readonly settings: PoolSettings;
  readonly loop: Loop;
  readonly leases: Leases;
  readonly line: WaitingLine;
  readonly cleaner: Cleaner;
  readonly keeper: JournalKeeper;
  readonly reconciler: Reconciler;
  readonly hint: MetadataHint;
  readonly gatherer: Gatherer;
  readonly learner: Learner;
  readonly expectation: Expectation;
};

export function takeTurn(parts: PoolParts): void {
  const { core, line, leases, loop, reconciler } = parts;
  if (core.signal.aborted) return;
  const now = core.clock.now();
  line.serve((owner) => leases.give(owner));
  loop.background(parts.cleaner.startDue(now));
  loop.background(core.reach.startDue(now));
  loop.background(reconciler.startDue(now));
  loop.background(parts.hint.startDue(now));
  if (reconciler.status().reachable) loop.background(parts.learner.startDue(now));
  for (const action of dueActions(parts, now)) loop.background(runAction(core, action));
  line.refuse(
    // As of before the serving: what was free then is given out.
    (position, since) => diagnoseNow(parts, position, since, now),
    (cause) => lastFailure(core, cause),
    parts.settings.lastingWaitMs ?? 5_000,
  );
  parts.keeper.tend(now);
}

/** When the next turn is due (ms). */
export function nextTurn(parts: PoolParts, now: number): number {
  const { core, reconciler } = parts;
  return Math.min(
    parts.gatherer.dueAt(),
    parts.line.nextDeadline(),
    core.unwritable ? now + REST : Number.POSITIVE_INFINITY,
    core.reach.dueAt(),
    reconciler.dueAt(),
    parts.hint.dueAt(),
    reconciler.status().reachable ? parts.learner.dueAt() : Number.POSITIVE_INFINITY,
    parts.cleaner.dueAt(now),
    parts.expectation.dueAt(),
    nextWake(core.state, demandNow(parts, now), core.limits, core.policy, now),
  );
}

export const countNow = ({ core }: PoolParts, now: number): Totals =>
  countPool(core.state, now, givingNow(core));

export const demandNow = ({ expectation, line }: PoolParts, now: number): Demand =>
  expectation.demand(line.size, now);

/** Why the pod at `position` of the line, waiting since `waitingSince` (ms), has no address. */
export function diagnoseNow(
  { core }: PoolParts,
  position: number,
  waitingSince: number,
  now = core.clock.now(),
): PodwayError {
  // Nothing can be given out, nor asked of EC2, that cannot be written down.
  if (core.unwritable) return core.unwritable;
  return diagnose(core.state, {
    instanceId: core.identity.instanceId,
    limits: core.limits,
    policy: core.policy,
    now,
    position,
    known: core.state.enis.size > 0,
    waitingSince,
  });
}

function lastFailure({ state }: Core, cause: Cause): number {
  let last = 0;
  for (const one of state.pauses.values()) if (one.cause === cause) last = Math.max(last, one.failedAt);
  return last;
}

function dueActions(parts: PoolParts, now: number): readonly Action[] {
  const { core, reconciler } = parts;
  const demand = demandNow(parts, now);
  const planned = plan(core.state, demand, core.limits, core.policy, now);
  const hasLooked = reconciler.status().reachable !== null;
  const allowed = hasLooked ? planned : planned.filter((action) => action.kind === 'setup');
  const urgent = demand.waiting > 0 || countNow(parts, now).free === 0;
  return parts.gatherer.due(core.state.unsure !== null ? [] : allowed, urgent, now);
}
