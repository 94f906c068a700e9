import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { itemsAt, parseXml, textAt, XmlError } from './xml.ts';

test('elements, text, entities, empty elements, comments', () => {
  const root = parseXml(
    '<?xml version="1.0"?><!-- hi --><a xmlns="x"><list><item><n>1 &amp; &#x41;&#66;</n></item><item/></list><e></e></a>',
  );
  assert.equal(root.name, 'a');
  assert.equal(itemsAt(root, 'list').length, 2);
  assert.equal(textAt(itemsAt(root, 'list')[0], 'n'), '1 & AB');
  assert.equal(textAt(root, 'e'), '');
  assert.equal(textAt(root, 'no', 'such'), '');
});

for (const text of [
  '',
  'x',
  '<a>',
  '<a></b>',
  '</a>',
  '<a/><b/>',
  '<!DOCTYPE a><a/>',
  '<a',
  '<1/>',
  '<'.repeat(9),
]) {
  test(`refuses ${JSON.stringify(text)}`, () => assert.throws(() => parseXml(text), XmlError));
}

test('refuses what nests too deep', () => {
  assert.throws(() => parseXml('<a>'.repeat(40) + '</a>'.repeat(40)), /nest deeper/);
});

type Tree = { name: string; text: string; children: Tree[] };
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.record(
    {
      name: fc.constantFrom('a', 'item', 'bC-d'),
      text: fc.string().map((text) => text.trim()),
      children: fc.oneof({ maxDepth: 3 }, fc.constant<Tree[]>([]), fc.array(tie('tree'), { maxLength: 3 })),
    },
    { noNullPrototype: true },
  ),
}));
const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
const write = (one: Tree): string =>
  `<${one.name}>${escaped(one.text)}${one.children.map(write).join('')}</${one.name}>`;

test('reads back whatever is written; anything else is an XmlError, never another', () => {
  fc.assert(fc.property(tree, (one) => assert.deepEqual(parseXml(write(one)), one)));
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('<', '>', '/', 'a', '&', ';', '!', '-', '?', ' ') }),
      (text) => {
        try {
          parseXml(text);
        } catch (error) {
          assert.ok(error instanceof XmlError);
        }
      },
    ),
  );
});
