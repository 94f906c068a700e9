// What the API tells while the node is asking counts at once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { type CniNodeView, TrunkSlot } from './trunk-slot.ts';

type Patch = { metadata: { resourceVersion: string } };
const view = (resourceVersion: string): CniNodeView => ({
  ...{ resourceVersion, isOurs: false },
  spec: { features: [] },
});

test('a feature that is taken away while the node asks for it is asked for again', {
  timeout: 60_000,
}, async () => {
  const stop = new AbortController();
  const first = Promise.withResolvers<void>();
  const again = Promise.withResolvers<void>();
  const asked: unknown[] = [];
  const patch = async (_kind: unknown, _name: string, _namespace: unknown, { metadata }: Patch) => {
    asked.push(metadata.resourceVersion);
    if (asked.length > 1) return again.resolve();
    slot.note(view('2'));
    await first.promise;
  };
  const slot = new TrunkSlot({
    client: { patch } as never,
    pool: { awaitsTrunk: true, trunkLack: () => null },
    nodeName: 'n',
    log: pino({ level: 'silent' }),
    onLack: () => {},
  });
  slot.note(view('1'));
  const kept = slot.keep(stop.signal);
  first.resolve();
  await again.promise;
  assert.deepEqual(asked, ['1', '2']);
  stop.abort();
  await kept;
});
