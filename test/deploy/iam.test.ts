// The IAM policy that an operator attaches has the EC2 actions that the agent's client sends, and no others.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '../..');
const policy = JSON.parse(readFileSync(join(root, 'deploy/iam/agent.json'), 'utf8')) as {
  Statement: { Effect: string; Action: string | string[]; Resource: string }[];
};

test('every action that the client sends is allowed, and nothing else', () => {
  const text = readFileSync(join(root, 'src/cloud/ec2.ts'), 'utf8');
  const sent = [
    ...text.matchAll(/'((?:Describe|Create|Attach|Detach|Delete|Assign|Unassign|Modify)[A-Z]\w+)'/g),
  ];
  const actions = new Set(sent.map((match) => `ec2:${match[1]}`));
  // EC2 asks for it too where CreateNetworkInterface carries tags.
  actions.add('ec2:CreateTags');
  const allowed = new Set(policy.Statement.flatMap(({ Action }) => Action));
  assert.deepEqual([...allowed].sort(), [...actions].sort());
  assert.ok(policy.Statement.every(({ Effect }) => Effect === 'Allow'));
});
