// The IAM policies that an operator attaches have the EC2 actions that the code of agent and controller sends, and no others.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

const root = join(import.meta.dirname, '../..');
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
type Policy = { Statement: { Effect: string; Action: string | string[]; Resource: string }[] };

const ACTION =
  /'((?:Describe|Create|Attach|Detach|Delete|Assign|Unassign|Associate|Disassociate|Modify)[A-Z]\w+)'/g;
const actionsIn = (text: string): string[] => [...text.matchAll(ACTION)].map((match) => `ec2:${match[1]}`);

/** Of the clients' methods that the controller calls for branches, the actions. */
function branchActions(): string[] {
  const clients = read('src/cloud/ec2.ts') + read('src/cloud/trunks.ts');
  const methods = clients.split(/^ {4}(?=(?:async )?\w+\()/m).slice(1);
  const called = globSync('src/controller/branch/*.ts', { cwd: root })
    .filter((file) => !/\.test\.ts$|\/testing[^/]*$/.test(file))
    .flatMap((file) => [...read(file).matchAll(/\bcloud\.(\w+)\(/g)].map((match) => match[1]!));
  assert.ok(called.length > 5, 'the calls for branches are found');
  // What a client keeps to itself calls nothing.
  const calling = [...new Set(called)].filter((name) => !['rates', 'grant'].includes(name));
  return calling.flatMap((name) => {
    const own = methods.filter((text) => new RegExp(`^(?:async )?${name}\\(`).test(text));
    assert.equal(own.length, 1, `the client has one ${name}`);
    return actionsIn(own[0]!);
  });
}

/** What is sent for each document. EC2 asks for CreateTags where CreateNetworkInterface carries tags. */
const SENT: Record<string, () => string[]> = {
  agent: () => [...actionsIn(read('src/cloud/ec2.ts') + read('src/cloud/group-rules.ts')), 'ec2:CreateTags'],
  controller: () => actionsIn(read('src/cloud/fleet.ts')),
  'pod-security-groups': () => [...branchActions(), 'ec2:CreateTags'],
};

for (const [name, sent] of Object.entries(SENT))
  test(`every action that is sent is allowed by ${name}.json, and nothing else`, () => {
    const policy = JSON.parse(read(`deploy/iam/${name}.json`)) as Policy;
    const allowed = new Set(policy.Statement.flatMap(({ Action }) => Action));
    assert.deepEqual([...allowed].sort(), [...new Set(sent())].sort());
    assert.ok(policy.Statement.every(({ Effect }) => Effect === 'Allow'));
  });
