// The VPC's file is taken away: nothing is answered that is not stored, and nothing is made anew in silence.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openVpc } from './index.ts';
import { REGION, ZONES } from './testing.ts';

const GONE = /somebody removed or replaced \S+vpc\.sqlite, in which the lab keeps its VPC/;

test('a file that somebody removes is told of by the next change and the next start', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-vpc-'));
  const options = { dir, region: REGION, zones: ZONES };
  const vpc = openVpc(options);
  try {
    await vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16' });
    for (const suffix of ['', '-wal', '-shm']) rmSync(join(dir, `vpc.sqlite${suffix}`), { force: true });
    await assert.rejects(vpc.act('CreateVpc', { CidrBlock: '10.1.0.0/16' }), GONE);
    assert.equal((await vpc.act('DescribeVpcs', {})).Vpcs?.length, 1, 'what was refused is not there');
  } finally {
    vpc.close();
  }
  assert.throws(() => openVpc(options), GONE);
  rmSync(dir, { recursive: true });
});
