// The webhooks' answers, as the API would apply them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { asksForBranch, POD_ENI, type Pod } from '../../kube/index.ts';
import { type AdmissionReview, candidateOf, guard, inject } from './admission.ts';

const WRITER = 'system:serviceaccount:kube-system:podway-controller';
const pod = (spec: object = {}, metadata: object = {}): Pod =>
  ({ metadata: { name: 'a', ...metadata }, spec: { containers: [{ name: 'c' }], ...spec } }) as Pod;
const review = (object: Pod, more: object = {}): AdmissionReview => ({
  request: { uid: 'u', namespace: 'default', operation: 'CREATE', object, ...more },
});
/** Steps of the kind `add`, which is all that we send. */
function patched(object: Pod, patch: string): Pod {
  const copy = structuredClone(object);
  for (const { path, value } of JSON.parse(Buffer.from(patch, 'base64').toString())) {
    const keys = path
      .slice(1)
      .split('/')
      .map((key: string) => key.replace('~1', '/'));
    const last = keys.pop()!;
    const target = keys.reduce((into: Record<string, unknown>, key: string) => into[key], copy as never);
    target[last] = value;
  }
  return copy;
}

test('a selected pod asks for a branch after the injection, whatever it asked for before', () => {
  for (const resources of [undefined, {}, { limits: { cpu: '1' } }, { requests: { cpu: '1' }, limits: {} }]) {
    const object = pod({ containers: [{ name: 'c', ...(resources && { resources }) }] });
    assert.ok(candidateOf(review(object)));
    const after = patched(object, inject(review(object), ['sg-1']).patch!);
    const { limits, requests } = after.spec.containers[0]!.resources!;
    assert.deepEqual([limits![POD_ENI], requests![POD_ENI]], ['1', '1']);
    assert.deepEqual({ ...limits, [POD_ENI]: undefined }, { ...resources?.limits, [POD_ENI]: undefined });
    assert.ok(asksForBranch(after));
    assert.equal(candidateOf(review(after)), null, 'once is enough');
  }
});

test('a pod of the host, of Windows, or that no policy selects stays as it is', () => {
  assert.deepEqual(inject(review(pod()), []), { uid: 'u', allowed: true });
  for (const spec of [{ hostNetwork: true }, { nodeSelector: { 'kubernetes.io/os': 'windows' } }])
    assert.equal(candidateOf(review(pod(spec))), null);
  assert.equal(candidateOf(review(pod(), { operation: 'UPDATE' })), null);
  assert.equal(candidateOf({}), null);
});

test('a candidate is the pod that is to be', () => {
  const asked = review(pod({ serviceAccountName: 'sa' }, { labels: { app: 'web' } }));
  assert.deepEqual(candidateOf(asked), {
    namespace: 'default',
    labels: { app: 'web' },
    serviceAccountName: 'sa',
  });
});

test('the annotation is the controller’s', () => {
  const annotated = (value?: string) => pod({}, value ? { annotations: { [POD_ENI]: value } } : {});
  const update = (was: Pod, is: Pod, username: string) =>
    guard(review(is, { operation: 'UPDATE', oldObject: was, userInfo: { username } }), WRITER);
  assert.equal(guard(review(annotated('[]'), { userInfo: { username: WRITER } }), WRITER).allowed, false);
  assert.equal(guard(review(annotated()), WRITER).allowed, true);
  for (const [was, is, user, allowed] of [
    [undefined, '[1]', WRITER, true],
    [undefined, '[1]', 'eks:vpc-resource-controller', true],
    [undefined, '[1]', 'system:node:n1', false],
    ['[1]', '[2]', 'mallory', false],
    ['[1]', undefined, 'mallory', false],
    ['[1]', '[1]', 'mallory', true],
  ] as const) {
    const answer = update(annotated(was), annotated(is), user);
    assert.equal(answer.allowed, allowed, `${was} to ${is} by ${user}`);
    if (!allowed) assert.match(answer.status!.message, new RegExp(`podway: ${user} may not change`));
  }
});
