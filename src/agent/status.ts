// Whether the node can take pods, in the terms of CNI's STATUS (spec 1.1: 50 unavailable, 51 limited).
import { PodwayError } from '../base/errors.ts';
import type { Gate } from './gate.ts';

/**
 * Whether the node may be given to the runtime. A pool that nobody has filled or described yet would serve no pod, for
 * want of rights perhaps.
 */
export function canServe(gate: Gate): boolean {
  if (!gate.serving || nodeStatus(gate) !== null) return false;
  const { held, free, cooling } = gate.serving.pool.counts();
  return gate.hasStarted || held + free + cooling > 0;
}

/** Null when ADD can be served, else STATUS_UNAVAILABLE or STATUS_LIMITED with the cause. */
export function nodeStatus(gate: Gate): PodwayError | null {
  if (!gate.serving) {
    const { message, details } = gate.starting();
    return new PodwayError('STATUS_UNAVAILABLE', message, details);
  }
  const { pool, repair } = gate.serving;
  const { held, free, cooling } = pool.counts();
  const broken = pool.unwritable ?? repair.broken;
  if (broken) {
    const code = held > 0 ? 'STATUS_LIMITED' : 'STATUS_UNAVAILABLE';
    return new PodwayError(code, broken.message, broken.details);
  }
  if (held + free + cooling > 0) return null;
  const trouble = pool.trouble();
  return trouble === null || trouble.code === 'POOL_GROWING'
    ? null
    : new PodwayError(
        'STATUS_UNAVAILABLE',
        `no pod can start: ${trouble.code}: ${trouble.message}`,
        trouble.details,
      );
}
