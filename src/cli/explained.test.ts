// What the Kubernetes API answers becomes a cause of the command line.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KubeError } from '../kube/index.ts';
import { LabError } from '../lab/daemon/errors.ts';
import { explained } from './explained.ts';

test('what a Kubernetes API refuses is told in its words', () => {
  const said = (error: unknown): string => {
    const { code, message } = explained(error) as LabError;
    return `${code}: ${message}`;
  };
  assert.equal(said(new KubeError(500, 'InternalError', 'not today')), 'API_REFUSED: not today');
  assert.equal(said(new KubeError(403, 'Forbidden', 'pods is forbidden')), 'NO_CLUSTER: pods is forbidden');
  const cause = new LabError('NOT_IN_DUMP', 'it has no pods', 'list it');
  assert.equal(explained(new KubeError(404, 'NotFound', '', undefined, { cause })), cause);
  const other = new TypeError('x');
  assert.equal(explained(other), other);
});
