// How long EC2 takes when `ec2Latency` is `realistic`: each time is drawn around a median by the lab's seed. AWS
// publishes "<1 s" for addresses and "up to 10 s" for a new ENI (EKS best practices); the rest is of that order.
import type { Latencies } from '../context.ts';
import { spread } from './chance.ts';

type Time = { median: number; sigma: number };

/** From the start of a change to its end (ms). */
const CHANGES: Readonly<Record<keyof Latencies, Time>> = {
  createInterface: { median: 800, sigma: 0.3 },
  attach: { median: 2500, sigma: 0.4 },
  detach: { median: 6000, sigma: 0.4 },
  run: { median: 8000, sigma: 0.2 },
  stop: { median: 15_000, sigma: 0.2 },
  terminate: { median: 10_000, sigma: 0.2 },
  createNatGateway: { median: 60_000, sigma: 0.2 },
  deleteNatGateway: { median: 45_000, sigma: 0.2 },
};
/** From a request to its answer (ms). */
const READ: Time = { median: 90, sigma: 0.4 };
const CHANGE: Time = { median: 250, sigma: 0.5 };

/** The times of the `index`-th call. */
export function drawLatencies(seed: number, index: number): Latencies {
  const names = Object.keys(CHANGES) as (keyof Latencies)[];
  const drawn = names.map((name, i) => {
    const { median, sigma } = CHANGES[name];
    return [name, spread(median, sigma, seed + 1 + i, index)] as const;
  });
  return Object.fromEntries(drawn) as Latencies;
}

export function drawAnswerTime(reading: boolean, seed: number, index: number): number {
  const { median, sigma } = reading ? READ : CHANGE;
  return spread(median, sigma, seed, index);
}
