// Verbs over lists of plugins (L06 to L14 of the CNI facts), with plugins that note what they were given.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CniError } from '../errors.ts';
import { Chain } from '../testing/chain.ts';
import { cni, conf, result, three } from '../testing/lists.ts';
import type { JsonObject } from '../types.ts';
import {
  addNetworkList,
  cachedAttachments,
  checkNetworkList,
  delNetworkList,
  gcNetworkList,
  statusNetworkList,
} from './index.ts';

test('L06 ADD: the result flows forward, the first plugin gets none, the last one is cached', async () => {
  using chain = three(new Chain());
  const list = chain.list(conf());
  const args = [
    ['IgnoreUnknown', '1'],
    ['K', 'v'],
  ] as const;
  const added = await addNetworkList(list, chain.call({ args }));
  assert.deepEqual(added.json, result(3));
  const [a, b, c] = chain.notes();
  assert.deepEqual(a?.conf, { type: 'a', key: 1, name: 'net', cniVersion: '1.1.0' });
  assert.deepEqual(b?.conf['prevResult'], result(1));
  assert.deepEqual(c?.conf['prevResult'], result(2));
  assert.deepEqual(a?.env, {
    CNI_COMMAND: 'ADD',
    CNI_CONTAINERID: 'abc',
    CNI_NETNS: '/run/netns/x',
    CNI_IFNAME: 'eth0',
    CNI_ARGS: 'IgnoreUnknown=1;K=v',
    CNI_PATH: chain.binDir,
  });
  assert.equal(statSync(chain.cached()).mode & 0o777, 0o600);
  assert.equal(statSync(join(chain.cacheDir, 'results')).mode & 0o777, 0o700);
  const cached = JSON.parse(readFileSync(chain.cached(), 'utf8')) as JsonObject;
  assert.deepEqual(cached, {
    kind: 'cniCacheV1',
    containerId: 'abc',
    config: Buffer.from(JSON.stringify(conf())).toString('base64'),
    ifName: 'eth0',
    networkName: 'net',
    netns: '/run/netns/x',
    cniArgs: [...args],
    result: result(3),
  });
});

test('A08 a result of another version, or of none, reaches the next plugin in the version of the list', async () => {
  using chain = three(new Chain());
  chain
    .plugin('a', { ADD: { ip4: { ip: '10.0.0.1/32' }, cniVersion: '0.2.0' } })
    .plugin('b', { ADD: { ips: [{ address: '10.0.0.2/32', version: '4' }] } });
  await addNetworkList(chain.list(conf({ cniVersion: '0.4.0' })), chain.call()).catch(() => {});
  const [, b, c] = chain.notes();
  assert.deepEqual(b?.conf['prevResult'], {
    cniVersion: '0.4.0',
    ips: [{ version: '4', address: '10.0.0.1/32' }],
  });
  assert.deepEqual(c?.conf['prevResult'], {
    cniVersion: '0.4.0',
    ips: [{ address: '10.0.0.2/32', version: '4' }],
  });
});

test('L07 the second fails: its error, no cache, no DEL', async () => {
  using chain = three(new Chain()).fails('b', 'ADD', {
    code: 100,
    msg: 'ADDRESS_LIMIT: full',
    details: '{}',
  });
  await assert.rejects(addNetworkList(chain.list(conf()), chain.call()), (error) => {
    assert.ok(error instanceof CniError);
    assert.deepEqual(
      [error.code, error.msg, error.details, error.typedCause],
      [100, 'ADDRESS_LIMIT: full', '{}', 'ADDRESS_LIMIT'],
    );
    return true;
  });
  assert.deepEqual(chain.calls(), ['a ADD', 'b ADD']);
  assert.equal(chain.isCached(), false);
});

test('L08 a cache that cannot be written: ADD fails', async () => {
  using chain = three(new Chain());
  writeFileSync(chain.cacheDir, 'not a directory');
  await assert.rejects(addNetworkList(chain.list(conf()), chain.call()), cni(5, /cached/));
});

test('L09 DEL: backward, each with the final result; cache removed; a failure keeps it', async () => {
  using chain = three(new Chain());
  const list = chain.list(conf());
  await addNetworkList(list, chain.call());
  chain.notes();
  chain.fails('b', 'DEL', { code: 11, msg: 'x' });
  await assert.rejects(delNetworkList(list, chain.call()), cni(11));
  assert.deepEqual(chain.calls(), ['c DEL', 'b DEL']);
  assert.equal(chain.isCached(), true);
  chain.works('b', 'DEL');
  await delNetworkList(list, chain.call({ netns: '' }));
  const notes = chain.notes();
  assert.deepEqual(
    notes.map(({ plugin }) => plugin),
    ['c', 'b', 'a'],
  );
  for (const { conf: given } of notes) assert.deepEqual(given['prevResult'], result(3));
  assert.equal(notes[0]?.env['CNI_NETNS'], '');
  assert.equal(chain.isCached(), false);
  await delNetworkList(list, chain.call());
  assert.equal('prevResult' in (chain.notes()[0]?.conf ?? {}), false);
});

test('L09 a cache that cannot be read does not keep DEL from running', async () => {
  using chain = three(new Chain());
  mkdirSync(join(chain.cacheDir, 'results'), { recursive: true });
  for (const text of [
    '{',
    '[]',
    '{"kind":"cniCacheV1","networkName":"net","containerId":"abc","ifName":"eth0","result":{"ips":7}}',
  ]) {
    writeFileSync(chain.cached(), text);
    await delNetworkList(chain.list(conf()), chain.call());
    const notes = chain.notes();
    assert.equal(notes.length, 3);
    assert.equal('prevResult' in (notes[0]?.conf ?? {}), false);
    assert.equal(chain.isCached(), false);
  }
});

test('D14 DEL as added: config, arguments and capabilities of ADD time', async () => {
  using chain = three(new Chain());
  const before = chain.list(conf({ plugins: [{ type: 'a', capabilities: { mac: true } }] }));
  await addNetworkList(before, chain.call({ args: [['K', 'v']], capabilityArgs: { mac: 'm' } }));
  const now = chain.list(conf({ plugins: [{ type: 'b' }] }));
  chain.notes();
  await delNetworkList(now, { ...chain.call(), asAdded: true });
  const [note] = chain.notes();
  assert.equal(note?.plugin, 'a');
  assert.equal(note?.env['CNI_ARGS'], 'K=v');
  assert.deepEqual(note?.conf['runtimeConfig'], { mac: 'm' });
});

test('L10 CHECK: the cached result; none is an error; disableCheck asks nobody', async () => {
  using chain = three(new Chain());
  const list = chain.list(conf());
  await assert.rejects(checkNetworkList(list, chain.call()), cni(7, /no cached result/));
  await addNetworkList(list, chain.call());
  chain.notes();
  await checkNetworkList(list, chain.call());
  const notes = chain.notes();
  assert.deepEqual(
    notes.map(({ plugin, verb }) => `${plugin} ${verb}`),
    ['a CHECK', 'b CHECK', 'c CHECK'],
  );
  assert.deepEqual(notes[0]?.conf['prevResult'], result(3));
  await checkNetworkList(chain.list(conf({ disableCheck: 'true' })), chain.call({ containerId: 'other' }));
  writeFileSync(chain.cached(), '{');
  await assert.rejects(checkNetworkList(list, chain.call()), cni(7, /cannot be read/));
  assert.deepEqual(chain.calls(), []);
});

test('L11 before 0.4.0: CHECK refused, DEL without prevResult', async () => {
  using chain = three(new Chain());
  const list = chain.list(conf({ cniVersion: '0.3.1' }));
  chain.plugin('c', { ADD: { cniVersion: '0.3.1', ips: [{ version: '4', address: '10.0.0.3/32' }] } });
  await addNetworkList(list, chain.call());
  await assert.rejects(checkNetworkList(list, chain.call()), cni(1, /0\.4\.0/));
  chain.notes();
  await delNetworkList(list, chain.call());
  assert.equal('prevResult' in (chain.notes()[0]?.conf ?? {}), false);
});

test('L12 a plugin gets the capabilities that it declares true and the caller offers, and not the declaration', async () => {
  using chain = three(new Chain());
  const plugin = {
    type: 'a',
    capabilities: { mac: true, ips: false, dns: true, toString: true },
    runtimeConfig: { ips: ['x'] },
  };
  const capabilityArgs = { mac: '02:00:00:00:00:01', ips: ['10.0.0.9'], portMappings: [] };
  await addNetworkList(
    chain.list(conf({ plugins: [plugin, { type: 'b' }] })),
    chain.call({ capabilityArgs }),
  );
  const [a, b] = chain.notes();
  assert.deepEqual(a?.conf['runtimeConfig'], { mac: '02:00:00:00:00:01' });
  assert.equal('capabilities' in (a?.conf ?? {}), false);
  assert.equal('runtimeConfig' in (b?.conf ?? {}), false);
});

test('L13 GC: DEL of what is not valid, then GC with both keys; errors joined', async () => {
  using chain = three(new Chain());
  const list = chain.list(conf({ plugins: [{ type: 'a' }] }));
  const other = chain.list(conf({ name: 'other', plugins: [{ type: 'a' }] }), '20-other.conflist');
  for (const [ifname, containerId] of [
    ['eth0', 'one'],
    ['eth1', 'one'],
    ['eth0', 'two'],
  ] as const) {
    await addNetworkList(list, chain.call({ containerId, ifname, netns: `/run/${containerId}` }));
  }
  await addNetworkList(other, chain.call({ containerId: 'three' }));
  chain.notes();
  const valid = [{ containerId: 'one', ifname: 'eth0' }];
  const { containerId: _, netns: __, ifname: ___, ...options } = chain.call();
  await gcNetworkList(list, { ...options, valid });
  const notes = chain.notes();
  assert.deepEqual(
    notes.map(
      ({ verb, env }) => `${verb} ${env['CNI_CONTAINERID']} ${env['CNI_IFNAME']} ${env['CNI_NETNS']}`,
    ),
    ['DEL one eth1 /run/one', 'DEL two eth0 /run/two', 'GC   '],
  );
  const list1 = [{ containerID: 'one', ifname: 'eth0' }];
  assert.deepEqual(notes[2]?.conf, {
    type: 'a',
    name: 'net',
    cniVersion: '1.1.0',
    'cni.dev/valid-attachments': list1,
    'cni.dev/attachments': list1,
  });
  assert.deepEqual(
    cachedAttachments(chain.cacheDir).map(({ network, containerId }) => `${network} ${containerId}`),
    ['net one', 'other three'],
  );

  chain.fails('a', 'DEL', { code: 100, msg: 'first' }).fails('a', 'GC', { code: 7, msg: 'second' });
  await assert.rejects(gcNetworkList(list, { ...options, valid: [] }), cni(100, /first; second/));
  await assert.rejects(gcNetworkList(list, { ...options, valid: null }), cni(100));
  assert.equal('cni.dev/valid-attachments' in (chain.notes().at(-1)?.conf ?? {}), false);
  await gcNetworkList(chain.list(conf({ disableGC: true })), { ...options, valid: [] });
  assert.deepEqual(chain.calls(), []);
  chain.works('a', 'DEL');
  await gcNetworkList(chain.list(conf({ cniVersion: '1.0.0', plugins: [{ type: 'a' }] })), {
    ...options,
    valid: [],
  });
  assert.deepEqual(chain.calls(), ['a DEL']);
});

test('L14 STATUS: the first error; before 1.1.0 nobody is asked', async () => {
  using chain = three(new Chain()).fails('b', 'STATUS', { code: 50, msg: 'x' });
  await assert.rejects(statusNetworkList(chain.list(conf()), chain.call()), cni(50));
  assert.deepEqual(chain.calls(), ['a STATUS', 'b STATUS']);
  await statusNetworkList(chain.list(conf({ cniVersion: '1.0.0' })), chain.call());
  assert.deepEqual(chain.calls(), []);
});
