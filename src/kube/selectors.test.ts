import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  fieldAt,
  matchesRequirements,
  parseFieldSelector,
  parseLabelSelector,
  SelectorError,
  selectorRequirements,
} from './selectors.ts';

const labels = { app: 'web', tier: 'front', n: '5', 'example.com/x': '' };

test('label selectors match as in Kubernetes', () => {
  const cases: [string, boolean][] = [
    ['', true],
    ['app=web', true],
    ['app==web', true],
    ['app=web,tier=back', false],
    ['app!=db', true],
    ['missing!=x', true],
    ['app in (web,db)', true],
    ['app notin (web, db)', false],
    ['missing notin (a)', true],
    ['app', true],
    ['!app', false],
    ['!missing', true],
    ['example.com/x', true],
    ['example.com/x=', true],
    ['n>4', true],
    ['n<5', false],
    ['app>1', false],
    ['constructor', false],
    [' app = web , tier = front ', true],
  ];
  for (const [text, expected] of cases) {
    assert.equal(matchesRequirements(parseLabelSelector(text), labels), expected, text);
  }
});

test('what is no label selector is refused', () => {
  for (const text of ['=a', 'a in b', 'a in (b', 'a b', 'app=web,', '/x=y', 'a=b=c', 'n>x', '-a']) {
    assert.throws(() => parseLabelSelector(text), SelectorError, text);
  }
});

test('the LabelSelector of an object: empty selects all, every part must hold', () => {
  const match = (selector: Parameters<typeof selectorRequirements>[0]) =>
    matchesRequirements(selectorRequirements(selector), labels);
  assert.equal(match({}), true);
  assert.equal(
    match({ matchLabels: { app: 'web' }, matchExpressions: [{ key: 'tier', operator: 'Exists' }] }),
    true,
  );
  assert.equal(match({ matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['web'] }] }), false);
  assert.equal(match({ matchExpressions: [{ key: 'none', operator: 'DoesNotExist' }] }), true);
  assert.throws(() => match({ matchExpressions: [{ key: 'a', operator: 'In' }] }), SelectorError);
});

test('field selectors: equality, absence as empty, escapes', () => {
  const pod = { spec: { nodeName: 'node-1' }, metadata: { name: 'a,b' } };
  const cases: [string, boolean][] = [
    ['spec.nodeName=node-1', true],
    ['spec.nodeName!=node-1', false],
    ['status.phase=', true],
    ['metadata.name=a\\,b', true],
    ['spec.nodeName=node-1,status.phase!=Failed', true],
    ['', true],
  ];
  for (const [text, expected] of cases)
    assert.equal(
      parseFieldSelector(text).every(
        ({ path, equal, value }) => (fieldAt(pod, path.split('.')) === value) === equal,
      ),
      expected,
      text,
    );
  assert.throws(() => parseFieldSelector('spec.nodeName'), SelectorError);
});
