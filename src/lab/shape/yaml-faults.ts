// The faults and bucket sizes of a lab.yaml, which begin with the lab. Throws LabError BAD_SHAPE with the line.
import { checkFault, EVERY, type FaultEffect, FaultRefused, type FaultRequest } from '../vpc/faults/index.ts';
import { parseDuration } from './settings.ts';
import type { Shape } from './shape.ts';
import type { Reader } from './yaml.ts';

const MAX = 100;
const EFFECTS = ['error', 'dropAnswer', 'dropRequest', 'delay', 'stale', 'empty'] as const;

export function readFaults(
  faults: Reader,
  throttle: Reader,
  instances: readonly string[],
): Pick<Shape, 'faults' | 'throttle'> {
  const rules = faults.list(MAX).map((fault) => readFault(fault, instances));
  const sizes = throttle.list(MAX).map(readSize);
  return { ...(rules.length ? { faults: rules } : {}), ...(sizes.length ? { throttle: sizes } : {}) };
}

function readFault(reader: Reader, instances: readonly string[]): FaultRequest {
  const keys = reader.map(['action', ...EFFECTS, 'rate', 'count', 'seed', 'node']);
  const asked = EFFECTS.filter((effect) => !keys[effect].absent && keys[effect].text() !== 'false');
  const [kind] = asked;
  if (kind === undefined || asked.length > 1) throw reader.fail(`does not have one of ${EFFECTS.join(', ')}`);
  const node = keys.node.absent ? undefined : keys.node.text();
  if (node !== undefined && !instances.includes(node))
    throw keys.node.fail(`is "${node}", which is no instance`);
  const request: FaultRequest = {
    action: keys.action.text(),
    effect: readEffect(kind, keys[kind]),
    rate: number(keys.rate, 1),
    seed: number(keys.seed, 1),
    ...(keys.count.absent ? {} : { count: number(keys.count, 1) }),
    ...(node === undefined ? {} : { node }),
  };
  try {
    return checkFault(request);
  } catch (error) {
    if (error instanceof FaultRefused) throw reader.fail(`cannot be: ${error.message}`);
    throw error;
  }
}

function readEffect(kind: (typeof EFFECTS)[number], value: Reader): FaultEffect {
  switch (kind) {
    case 'error':
      return { kind, code: value.text() };
    case 'delay':
    case 'stale':
      return { kind, ms: milliseconds(value) };
    case 'dropAnswer':
      return flag(value, { kind: 'drop-answer' });
    case 'dropRequest':
      return flag(value, { kind: 'drop-request' });
    case 'empty':
      return flag(value, { kind: 'empty' });
  }
}

function flag(value: Reader, effect: FaultEffect): FaultEffect {
  value.oneOf(['true', 'false']);
  return effect;
}

function readSize(reader: Reader): { action: string; perSecond: number; burst: number } {
  const keys = reader.map(['action', 'rate', 'burst']);
  const size = { perSecond: number(keys.rate), burst: number(keys.burst) };
  if (!(size.burst >= 1)) throw keys.burst.fail(`is ${size.burst}, not at least 1`);
  return { action: keys.action.textOr(EVERY), ...size };
}

function number(reader: Reader, fallback?: number): number {
  if (reader.absent && fallback !== undefined) return fallback;
  return Number(reader.text({ pattern: /^\d+(\.\d+)?$/, says: 'not a number from 0' }));
}

function milliseconds(reader: Reader): number {
  const ms = parseDuration(reader.text());
  if (ms === undefined) throw reader.fail('is no duration, as 500ms or 2s');
  return ms;
}
