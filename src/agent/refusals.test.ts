import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '../base/errors.ts';
import type { CniRequest } from '../cni/types.ts';
import { createRefusals, eventText } from './refusals.ts';

const add = (name: string) =>
  ({ verb: 'ADD', pod: { namespace: 'default', name, uid: `uid-${name}` } }) as unknown as CniRequest;
const full = (message = 'subnet-0a (10.0.0.0/26, 59 addresses) has 0 free') =>
  new PodwayError('SUBNET_EXHAUSTED', message, {
    object: 'subnet-0a',
    nextAt: Date.UTC(2026, 0, 2, 3, 4, 5),
  });

test('a refused ADD is an Event of its pod, with the cause as its reason', () => {
  const sent: unknown[] = [];
  let now = 0;
  const tell = createRefusals({ pod: (...of) => void sent.push(of) }, () => now);
  tell(full(), add('a'));
  tell(full('again'), add('a'));
  tell(full(), { ...add('a'), verb: 'CHECK' } as CniRequest);
  tell(full(), null);
  assert.deepEqual(sent, [
    [{ namespace: 'default', name: 'a', uid: 'uid-a' }, 'Warning', 'SubnetExhausted', eventText(full())],
  ]);
  tell(new PodwayError('COOLDOWN', 'other'), add('a'));
  tell(full(), add('b'));
  now = 60_000;
  tell(full(), add('a'));
  assert.equal(sent.length, 4);
});

test('the text has the numbers, the next try, the operator’s step and the page', () => {
  const text = eventText(full());
  for (const part of [
    /^SUBNET_EXHAUSTED: subnet-0a \(10\.0\.0\.0\/26, 59 addresses\) has 0 free\. Podway: /,
    /Next at 2026-01-02T03:04:05\.000Z\./,
    /You: Free addresses in the subnet/,
    /See docs\/causes\.md#subnet_exhausted$/,
  ])
    assert.match(text, part);
});

test('a long sentence is cut, and the rest of the text is not', () => {
  const text = eventText(full('x'.repeat(5_000)));
  assert.ok(text.length <= 1_000, String(text.length));
  assert.match(text, /x… {1,2}Podway: .*See docs\/causes\.md#subnet_exhausted$/);
});
