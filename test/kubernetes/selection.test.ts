import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Case, parseJunit } from './junit.ts';
import { conformanceText } from './report.ts';
import { choose, groups } from './selection.ts';
import { joined } from './upstream.ts';

const GRANULAR =
  '[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http [NodeConformance] [Conformance]';
const SCTP =
  '[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: sctp [LinuxOnly] [Feature:SCTPConnectivity]';
const STORAGE = '[sig-storage] Volumes should work';
const ODD = '[sig-network] Something new should work';

test('every test of the network runs, or has a reason, or is listed without one', () => {
  const { run, skipped } = choose([GRANULAR, SCTP, STORAGE, ODD]);
  assert.deepEqual(run.get(groups[0]!), [GRANULAR]);
  assert.deepEqual(
    [...skipped].map(([reason, tests]) => [reason?.name, tests]),
    [
      ['SCTP', [SCTP]],
      [undefined, [ODD]],
    ],
  );
});

test('what ran anew takes the place of what failed; tests that are no longer chosen go', () => {
  const result = { group: 'g', version: 'v', commit: 'old', nodes: 2, date: '', seconds: 5, command: '' };
  const one = (name: string, state: 'passed' | 'failed') => ({ name, state, seconds: 1 });
  const kept = {
    ...result,
    cases: [one('a', 'passed'), one('b', 'failed'), one('gone', 'failed')],
    missing: ['c', 'd'],
  };
  const ran = { ...result, commit: 'new', cases: [one('b', 'passed'), one('c', 'failed')], missing: ['d'] };
  const { cases, missing, seconds, commit } = joined(kept, ran, ['a', 'b', 'c', 'd']);
  assert.deepEqual(
    cases.map((each: Case) => [each.name, each.state, each.commit]),
    [
      ['a', 'passed', undefined],
      ['b', 'passed', 'new'],
      ['c', 'failed', 'new'],
    ],
  );
  assert.deepEqual([missing, seconds, commit], [['d'], 10, 'old']);
});

const XML = `<?xml version="1.0"?><testsuites><testsuite>
<testcase name="[SynchronizedBeforeSuite]" classname="e2e" status="passed" time="0.1"></testcase>
<testcase name="[It] ${GRANULAR}" classname="e2e" status="passed" time="12.5"><system-err>&gt; Enter</system-err></testcase>
<testcase name="[It] a &#34;quoted&#34; &lt;one&gt;" classname="e2e" status="failed" time="3"><failure type="failed">Told: [a] b&#xA;more</failure></testcase>
<testcase name="[It] ${STORAGE}" classname="e2e" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] asks itself" classname="e2e" status="skipped" time="1"><skipped message="skipped - needs two nodes"></skipped></testcase>
</testsuite></testsuites>`;

test('a report as Ginkgo writes it', () => {
  assert.deepEqual(parseJunit(XML), [
    { name: GRANULAR, state: 'passed', seconds: 12.5 },
    { name: 'a "quoted" <one>', state: 'failed', seconds: 3, message: 'Told: [a] b' },
    { name: 'asks itself', state: 'skipped', seconds: 1, message: 'skipped - needs two nodes' },
  ]);
});

test('a suite that could not start is a failure', () => {
  const text =
    '<testcase name="[SynchronizedBeforeSuite]" status="failed" time="9"><failure type="failed">no nodes</failure></testcase>';
  assert.deepEqual(parseJunit(text), [
    { name: '[SynchronizedBeforeSuite]', state: 'failed', seconds: 9, message: 'no nodes' },
  ]);
});

test('the page names what failed, what was not reached, and what was never chosen', () => {
  const text = conformanceText({
    version: 'v1.36.3',
    choice: choose([GRANULAR, SCTP, ODD]),
    results: [
      {
        group: 'granular',
        version: 'v1.36.3',
        nodes: 2,
        commit: 'abc1234',
        date: '2026-11-22T01:02:03.000Z',
        seconds: 20,
        command: 'npm run test:kubernetes -- --only granular',
        cases: parseJunit(XML),
        missing: ['left over'],
      },
    ],
  });
  for (const part of [
    '| Pod to pod and node to pod | 1 | 1 | 1 | 1 | 2 | abc1234 | 2026-11-22T01:02Z | 20 s | `npm run test:kubernetes -- --only granular` |',
    '- failed: `a "quoted" <one>`: Told: [a] b',
    '- not reached: `left over`',
    '| SCTP | 1 | needs the kernel module sctp |',
    `- \`${ODD}\``,
    'Not run yet: hostPort (hostport)',
  ])
    assert.ok(text.includes(part), part);
});
