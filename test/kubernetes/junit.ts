// Reads what Ginkgo writes as JUnit XML, as far as we need it: per test its name, state, seconds and first line of failure.
import type { Outcome } from '../scenarios/run.ts';

/** `commit`: where it is not that of the whole group. */
export type Case = Outcome & { commit?: string };

const CASE =
  /<testcase name="([^"]*)"[^>]*?status="([^"]*)"[^>]*?time="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g;
/** Kubernetes leaves the attribute of a failure away and writes the text inside; of a skipped test there is only the attribute. */
const MESSAGE = /<(?:failure|error|skipped)(?:[^>]*?message="([^"]*)")?[^>]*?(?:\/>|>([^<]*))/;

/** Tests only: [It]. The set-up of the suite counts when it failed, since then no test ran. */
export function parseJunit(text: string): Case[] {
  const cases: Case[] = [];
  for (const [, rawName, status, time, body = ''] of text.matchAll(CASE)) {
    // Cut off by whoever ended the run: not reached.
    if (status === 'interrupted') continue;
    const name = unescaped(rawName!);
    const state = status === 'passed' ? 'passed' : /^(skipped|pending)$/.test(status!) ? 'skipped' : 'failed';
    const isTest = name.startsWith('[It] ');
    if (!isTest && state !== 'failed') continue;
    const [, attribute, inside] = MESSAGE.exec(body) ?? [];
    const message = attribute || inside?.trim() || undefined;
    // Every test of the binary that the focus leaves out is there, without a message.
    if (state === 'skipped' && (message === undefined || message === 'skipped')) continue;
    cases.push({
      name: name.replace(/^\[It\] /, ''),
      state,
      seconds: Number(time),
      ...(message === undefined ? {} : { message: unescaped(message).split('\n')[0]! }),
    });
  }
  return cases;
}

const ENTITIES: Record<string, string> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };
const unescaped = (text: string): string =>
  text.replace(/&(?:#(\d+)|#x([0-9a-fA-F]+)|(\w+));/g, (whole, decimal, hex, name) =>
    decimal
      ? String.fromCodePoint(Number(decimal))
      : hex
        ? String.fromCodePoint(Number.parseInt(hex, 16))
        : (ENTITIES[name] ?? whole),
  );
