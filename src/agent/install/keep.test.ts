// Installation on a host that is a scratch directory: order, damage, deletion, leftovers of a kill, others' configs.
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { eventually } from '../../../test/support/wait.ts';
import { loadNetworkList } from '../../cni/runtime/index.ts';
import { quiet } from '../../datapath/testing.ts';
import type { InstallConfig } from '../config.ts';
import { Installation } from './keep.ts';
import { CONFLIST } from './network-configs.ts';

let root: string;
let told: string[];
let serving: boolean;
const paths = () => ({
  conflist: join(root, 'net.d', CONFLIST),
  plugin: join(root, 'bin', 'podway-cni'),
  source: join(root, 'source'),
});
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'podway-install-'));
  told = [];
  serving = true;
  writeFileSync(paths().source, 'the plugin');
  mkdirSync(join(root, 'run'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const make = (more: Partial<InstallConfig> = {}) =>
  new Installation(
    {
      config: { runDir: join(root, 'run') },
      log: quiet,
      events: { node: (_type, reason, text) => void told.push(`${reason}: ${text}`), pod: () => {} },
    },
    { hostBinDir: join(root, 'bin'), hostConfDir: join(root, 'net.d'), plugin: paths().source, ...more },
    () => serving,
  );

test('the plugin comes first, the conflist when the node can serve, and then it stays', () => {
  serving = false;
  const one = make();
  one.look();
  assert.equal(readFileSync(paths().plugin, 'utf8'), 'the plugin');
  assert.equal(statSync(paths().plugin).mode & 0o777, 0o755);
  assert.equal(existsSync(paths().conflist), false);
  assert.equal(one.view().conflist, 'waiting');
  serving = true;
  one.look();
  const list = loadNetworkList(paths().conflist);
  assert.equal(list.name, 'podway');
  assert.deepEqual(
    list.plugins.map((plugin) => plugin.type),
    ['podway-cni'],
  );
  serving = false;
  one.look();
  assert.ok(existsSync(paths().conflist));
  rmSync(paths().conflist);
  one.look();
  assert.ok(
    existsSync(paths().conflist),
    'a node that cannot serve says so by STATUS, not by a lacking conflist',
  );
  assert.match(told.join(), /ConflistRestored: wrote .* again: it was gone/);
});

test('an agent after an upgrade puts back what is gone, also while it cannot serve', () => {
  make().look();
  rmSync(paths().conflist);
  serving = false;
  writeFileSync(paths().source, 'a newer plugin');
  make().look();
  assert.ok(existsSync(paths().conflist));
  assert.equal(readFileSync(paths().plugin, 'utf8'), 'a newer plugin');
  assert.deepEqual(told, []);
});

test('what is damaged is written again and told; what is right is left alone', () => {
  const one = make();
  one.look();
  const before = [statSync(paths().plugin).ino, statSync(paths().conflist).ino];
  one.look();
  make().look();
  assert.deepEqual([statSync(paths().plugin).ino, statSync(paths().conflist).ino], before);
  writeFileSync(paths().conflist, '{');
  writeFileSync(paths().plugin, 'half');
  one.look();
  assert.equal(readFileSync(paths().plugin, 'utf8'), 'the plugin');
  assert.equal(loadNetworkList(paths().conflist).name, 'podway');
  assert.equal(told.length, 2);
  chmodSync(paths().plugin, 0o644);
  one.look();
  assert.equal(statSync(paths().plugin).mode & 0o777, 0o755);
});

test('a half-written file of a killed agent is neither loaded nor in the way', () => {
  mkdirSync(join(root, 'net.d'));
  writeFileSync(join(root, 'net.d', `.${CONFLIST}.podway-new`), '{"name":');
  const one = make();
  one.look();
  assert.equal(one.view().error, null);
  assert.equal(existsSync(join(root, 'net.d', `.${CONFLIST}.podway-new`)), false);
});

test('a host that cannot be written is told by name, and tried again', () => {
  writeFileSync(join(root, 'net.d'), 'a file where the directory should be');
  const one = make();
  one.look();
  one.look();
  assert.match(one.view().error!.message, /net\.d/);
  assert.equal(one.view().error!.code, 'HOST_UNWRITABLE');
  assert.equal(told.filter((text) => text.startsWith('InstallFailed')).length, 1);
  rmSync(join(root, 'net.d'));
  one.look();
  assert.equal(one.view().error, null);
  assert.equal(one.view().conflist, 'installed');
});

test('portmap is chained where the host has it; what is asked for must be there', () => {
  mkdirSync(join(root, 'bin'));
  writeFileSync(join(root, 'bin', 'portmap'), '');
  make().look();
  const types = () => loadNetworkList(paths().conflist).plugins.map((plugin) => plugin.type);
  assert.deepEqual(types(), ['podway-cni', 'portmap']);
  make({ chain: [] }).look();
  assert.deepEqual(types(), ['podway-cni']);
  const asked = make({ chain: ['portmap', 'bandwidth'] });
  asked.look();
  assert.deepEqual(types(), ['podway-cni']);
  assert.equal(asked.view().error!.code, 'PLUGIN_MISSING');
  assert.match(asked.view().error!.message, /has no bandwidth/);
  writeFileSync(join(root, 'bin', 'bandwidth'), '');
  asked.look();
  assert.deepEqual(types(), ['podway-cni', 'portmap', 'bandwidth']);
});

test('the conflist offers what the chained programs speak, and again when they are replaced', async () => {
  mkdirSync(join(root, 'bin'));
  mkdirSync(join(root, 'net.d'));
  const portmap = (...versions: string[]) => {
    const answer = JSON.stringify({ cniVersion: '1.0.0', supportedVersions: versions });
    writeFileSync(join(root, 'bin', 'portmap.new'), `#!/bin/sh\necho '${answer}'\n`, { mode: 0o755 });
    renameSync(join(root, 'bin', 'portmap.new'), join(root, 'bin', 'portmap'));
  };
  const version = () => loadNetworkList(paths().conflist).cniVersion;
  for (const [versions, offered] of [
    [['0.4.0', '1.0.0'], '1.0.0'],
    [['0.4.0', '1.0.0', '1.1.0'], '1.1.0'],
  ] as const) {
    portmap(...versions);
    const stop = new AbortController();
    const kept = make().keep(stop.signal);
    await eventually('the conflist is written', () => existsSync(paths().conflist) && version() === offered);
    stop.abort();
    await kept;
  }
});

test('other networks that win or lose are told once and left alone', () => {
  mkdirSync(join(root, 'net.d'));
  const put = (name: string, text: string) => writeFileSync(join(root, 'net.d', name), text);
  put(
    '10-aws.conflist',
    JSON.stringify({ name: 'aws-cni', plugins: [{ type: 'aws-cni' }, { type: 'portmap' }] }),
  );
  put('00-multus.conf', JSON.stringify({ name: 'multus', type: 'multus' }));
  put('99-broken.conf', '{');
  put('README', 'nothing');
  const one = make();
  one.look();
  one.look();
  assert.deepEqual(
    one.view().others.map(({ file, wins, damaged }) => [file, wins, damaged === null]),
    [
      ['00-multus.conf', true, true],
      ['10-aws.conflist', false, true],
      ['99-broken.conf', false, false],
    ],
  );
  assert.equal(told.length, 3);
  assert.match(told[0]!, /00-multus\.conf \(network multus, multus\) sorts before 05-podway\.conflist/);
  assert.match(told[1]!, /10-aws\.conflist \(network aws-cni, aws-cni and portmap\) sorts behind/);
  rmSync(join(root, 'net.d', '10-aws.conflist'));
  one.look();
  assert.equal(one.view().others.length, 2);
  assert.equal(told.length, 3);
});

test('the directory is watched: a deleted conflist is back at once', async () => {
  const stop = new AbortController();
  const one = make();
  const kept = one.keep(stop.signal);
  assert.ok(existsSync(paths().conflist));
  rmSync(paths().conflist);
  for (let i = 0; i < 600 && !existsSync(paths().conflist); i++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(existsSync(paths().conflist));
  stop.abort();
  await kept;
});
