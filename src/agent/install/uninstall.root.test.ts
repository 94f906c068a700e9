// Uninstallation on a real kernel: a node with pods is refused; without them all of ours goes, foreign objects stay, and
// settings are what they were. A kill in the middle leaves what a second call removes.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseIp } from '../../base/ip.ts';
import { eni0, needsRoot, nodeState, TestPods, TestVpc } from '../../datapath/testing.ts';
import { tryLockDirectory } from '../../kernel/lock.ts';
import { CONFLIST } from './network-configs.ts';

const SETTINGS =
  'conf/*/rp_filter conf/*/forwarding conf/*/arp_ignore conf/*/arp_announce neigh/*/retrans_time_ms';
const ROOT = join(import.meta.dirname, '../../..');

test(
  'a drained node is as it was before, a node with pods or an agent is left alone',
  needsRoot,
  async () => {
    const dir = mkdtempSync(join(tmpdir(), 'podway-uninstall-'));
    const runDir = join(dir, 'run');
    const files = [join(dir, 'net.d', CONFLIST), join(dir, 'bin', 'podway-cni')];
    for (const name of ['run', 'net.d', 'bin']) mkdirSync(join(dir, name));
    for (const file of [...files, join(runDir, 'journal')]) writeFileSync(file, 'x');
    writeFileSync(join(dir, 'net.d', '10-other.conflist'), 'theirs');
    using vpc = new TestVpc();
    const inNode = (...args: string[]) =>
      execFileSync('nsenter', [`--net=${vpc.node.path}`, ...args], { encoding: 'utf8' });
    /** What is set on the node; carriers and what IPv6 makes of them come and go by themselves. */
    const seen = () =>
      [
        inNode('ip', '-d', 'link').replace(/NO-CARRIER,|,LOWER_UP| qdisc \w+ state \w+/g, ''),
        inNode('ip', '-4', 'addr').replace(/NO-CARRIER,|,LOWER_UP| qdisc \w+ state \w+|valid_lft.*/g, ''),
        inNode('ip', '-4', 'route', 'show', 'table', 'all'),
        inNode('ip', 'rule'),
        inNode('nft', 'list', 'ruleset'),
        inNode('sh', '-c', `cd /proc/sys/net/ipv4 && grep . ip_forward ip_early_demux ${SETTINGS}`),
      ].join('\n--\n');
    const uninstall = () =>
      spawnSync(
        'nsenter',
        [
          ...[`--net=${vpc.node.path}`, join(ROOT, 'bin/podway'), 'agent', 'uninstall', '-o', 'json'],
          ...['--run-dir', runDir, '--host-bin-dir', join(dir, 'bin'), '--host-conf-dir', join(dir, 'net.d')],
        ],
        { encoding: 'utf8' },
      );
    try {
      inNode('nft', 'add', 'table', 'inet', 'theirs');
      const before = seen();
      const sysctlFile = join(runDir, 'sysctls.json');
      const pods = new TestPods(vpc, { sysctlFile });
      await pods.datapath.syncNode(nodeState());
      const { hostIfname } = pods.add('web', '10.0.0.77', eni0);
      for (const table of ['podway-policy', 'podway-isolated']) inNode('nft', 'add', 'table', 'inet', table);
      assert.notEqual(seen(), before);

      const withPod = uninstall();
      assert.equal(withPod.status, 1, withPod.stdout);
      assert.match(withPod.stderr, /NODE_IN_USE: the node has 1 pod of Podway: .*10\.0\.0\.77/);
      assert.ok(files.every(existsSync));

      pods.datapath.cutPod({ hostIfname, ips: [parseIp('10.0.0.77')] });
      await pods.datapath.reapLinks();
      await pods.datapath.close();
      const lock = tryLockDirectory(runDir)!;
      const withAgent = uninstall();
      lock.release();
      assert.match(withAgent.stderr, /NODE_IN_USE: an agent serves/);
      assert.ok(files.every(existsSync));

      const done = uninstall();
      assert.equal(done.status, 0, done.stderr);
      assert.equal(seen(), before);
      assert.deepEqual(files.map(existsSync), [false, false]);
      assert.deepEqual(readdirSync(runDir), []);
      assert.deepEqual(readdirSync(join(dir, 'net.d')), ['10-other.conflist']);
      const again = uninstall();
      assert.equal(again.status, 0, again.stderr);
      assert.deepEqual(JSON.parse(again.stdout).removed, [`what was in ${runDir}`]);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  },
);
