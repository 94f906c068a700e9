import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, it } from 'node:test';
import { readPolicies } from './policy-files.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-files-'));
after(() => rmSync(dir, { recursive: true }));

const read = (text: string, namespace = 'shop') => {
  const file = join(dir, 'policy.yaml');
  writeFileSync(file, text);
  return readPolicies([file], namespace);
};
const of = (metadata: string) =>
  `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: ${metadata}, spec: {podSelector: {}}}`;

it('reads documents and lists of policies, each with its namespace', async () => {
  const found = await read(
    `${of('{name: a}')}\n---\nkind: List\nitems: [${of('{name: b, namespace: bank}')}]`,
  );
  assert.deepEqual(
    found.map(({ policy }) => policy.object),
    ['networkpolicy shop/a', 'networkpolicy bank/b'],
  );
});

it('refuses by name what is no policy', async () => {
  const refused: [text: string, message: RegExp, namespace?: string][] = [
    ['null\n---\n', /policy\.yaml: no policy is in it/],
    ['42', /document 1: it is neither a NetworkPolicy/],
    ['kind: Pod', /document 1: Pod is neither a NetworkPolicy/],
    ['kind: List\nitems: [null]', /document 1: it is neither a NetworkPolicy/],
    [of('{}'), /document 1: it has no name/],
    [of('{name: a, namespace: 5}'), /document 1: a: metadata\.namespace: 5 is no name of a namespace/],
    [of('{name: a, namespace: ../x}'), /metadata\.namespace: "\.\.\/x" is no name of a namespace/],
    [of('{name: a}'), /metadata\.namespace: "" is no name of a namespace/, ''],
    [`${of('{name: a}')}\n---\n${of('{name: a}')}`, /document 2: networkpolicy shop\/a is there twice/],
    [
      `${'abcde'.split('').reduce((text, key, at) => `${text}${key}: &${key} [${at === 0 ? 'x' : Array(9).fill(`*${'abcde'[at - 1]}`)}]\n`, '')}`,
      /Excessive alias count/,
    ],
  ];
  for (const [text, message, namespace] of refused)
    await assert.rejects(read(text, namespace), (error: Error & { code?: string }) => {
      assert.match(error.message, message);
      assert.equal(error.code, 'BAD_POLICY');
      return true;
    });
});
