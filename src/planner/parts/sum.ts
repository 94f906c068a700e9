// Adds up what the parts of a simulation have counted: sums, the peaks of what they took together, and waits of all pods.
import type { Counts, Sample } from '../meter.ts';

const MINUTE = 60_000;

export type Wait = { p50: number; p90: number; p99: number; max: number };

export type Run = {
  idleAddressMinutes: number;
  eniMinutes: number;
  peakAddresses: number;
  peakEnis: number;
  calls: Record<string, number>;
  /** Of the calls, those that had no effect. */
  refused: Record<string, number>;
  throttled: number;
  waitMs: Wait;
  failed: Record<string, number>;
  samples: Sample[];
};

export function sumOf(parts: readonly Counts[]): Run {
  const add = (of: (part: Counts) => number) => parts.reduce((sum, part) => sum + of(part), 0);
  const addEach = (of: (part: Counts) => Record<string, number>) => {
    const sums: Record<string, number> = {};
    for (const part of parts)
      for (const [key, count] of Object.entries(of(part))) sums[key] = (sums[key] ?? 0) + count;
    return sums;
  };
  return {
    idleAddressMinutes: Math.round(add((part) => part.idle) / MINUTE),
    eniMinutes: Math.round(add((part) => part.eniTime) / MINUTE),
    ...peaksOf(parts),
    calls: addEach((part) => part.calls),
    refused: addEach((part) => part.refused),
    throttled: add((part) => part.throttled),
    waitMs: waitOf(parts),
    failed: addEach((part) => part.failed),
    samples: parts[0]!.samples.map(({ at }, i) => ({
      at,
      held: add((part) => part.samples[i]?.held ?? 0),
      taken: add((part) => part.samples[i]?.taken ?? 0),
    })),
  };
}

/** The most that was taken at the end of any moment. */
function peaksOf(parts: readonly Counts[]): { peakAddresses: number; peakEnis: number } {
  const next = parts.map(() => 0);
  const taken = parts.map(() => 0);
  const enis = parts.map(() => 0);
  const peaks = { peakAddresses: 0, peakEnis: 0 };
  const sum = (numbers: readonly number[]) => numbers.reduce((all, one) => all + one, 0);
  for (;;) {
    const time = Math.min(...parts.map(({ times }, i) => times[next[i]!] ?? Number.POSITIVE_INFINITY));
    if (time === Number.POSITIVE_INFINITY) return peaks;
    parts.forEach((part, i) => {
      if (part.times[next[i]!] !== time) return;
      taken[i] = part.taken[next[i]!]!;
      enis[i] = part.enis[next[i]!]!;
      next[i]!++;
    });
    peaks.peakAddresses = Math.max(peaks.peakAddresses, sum(taken));
    peaks.peakEnis = Math.max(peaks.peakEnis, sum(enis));
  }
}

function waitOf(parts: readonly Counts[]): Wait {
  const sorted = new Float64Array(parts.reduce((sum, { waits }) => sum + waits.length, 0));
  let begin = 0;
  for (const { waits } of parts) {
    sorted.set(waits, begin);
    begin += waits.length;
  }
  sorted.sort();
  const at = (share: number) => Math.round(sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0);
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}
