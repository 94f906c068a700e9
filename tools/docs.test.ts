import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { causes, docOf } from '../src/base/causes.ts';
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

test('every cause has the heading that its doc names', () => {
  for (const name of Object.keys(causes) as (keyof typeof causes)[]) {
    const anchor = docOf(name).split('#')[1];
    assert.ok(
      committed.split('\n').some((line) => line === `### ${name}` && name.toLowerCase() === anchor),
      name,
    );
  }
});
