// The socket's protocol: any cut of a request into pieces reads the same; what is not a request is a WireError.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeAnswer, encodeAnswer, encodeRequest, RequestDecoder, WireError } from './wire.ts';

const call = fc.record({
  env: fc.uniqueArray(
    fc.tuple(fc.stringMatching(/^[A-Z][A-Z0-9_]{0,20}$/), fc.string({ unit: 'binary', maxLength: 50 })),
    {
      selector: ([name]) => name,
      maxLength: 8,
    },
  ),
  stdin: fc.uint8Array({ maxLength: 3000 }),
});

test('a request reads back, however it is cut', () => {
  fc.assert(
    fc.property(
      call,
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1 }),
      ({ env, stdin }, sizes) => {
        const bytes = encodeRequest(env, stdin);
        const decoder = new RequestDecoder();
        let read = null;
        for (let at = 0, i = 0; at < bytes.length; i++) {
          assert.equal(read, null);
          const next = Math.min(bytes.length, at + sizes[i % sizes.length]!);
          read = decoder.push(bytes.subarray(at, next));
          at = next;
        }
        assert.ok(read);
        assert.deepEqual(
          [...read.env],
          env.map(([name, value]) => [name, Buffer.from(value).toString('utf8')]),
        );
        assert.deepEqual(Uint8Array.from(read.stdin), stdin);
      },
    ),
    { numRuns: 300 },
  );
});

test('bytes of any kind give a request, nothing yet, or a WireError', () => {
  const head = fc.constantFrom('', 'PODWAY-CNI/1\n', 'PODWAY-CNI/1\nenv CNI_COMMAND 3\nADD\n');
  fc.assert(
    fc.property(head, fc.uint8Array({ maxLength: 300 }), (start, rest) => {
      try {
        new RequestDecoder().push(Buffer.concat([Buffer.from(start), rest]));
      } catch (error) {
        assert.ok(error instanceof WireError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});

for (const [name, text] of [
  ['another protocol', 'GET / HTTP/1.1\n'],
  ['a line without end', 'PODWAY-CNI/1\n'.padEnd(400, 'x')],
  ['a length too great', 'PODWAY-CNI/1\nstdin 4194305\n'],
  ['a variable too long', 'PODWAY-CNI/1\nenv CNI_ARGS 131073\n'],
  ['a length that lies', 'PODWAY-CNI/1\nstdin 2\nabc\nend\n'],
  ['a variable twice', 'PODWAY-CNI/1\nenv A 1\nx\nenv A 1\nx\n'],
  ['an end without stdin', 'PODWAY-CNI/1\nend\n'],
  ['bytes after the end', 'PODWAY-CNI/1\nstdin 0\n\nend\nx'],
  ['a name that is none', 'PODWAY-CNI/1\nenv __proto__ 1\nx\n'],
  ['too many variables', `PODWAY-CNI/1\n${[...'ABCDEFGHIJKLMNOPQ'].map((c) => `env ${c} 0\n\n`).join('')}`],
] as const) {
  test(`refused: ${name}`, () => {
    assert.throws(() => new RequestDecoder().push(Buffer.from(text)), WireError);
  });
}

test('an answer reads back', () => {
  assert.deepEqual(decodeAnswer(encodeAnswer(1, '{"ü":1}')), { exit: 1, stdout: '{"ü":1}' });
  assert.throws(() => decodeAnswer(Buffer.from('PODWAY-CNI/1 2\n')), WireError);
});
