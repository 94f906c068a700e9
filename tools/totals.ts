// A reporter of node:test that writes one JSON object at the end: how many tests passed, failed and were skipped, and
// how many seconds each file took.
import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

export type Totals = {
  pass: number;
  fail: number;
  skipped: number;
  files: { file: string; seconds: number }[];
};

export default async function* totals(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const sum: Totals = { pass: 0, fail: 0, skipped: 0, files: [] };
  for await (const event of source) {
    if (event.type !== 'test:summary') continue;
    const { file, counts, duration_ms } = event.data;
    if (file) sum.files.push({ file: relative(process.cwd(), file), seconds: duration_ms / 1000 });
    else {
      sum.pass = counts.passed;
      sum.skipped = counts.skipped;
      sum.fail = counts.tests - counts.passed - counts.skipped - counts.todo;
    }
  }
  yield JSON.stringify(sum);
}
