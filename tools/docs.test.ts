import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { causes, docOf } from '../src/base/causes.ts';
import { isRefused, readNodeNetwork } from '../src/ipam/config/node-network.ts';
import type { NodeNetwork } from '../src/kube/networks.ts';
import { causesPage, causesText, metricsPage, metricsText } from './docs.ts';

const committed = readFileSync(causesPage, 'utf8');

test('the committed page of causes is the one that the tables make (npm run docs)', () => {
  assert.equal(committed, causesText());
});

test('the committed page of metrics is the one that the agent’s metrics make (npm run docs)', () => {
  const text = metricsText();
  assert.equal(readFileSync(metricsPage, 'utf8'), text);
  assert.match(text, /`awscni_aws_api_latency_ms` \| summary \| api, error, status \|/);
});

const root = join(import.meta.dirname, '..');

test('the files that README and docs name are there', () => {
  for (const page of ['README.md', 'docs/README.md', 'docs/ipam.md']) {
    const text = readFileSync(join(root, page), 'utf8');
    const named = [...text.matchAll(/`((?:test|src|deploy|examples)\/[\w./-]+\.(?:ts|yaml|py))`/g)].map(
      (m) => m[1]!,
    );
    const linked = [...text.matchAll(/\]\(([\w./-]+\.(?:md|svg))[^)]*\)/g)].map((m) =>
      join(dirname(page), m[1]!),
    );
    const missing = [...named, ...linked].filter((file) => !existsSync(join(root, file)));
    assert.deepEqual(missing, [], page);
  }
});

test('links to causes lead to causes', () => {
  const text = readFileSync(join(root, 'docs/ipam.md'), 'utf8');
  for (const [, name = '', anchor] of text.matchAll(/\[([A-Z_]+)\]\(causes\.md#(\w+)\)/g)) {
    assert.ok(name in causes, name);
    assert.equal(anchor, name.toLowerCase());
  }
});

test('the example of a NodeNetwork is accepted', () => {
  const object = parse(readFileSync(join(root, 'deploy/node-network-example.yaml'), 'utf8')) as NodeNetwork;
  const metadata = { ...object.metadata, creationTimestamp: '2026-01-01T00:00:00Z', generation: 1 };
  const read = readNodeNetwork({ ...object, metadata });
  assert.ok(!isRefused(read), JSON.stringify(read));
  assert.deepEqual([read.addressing, read.podsPerMinute, read.maxSubnetPercent], ['auto', 20, 10]);
});

test('every cause has the heading that its doc names', () => {
  for (const name of Object.keys(causes) as (keyof typeof causes)[]) {
    const anchor = docOf(name).split('#')[1];
    assert.ok(
      committed.split('\n').some((line) => line === `### ${name}` && name.toLowerCase() === anchor),
      name,
    );
  }
});
