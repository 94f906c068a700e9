import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatTraceEvent, parseTrace, TRACE_HEADER } from './trace.ts';

const csv = (...lines: string[]) => [TRACE_HEADER, ...lines, ''].join('\n');

test('a trace in CSV and the same in JSON lines are one', () => {
  const text = csv(
    '0,n1,default/a,bound',
    '1.5,n1,default/a,start',
    '60,n1,default/a,stop',
    '60,n1,default/a,start',
  );
  const events = parseTrace(text);
  assert.deepEqual(events[1], { time: 1.5, node: 'n1', pod: 'default/a', event: 'start' });
  assert.deepEqual(parseTrace(events.map((one) => JSON.stringify(one)).join('\n')), events);
  assert.equal(csv(...events.map(formatTraceEvent)), text);
});

test('a bound pod may be deleted before it starts', () => {
  assert.equal(parseTrace(csv('0,n1,a,bound', '1,n1,a,stop')).length, 2);
});

for (const [what, text, expected] of [
  ['another header', 'time,pod,node,event\n', /line 1: the header is "time,pod,node,event"/],
  ['no event', `${TRACE_HEADER}\n`, /the trace has no event/],
  ['an empty file', '', /line 1: the trace has no event/],
  ['a missing field', csv('1,n1,start'), /line 2: 3 fields, not 4/],
  ['a negative time', csv('-1,n1,a,start'), /line 2: time is "-1"/],
  ['a time in words', csv('soon,n1,a,start'), /line 2: time is "soon"/],
  ['a time out of order', csv('5,n1,a,start', '4,n1,b,start'), /line 3: time 4 comes after 5/],
  ['a node without a name', csv('1,,a,start'), /line 2: node is ""/],
  ['an unknown event', csv('1,n1,a,begin'), /line 2: event is "begin", not bound, start or stop/],
  ['a second start', csv('1,n1,a,start', '2,n1,a,start'), /line 3: pod a has its start already/],
  ['a binding after the start', csv('1,n1,a,start', '2,n1,a,bound'), /line 3: pod a has its start already/],
  ['a stop without a start', csv('1,n1,a,stop'), /line 2: pod a stops without a start/],
  ['a pod on two nodes', csv('1,n1,a,start', '2,n2,a,stop'), /line 3: pod a is on n1 and has not stopped/],
  ['broken JSON', '{"time":1', /line 1: not JSON/],
  ['an unknown field', '{"time":1,"node":"n","pod":"a","event":"start","cpu":2}', /unknown field "cpu"/],
  ['a JSON time that is text', '{"time":"x","node":"n","pod":"a","event":"start"}', /time is "x"/],
] as const) {
  test(`${what} is refused with its line`, () => {
    assert.throws(
      () => parseTrace(text, 'day.csv'),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'INVALID_TRACE');
        assert.match(error.message, /^day\.csv line /);
        assert.match(error.message, expected);
        return true;
      },
    );
  });
}
