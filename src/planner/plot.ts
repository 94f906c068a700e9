// Draws runs of one trace as an SVG: for each allocator the addresses that its nodes take, and the held ones beneath.
import type { Sample } from './meter.ts';

type Line = { allocator: string; samples: readonly Sample[]; idleAddressMinutes: number };

const WIDTH = 900;
const HEIGHT = 360;
const EDGE = { left: 56, right: 16, top: 40, bottom: 36 };
const COLOURS: Readonly<Record<string, string>> = { podway: '#0b7285', incumbent: '#e8590c' };
const HELD = '#868e96';
/** Lines of the grid in height. */
const STEPS = 5;

export function plotDay(runs: readonly Line[]): string {
  const end = Math.max(1, ...runs.flatMap((run) => run.samples.at(-1)?.at ?? 0));
  const top = niceCeiling(Math.max(1, ...runs.flatMap((run) => run.samples.map((one) => one.taken))));
  const x = (at: number) => EDGE.left + (at / end) * (WIDTH - EDGE.left - EDGE.right);
  const y = (count: number) => HEIGHT - EDGE.bottom - (count / top) * (HEIGHT - EDGE.top - EDGE.bottom);
  const path = (samples: readonly Sample[], of: (one: Sample) => number): string =>
    samples
      .map((one, i) => `${i === 0 ? 'M' : 'L'}${x(one.at).toFixed(1)} ${y(of(one)).toFixed(1)}`)
      .join('');
  const parts: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    '<title>Addresses over time: held by pods, and taken of the VPC by each allocator</title>',
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>`,
  ];
  for (let step = 0; step <= STEPS; step++) {
    const count = (top / STEPS) * step;
    parts.push(
      `<line x1="${EDGE.left}" x2="${WIDTH - EDGE.right}" y1="${y(count)}" y2="${y(count)}" stroke="#e9ecef"/>`,
      `<text x="${EDGE.left - 8}" y="${y(count) + 4}" text-anchor="end" fill="#495057">${count}</text>`,
    );
  }
  const hour = 3_600_000;
  const every = end > 12 * hour ? 4 * hour : end > 2 * hour ? hour : hour / 6;
  for (let at = 0; at <= end; at += every) {
    const text = every < hour ? `${at / 60_000} min` : `${at / hour} h`;
    parts.push(
      `<text x="${x(at).toFixed(1)}" y="${HEIGHT - 12}" text-anchor="middle" fill="#495057">${text}</text>`,
    );
  }
  const legend = (i: number, colour: string, text: string) =>
    parts.push(
      `<line x1="${EDGE.left + i * 270}" x2="${EDGE.left + 20 + i * 270}" y1="20" y2="20" stroke="${colour}" stroke-width="2"/>`,
      `<text x="${EDGE.left + 26 + i * 270}" y="24" fill="#212529">${text}</text>`,
    );
  runs.forEach((run, i) => {
    const colour = COLOURS[run.allocator] ?? HELD;
    parts.push(
      `<path d="${path(run.samples, (one) => one.taken)}" fill="none" stroke="${colour}" stroke-width="1.5"/>`,
    );
    legend(i, colour, `${run.allocator}: ${run.idleAddressMinutes} idle address-minutes`);
  });
  const first = runs[0];
  if (first) {
    parts.push(
      `<path d="${path(first.samples, (one) => one.held)}" fill="none" stroke="${HELD}" stroke-width="1.5"/>`,
    );
    legend(runs.length, HELD, 'held by pods');
  }
  return `${[...parts, '</svg>'].join('\n')}\n`;
}

/** A round number that is not less and divides well into steps. */
function niceCeiling(value: number): number {
  const magnitude = 10 ** Math.floor(Math.log10(value));
  const factor = [1, 2, 2.5, 5, 10].find((one) => one * magnitude >= value) ?? 10;
  return Math.max(STEPS, Math.ceil((factor * magnitude) / STEPS) * STEPS);
}
