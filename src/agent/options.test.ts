import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { agentHelp, agentOptions, readAgentOptions } from './options.ts';

const dir = mkdtempSync(join(tmpdir(), 'podway-options-'));
after(() => rmSync(dir, { recursive: true, force: true }));

test('a pod of a DaemonSet is configured by its environment alone', () => {
  const config = readAgentOptions([], {
    NODE_NAME: 'node-1',
    KUBERNETES_SERVICE_HOST: '172.20.0.1',
    PODWAY_INSTALL: '1',
    PODWAY_LISTEN: '[::1]:9464',
    PODWAY_COOLDOWN: '500ms',
    PODWAY_EXCLUDE_SNAT_CIDRS: '10.8.0.0/16, 10.9.0.0/16',
    PODWAY_CHAIN: 'portmap,bandwidth',
    PODWAY_WARM: '',
  });
  assert.equal(config.nodeName, 'node-1');
  assert.equal(config.runDir, '/run/podway');
  assert.equal(config.inCluster, true);
  assert.deepEqual(config.listen, { host: '::1', port: 9464 });
  assert.deepEqual(config.install, {
    hostBinDir: '/host/opt/cni/bin',
    hostConfDir: '/host/etc/cni/net.d',
    chain: ['portmap', 'bandwidth'],
  });
  assert.equal(config.settings.cooldownMs, 500);
  assert.equal(config.settings.excludeSnatCidrs.length, 2);
  assert.equal(config.settings.warm, undefined);
});

test('a flag counts before its variable, a kubeconfig before the service account', () => {
  const config = readAgentOptions(
    ['--node-name=node-2', '--warm', '3', '--kubeconfig', '/k', '--listen', ':9464', '--install'],
    { NODE_NAME: 'node-1', PODWAY_WARM: '7', KUBERNETES_SERVICE_HOST: '::1' },
  );
  assert.equal(config.nodeName, 'node-2');
  assert.equal(config.settings.warm, 3);
  assert.equal(config.inCluster, false);
  assert.deepEqual(config.listen, { host: '', port: 9464 });
  assert.ok(config.install);
});

test('a file is all of a configuration, flags add to it, variables do not', () => {
  const file = join(dir, 'agent.json');
  writeFileSync(file, JSON.stringify({ nodeName: 'n', runDir: dir, settings: { warm: 1 } }));
  const config = readAgentOptions(['--config', file, '--cooldown', '2m'], {
    NODE_NAME: 'other',
    PODWAY_INSTALL: '1',
    KUBERNETES_SERVICE_HOST: '::1',
  });
  assert.equal(config.nodeName, 'n');
  assert.equal(config.install, undefined);
  assert.equal(config.inCluster, false);
  assert.deepEqual([config.settings.warm, config.settings.cooldownMs], [1, 120_000]);
});

const refused: [string, string[], Record<string, string>, RegExp][] = [
  ['no name', [], {}, /neither --node-name nor NODE_NAME/],
  ['an unknown flag', ['--nodename', 'x'], {}, /knows no --nodename/],
  ['a word', ['install'], {}, /knows no install/],
  ['no value', ['--warm'], {}, /--warm has no value/],
  ['a variable', [], { NODE_NAME: 'n', PODWAY_WARM: 'two' }, /PODWAY_WARM is "two", not a whole number/],
  ['a duration', ['--cooldown', '30'], { NODE_NAME: 'n' }, /--cooldown is "30", not a duration/],
  ['yes or no', [], { NODE_NAME: 'n', PODWAY_INSTALL: 'maybe' }, /PODWAY_INSTALL is "maybe", not 1 or 0/],
  ['an address', ['--listen', '9464'], { NODE_NAME: 'n' }, /listen is "9464", not ADDRESS:PORT/],
  ['a plugin', ['--chain', 'calico'], { NODE_NAME: 'n' }, /chain is "calico", not one of portmap/],
  ['a missing file', ['--config', '/nowhere/x'], {}, /agent config \/nowhere\/x: ENOENT/],
];
for (const [name, args, env, message] of refused)
  test(`refuses: ${name}`, () => {
    assert.throws(() => readAgentOptions(args, env), { code: 'INVALID_CONFIG', message });
  });

test('every option is in the help text, and no two share a flag or variable', () => {
  const help = agentHelp();
  for (const { flag, env } of agentOptions)
    for (const word of [flag, ...env]) assert.ok(help.includes(word), word);
  const words = agentOptions.flatMap(({ flag, env }) => [flag, ...env]);
  assert.equal(new Set(words).size, words.length);
});
