// The lab's process is killed at every step of an apply: a child applies and kills itself at the n-th point.
// Whatever it left, the next process converges, and packets that flowed go on.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { VpcState } from '../vpc/model.ts';
import {
  addEni,
  addInstance,
  allow,
  bench,
  edit,
  eniId,
  GROUP,
  skipReason,
  threeInstances,
} from './testing.ts';

const CHILD = `
import { readFileSync } from 'node:fs';
import { createFabric } from '${join(import.meta.dirname, 'index.ts')}';
const [lab, dir, from, to, point] = process.argv.slice(2);
let left = Number(point), armed = false;
const fabric = createFabric({ lab, dir, fault: () => { if (armed && --left < 0) process.kill(process.pid, 'SIGKILL'); } });
if (from !== '-') await fabric.apply(JSON.parse(readFileSync(from, 'utf8')));
armed = true;
await fabric.apply(JSON.parse(readFileSync(to, 'utf8')));
await fabric.close();
`;

/** Kills the change at each of its points in turn; `check` runs after the successor's apply. */
async function killEverywhere(
  from: VpcState | null,
  to: VpcState,
  check: (lab: ReturnType<typeof bench>) => Promise<void>,
) {
  const files = mkdtempSync(join(tmpdir(), 'podway-kill-'));
  const file = (name: string, text: string) => {
    writeFileSync(join(files, name), text);
    return join(files, name);
  };
  try {
    const script = file('child.ts', CHILD);
    const before = from === null ? '-' : file('from.json', JSON.stringify(from));
    const after = file('to.json', JSON.stringify(to));
    let point = 0;
    for (; point < 50; point++) {
      await using lab = bench();
      const child = spawnSync(process.execPath, [script, lab.lab, lab.dir, before, after, String(point)], {
        encoding: 'utf8',
        timeout: 30_000,
      });
      const killed = child.signal === 'SIGKILL';
      assert.ok(killed || child.status === 0, child.stderr);
      await lab.fabric.apply(to);
      await check(lab).catch((error) => {
        throw new Error(`after a kill at point ${point}`, { cause: error });
      });
      if (!killed) break;
    }
    assert.ok(point >= 5, `only ${point} points`);
    return point;
  } finally {
    rmSync(files, { recursive: true, force: true });
  }
}

describe('a process killed in the middle of an apply', { skip: skipReason, timeout: 120_000 }, () => {
  it('has a successor that finishes a first apply', async () => {
    await killEverywhere(null, threeInstances(), async (lab) => {
      assert.equal(await lab.ping('a', '10.0.0.11'), 1);
      assert.equal(await lab.ping('a', '10.0.32.10'), 1);
      assert.equal(await lab.ping('c', '10.0.0.11'), 1);
    });
  });

  it('has a successor that finishes a change of everything', async () => {
    const from = threeInstances();
    const to = edit(from, (state) => {
      state.instances['i-b']!.state = 'terminated';
      delete state.networkInterfaces[eniId(0x0b)];
      addInstance(state, 'd', 0x0d, { ips: ['10.0.0.13'] });
      const eni = addEni(state, 0x1a, { ips: ['10.0.0.20', '10.0.0.21'], instance: 'i-a', deviceIndex: 1 });
      state.publicAddresses['203.0.113.77'] = {
        publicIp: '203.0.113.77',
        networkInterfaceId: eni.id,
        tags: {},
      };
      state.securityGroups[GROUP]!.rules.push(allow('ingress', '203.0.113.0/24'));
    });
    await killEverywhere(from, to, async (lab) => {
      assert.equal(await lab.ping('a', '10.0.32.10'), 1);
      assert.equal(await lab.ping('a', '10.0.0.13'), 1);
      assert.equal(await lab.ping('a', '10.0.0.11'), 0);
      await lab.linkUp('a', 'eth1');
      await lab.sh(
        'a',
        'ip addr add 10.0.0.20/32 dev eth1; ip route add default via 10.0.0.1 dev eth1 onlink table 1001; ip rule add from 10.0.0.20 table 1001',
      );
      assert.equal(await lab.ping('internet', '203.0.113.77'), 1);
      assert.doesNotMatch(
        await lab.sh('vpc', 'nft list ruleset; bridge fdb; ip neigh'),
        /10\.0\.0\.11\b|00:0b/,
      );
    });
  });

  it('changes nothing for packets that flow: a stream goes on over a successor', async () => {
    await using lab = bench();
    const state = threeInstances();
    await lab.fabric.apply(state);
    await lab.serve('c', 8080);
    const flow = await lab.stream('a', '10.0.32.10', 8080);
    assert.match((await flow.echo('one')) ?? '', /one$/);
    await lab.fabric.close();
    assert.match((await flow.echo('two')) ?? '', /two$/, 'nobody at home');
    assert.equal(await lab.ping('a', '10.0.0.11'), 1, 'and ARP is answered');
    await using successor = bench({ lab: lab.lab, dir: lab.dir });
    await successor.fabric.apply(state);
    assert.match((await flow.echo('three')) ?? '', /three$/);
  });

  it('or someone who deletes what is ours: repair puts it back', async () => {
    await using lab = bench();
    await lab.fabric.apply(threeInstances());
    await lab.sh(
      'vpc',
      'nft flush ruleset; ip rule flush; ip rule add priority 32766 table main; ip route flush table all proto 80; ip link del eni00000000000a; ip neigh flush nud permanent',
    );
    await lab.fabric.repair();
    assert.equal(await lab.ping('a', '10.0.32.10'), 1);
    assert.equal(await lab.ping('b', '10.0.0.10'), 1);
    await lab.sh(
      'vpc',
      'nft delete table bridge podway-fabric; nft add table bridge podway-fabric; nft add set bridge podway-fabric sources { type ipv4_addr \\; }',
    );
    await lab.fabric.repair();
    assert.equal(await lab.ping('a', '10.0.32.10'), 1, 'over tables of another shape');
    await lab.sh('vpc', 'nft delete element inet podway-fabric receivers { 10.0.0.11 }');
    await lab.fabric.apply(
      edit(threeInstances(), (state) => {
        state.networkInterfaces[eniId(0x0b)]!.privateIps = ['10.0.0.12'];
      }),
    );
    assert.equal(await lab.ping('a', '10.0.0.11'), 0, 'a refused change is followed by a fresh look');
  });
});
