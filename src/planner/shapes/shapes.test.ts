import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatTraceEvent, parseTrace, TRACE_HEADER } from '../trace.ts';
import { defaultShapeOptions, generateTrace, type ShapeName, shapes } from './index.ts';

const text = (shape: ShapeName, over = {}) =>
  [
    TRACE_HEADER,
    ...generateTrace(shape, { ...defaultShapeOptions, hours: 6, ...over }).map(formatTraceEvent),
  ].join('\n');

for (const shape of Object.keys(shapes) as ShapeName[]) {
  test(`${shape}: a valid trace, the same for the same seed and another for another`, () => {
    const first = text(shape);
    const events = parseTrace(first);
    assert.equal(text(shape), first);
    assert.notEqual(text(shape, { seed: 2 }), first);
    const held = new Map<string, number>();
    for (const one of events) {
      const count = (held.get(one.node) ?? 0) + (one.event === 'start' ? 1 : -1);
      held.set(one.node, count);
      // Half as many pods again as the average.
      assert.ok(count >= 0 && count <= 18, `${one.node} runs ${count} pods`);
    }
  });

  test(`${shape}: with a lead each start has its binding before it`, () => {
    const events = parseTrace(text(shape, { lead: 2 }));
    const bound = new Map<string, number>();
    for (const one of events) {
      if (one.event === 'bound') bound.set(one.pod, one.time);
      if (one.event === 'start') assert.ok(Math.abs(one.time - bound.get(one.pod)! - 2) < 0.01);
    }
  });
}

test('churn makes more happen', () => {
  const starts = (churn: number) => text('rolling', { churn }).split('start').length;
  assert.ok(starts(4) > 2 * starts(1));
});
