import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ApiError } from './errors.ts';
import { applyMerge, type Json, jsonPatch, mergePatch, strategicMergePatch } from './patch.ts';

const pod = (containers: Json): Json => ({ spec: { containers } });

test('strategic merge: lists with a key merge by it, directives act, other lists are replaced', () => {
  const cases: [string, Json, Json, Json][] = [
    [
      'merges a container by name',
      pod([{ name: 'a', image: '1', args: ['x'] }, { name: 'b' }]),
      pod([{ name: 'a', image: '2' }]),
      pod([{ name: 'a', image: '2', args: ['x'] }, { name: 'b' }]),
    ],
    [
      'deletes by key',
      pod([{ name: 'a' }, { name: 'b' }]),
      pod([{ name: 'a', $patch: 'delete' }]),
      pod([{ name: 'b' }]),
    ],
    [
      'replaces the list',
      pod([{ name: 'a' }]),
      pod([{ name: 'z' }, { $patch: 'replace' }]),
      pod([{ name: 'z' }]),
    ],
    [
      'puts elements in order',
      pod([{ name: 'a' }, { name: 'b' }]),
      {
        spec: {
          '$setElementOrder/containers': [{ name: 'b' }, { name: 'c' }, { name: 'a' }],
          containers: [{ name: 'c' }],
        },
      },
      pod([{ name: 'b' }, { name: 'c' }, { name: 'a' }]),
    ],
    [
      'retains the keys named',
      { spec: { strategy: { type: 'RollingUpdate', rollingUpdate: {} } } },
      { spec: { strategy: { $retainKeys: ['type'], type: 'Recreate' } } },
      { spec: { strategy: { type: 'Recreate' } } },
    ],
    [
      'adds to and deletes from a set of texts',
      { metadata: { finalizers: ['a', 'b'] } },
      { metadata: { finalizers: ['c'], '$deleteFromPrimitiveList/finalizers': ['a'] } },
      { metadata: { finalizers: ['b', 'c'] } },
    ],
    [
      'replaces a list without a key',
      pod([{ name: 'a', args: ['x', 'y'] }]),
      pod([{ name: 'a', args: ['z'] }]),
      pod([{ name: 'a', args: ['z'] }]),
    ],
    [
      'keeps ports of a network policy whole',
      { spec: { ingress: [{ ports: [{ port: 1 }] }] } },
      { spec: { ingress: [{ ports: [{ port: 2 }] }] } },
      { spec: { ingress: [{ ports: [{ port: 2 }] }] } },
    ],
    ['replaces a map', { a: { b: 1, c: 2 } }, { a: { $patch: 'replace', d: 3 } }, { a: { d: 3 } }],
    ['deletes with null', { a: 1, b: 2 }, { a: null }, { b: 2 }],
    [
      'merges conditions by type',
      { status: { conditions: [{ type: 'Ready', status: 'False', reason: 'x' }] } },
      {
        status: {
          conditions: [
            { type: 'Ready', status: 'True' },
            { type: 'New', status: 'True' },
          ],
        },
      },
      {
        status: {
          conditions: [
            { type: 'Ready', status: 'True', reason: 'x' },
            { type: 'New', status: 'True' },
          ],
        },
      },
    ],
  ];
  for (const [name, target, patch, expected] of cases)
    assert.deepEqual(strategicMergePatch(target, patch), expected, name);
  assert.throws(() => strategicMergePatch(pod([]), pod([{ image: 'x' }])), ApiError);
});

test('server-side apply merges by key, keeps what it does not name', () => {
  const target = pod([
    { name: 'a', image: '1', ports: [{ containerPort: 80, protocol: 'TCP', name: 'http' }] },
  ]);
  const applied = pod([{ name: 'a', ports: [{ containerPort: 80, hostPort: 8080 }] }, { name: 'b' }]);
  assert.deepEqual(
    applyMerge(target, applied),
    pod([
      {
        name: 'a',
        image: '1',
        ports: [{ containerPort: 80, protocol: 'TCP', name: 'http', hostPort: 8080 }],
      },
      { name: 'b' },
    ]),
  );
});

test('JSON patch: operations in order, all or none, no way to a prototype', () => {
  assert.deepEqual(
    jsonPatch({ a: [1, 2] }, [
      { op: 'add', path: '/a/-', value: 3 },
      { op: 'remove', path: '/a/0' },
    ]),
    { a: [2, 3] },
  );
  assert.throws(() => jsonPatch({ a: 1 }, [{ op: 'test', path: '/a', value: 2 }]), { code: 422 });
  assert.throws(() => jsonPatch({ a: 1 }, [{ op: 'remove', path: '/b' }]), { code: 422 });
  assert.throws(() => jsonPatch({}, [{ op: 'add', path: '/__proto__/x', value: 1 }]), { code: 400 });
  assert.throws(() => jsonPatch({}, { op: 'add' }), { code: 400 });
});

test('a merge patch made of the differences of two objects turns one into the other, and changes neither', () => {
  const keys = fc.constantFrom('a', 'b', 'c', 'd');
  const leaf = fc.oneof(fc.integer(), fc.string(), fc.boolean());
  const tree = fc.letrec<{ node: Json }>((tie) => ({
    node: fc.oneof(
      { depthSize: 'small' },
      leaf,
      fc.array(leaf, { maxLength: 3 }),
      fc.dictionary(keys, tie('node'), { noNullPrototype: true }),
    ) as fc.Arbitrary<Json>,
  })).node;
  const maps = fc.dictionary(keys, tree, { noNullPrototype: true }) as fc.Arbitrary<{ [key: string]: Json }>;
  const difference = (from: Json | undefined, to: { [key: string]: Json }): Json => {
    const out: { [key: string]: Json } = {};
    const old = from !== null && typeof from === 'object' && !Array.isArray(from) ? from : {};
    for (const key of Object.keys(old)) if (!(key in to)) out[key] = null;
    for (const [key, value] of Object.entries(to)) {
      out[key] =
        value !== null && typeof value === 'object' && !Array.isArray(value)
          ? difference(old[key], value)
          : value;
    }
    return out;
  };
  fc.assert(
    fc.property(maps, maps, (from, to) => {
      const copy = structuredClone(from);
      assert.deepEqual(mergePatch(from, difference(from, to)), JSON.parse(JSON.stringify(to)));
      assert.deepEqual(from, copy);
    }),
    { numRuns: 300 },
  );
});

test('no JSON at all makes a patch fail in any way but an ApiError', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (target, patch) => {
      for (const apply of [mergePatch, strategicMergePatch, applyMerge, jsonPatch]) {
        try {
          apply(target as Json, patch as Json);
        } catch (error) {
          assert.ok(error instanceof ApiError, String(error));
        }
      }
    }),
    { numRuns: 500 },
  );
});
