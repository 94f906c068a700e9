// Percentiles and tables for the benchmarks. A figure is only ever printed beside its peer's from the same run.

export type BenchResult = {
  title: string;
  head: string[];
  rows: (string | number)[][];
  numbers: Record<string, unknown>;
};

export type BenchOptions = { peerBin?: string };

export type Summary = { n: number; p50: number; p90: number; p99: number; max: number };

/** Nearest-rank percentiles; the unit is the samples' own. */
export function summarise(samples: number[]): Summary {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))] ?? Number.NaN;
  return { n: sorted.length, p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

export const round = (value: number, digits = 2): number => Number(value.toFixed(digits));

/** A Markdown table, so that a run can be pasted into a document as it is. */
export function table(head: string[], rows: (string | number)[][]): string {
  const cells = [head, ...rows.map((row) => row.map(String))];
  const widths = head.map((_, column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...cells.slice(1).map(line)].join('\n');
}
