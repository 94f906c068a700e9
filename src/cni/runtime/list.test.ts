// Loading lists (L01 to L05 of the CNI facts).
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Chain } from '../testing/chain.ts';
import { ListError, loadNetworkList, parseNetworkList } from './list.ts';

const plugins = [{ type: 'p' }];

test('L01 the first file in lexical order that can be run; what cannot is named', () => {
  using chain = new Chain();
  chain.file('00-bad.conflist', '{');
  chain.file('05-none.conflist', { name: 'none' });
  chain.file('30-c.conflist', { name: 'c', plugins });
  chain.file('20-b.conf', { name: 'b', type: 'single', cniVersion: '0.4.0' });
  chain.file('15-a.txt', { name: 'a', plugins });
  chain.file('40-d.json', { name: 'd', type: 'single' });
  const list = loadNetworkList(chain.confDir);
  assert.equal(list.name, 'b');
  assert.equal(list.cniVersion, '0.4.0');
  assert.deepEqual(
    list.plugins.map(({ type }) => type),
    ['single'],
  );
  assert.deepEqual(
    list.skipped.map(({ message }) => /[0-9]{2}-[a-z]+/.exec(message)?.[0]),
    ['00-bad', '05-none'],
  );
  assert.equal(loadNetworkList(chain.confDir, { name: 'd' }).name, 'd');
  assert.throws(() => loadNetworkList(chain.confDir, { name: 'zz' }), /named zz.*00-bad/);
});

test('L01 no directory, no file, nothing usable: an error', () => {
  using chain = new Chain();
  assert.throws(() => loadNetworkList(chain.confDir), ListError);
  assert.throws(() => loadNetworkList(`${chain.dir}/nowhere`), ListError);
  assert.throws(() => loadNetworkList(chain.file('x.conf', { name: 'x' })), /no type/);
  for (const [text, says] of [
    ['[]', /object/],
    ['{"plugins":[{"type":"p"}]}', /name/],
    ['{"name":7,"plugins":[{"type":"p"}]}', /name/],
    ['{"name":"n","plugins":[]}', /plugin/],
    ['{"name":"n","plugins":{}}', /plugin/],
    ['{"name":"n","plugins":[7]}', /plugins\[0\]/],
    ['{"name":"n","plugins":[{"type":""}]}', /type/],
    ['{"name":"n","plugins":[{"type":"p"}],"disableCheck":"x"}', /disableCheck/],
    ['{"name":"n","plugins":[{"type":"p"}],"disableGC":1}', /disableGC/],
  ] as const) {
    assert.throws(
      () => parseNetworkList(text),
      (error) => error instanceof ListError && says.test(error.message),
      text,
    );
  }
});

test('L02 plugins of the sibling directory come after the inlined ones', () => {
  using chain = new Chain();
  chain.file('net/20-z.conf', { type: 'z' });
  chain.file('net/10-y.conf', { type: 'y' });
  chain.file('net/30-x.json', { type: 'x' });
  const types = (conf: object) => chain.list({ name: 'net', ...conf }).plugins.map(({ type }) => type);
  assert.deepEqual(types({ plugins }), ['p', 'y', 'z']);
  assert.deepEqual(types({}), ['y', 'z']);
  assert.deepEqual(types({ plugins, loadOnlyInlinedPlugins: 'False' }), ['p', 'y', 'z']);
  assert.deepEqual(types({ plugins, loadOnlyInlinedPlugins: true }), ['p']);
  assert.deepEqual(types({ plugins, loadOnlyInlinedPlugins: 'true' }), ['p']);
  assert.throws(() => types({ plugins, loadOnlyInlinedPlugins: 'x' }), /loadOnlyInlinedPlugins/);
  assert.throws(() => types({ loadOnlyInlinedPlugins: true }), /loadOnlyInlinedPlugins/);
  chain.file('net/40-bad.conf', '{');
  assert.throws(() => types({ plugins }), /40-bad/);
});

test('L03, L04, L05 the greatest common version', () => {
  const chosen = (versions: object, maxVersion?: string) =>
    parseNetworkList(JSON.stringify({ name: 'n', plugins, ...versions }), maxVersion ? { maxVersion } : {})
      .cniVersion;
  assert.equal(chosen({}), '0.1.0');
  assert.equal(chosen({ cniVersion: '0.4.0' }), '0.4.0');
  assert.equal(chosen({ cniVersion: '1.0.0', cniVersions: ['1.0.0', '1.1.0'] }), '1.1.0');
  assert.equal(chosen({ cniVersion: '1.0.0', cniVersions: ['1.0.0', '1.1.0'] }, '1.0.0'), '1.0.0');
  assert.equal(chosen({ cniVersions: ['0.3.0', '0.3.1', '0.3.1', '9.0.0'] }), '0.3.1');
  assert.equal(chosen({ cniVersion: '9.0.0', cniVersions: ['0.2.0'] }), '0.2.0');
  assert.throws(() => chosen({ cniVersions: ['9.0.0', '2.0.0'] }), /9\.0\.0, 2\.0\.0/);
  assert.throws(() => chosen({ cniVersion: '9.0.0' }), ListError);
  for (const bad of [
    { cniVersions: ['x'] },
    { cniVersions: [1] },
    { cniVersions: 'x' },
    { cniVersion: 1 },
    { cniVersion: 'v1' },
  ]) {
    assert.throws(() => chosen(bad), ListError);
  }
});
