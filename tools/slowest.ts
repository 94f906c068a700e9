// A reporter of node:test: the ten files that took longest, so that the run's time has names.

import { relative } from 'node:path';
import type { TestEvent } from 'node:test/reporters';

const shown = 10;

export default async function* slowest(source: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const files: { file: string; seconds: number }[] = [];
  for await (const event of source) {
    if (event.type !== 'test:summary' || event.data.file === undefined) continue;
    files.push({ file: relative(process.cwd(), event.data.file), seconds: event.data.duration_ms / 1000 });
  }
  files.sort((a, b) => b.seconds - a.seconds);
  for (const { file, seconds } of files.slice(0, shown))
    yield `${seconds.toFixed(1).padStart(7)} s  ${file}\n`;
}
