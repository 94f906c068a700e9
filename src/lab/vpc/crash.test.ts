// The lab's process killed at any moment: what was answered is there, what is there is whole.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openVpc } from './index.ts';
import { REGION, ZONES } from './testing.ts';

const KILLS = 6;

// Creates interfaces for ever and says each one's id once it was answered.
const program = (dir: string) => `
import { openVpc } from ${JSON.stringify(new URL('./index.ts', import.meta.url).href)};
const vpc = openVpc({ dir: ${JSON.stringify(dir)}, region: 'us-west-2', zones: ['us-west-2a', 'us-west-2b'] });
let [subnet] = Object.values(vpc.state().subnets);
if (!subnet) {
  const { Vpc } = await vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16' });
  await vpc.act('CreateSubnet', { VpcId: Vpc.VpcId, CidrBlock: '10.0.0.0/18' });
  [subnet] = Object.values(vpc.state().subnets);
}
for (;;) {
  const { NetworkInterface } = await vpc.act('CreateNetworkInterface', { SubnetId: subnet.id, SecondaryPrivateIpAddressCount: 3 });
  process.stdout.write(NetworkInterface.NetworkInterfaceId + ' ' + NetworkInterface.PrivateIpAddress + '\\n');
}
`;

test('kill -9 loses nothing that was answered', { timeout: 60_000 }, async () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-vpc-'));
  try {
    const file = join(dir, 'writer.mjs');
    writeFileSync(file, program(dir));
    const answered = new Map<string, string>();
    for (let kill = 0; kill < KILLS; kill++) {
      const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] });
      let out = '';
      const after = answered.size + 1 + kill * 7;
      for await (const chunk of child.stdout) {
        out += chunk;
        if (answered.size + out.split('\n').length > after) child.kill('SIGKILL');
      }
      for (const line of out.split('\n').slice(0, -1)) {
        const [id, ip] = line.split(' ');
        answered.set(id!, ip!);
      }
    }
    const vpc = openVpc({ dir, region: REGION, zones: ZONES });
    const enis = vpc.state().networkInterfaces;
    assert.ok(answered.size >= KILLS);
    for (const [id, ip] of answered) assert.equal(enis[id]?.privateIps[0], ip);
    const ips = Object.values(enis).flatMap((eni) => eni.privateIps);
    assert.equal(ips.length, 4 * Object.keys(enis).length, 'every interface is whole');
    assert.equal(new Set(ips).size, ips.length, 'no address twice');
    // At most the one that each kill cut off before its answer.
    assert.ok(Object.keys(enis).length <= answered.size + 50);
    vpc.close();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
