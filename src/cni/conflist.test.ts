// The list that is installed: what is chained, in which words it may be asked for, and the versions that all speak.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conflist, parseChain } from './conflist.ts';
import { chainedPlugins } from './runtime/chained.ts';
import { parseNetworkList } from './runtime/index.ts';
import { Chain } from './testing/chain.ts';

const agentSocket = '/run/podway/agent.sock';
const types = (list: { [key: string]: unknown }) =>
  parseNetworkList(JSON.stringify(list)).plugins.map(({ type, capabilities }) => [type, ...capabilities]);

test('alone: both versions are offered, so that STATUS and GC are called by who knows them', () => {
  const list = conflist({ agentSocket, mtu: 1500 });
  assert.deepEqual(types(list), [['podway-cni', 'mac']]);
  assert.deepEqual([list['cniVersion'], list['cniVersions']], ['1.0.0', ['1.0.0', '1.1.0']]);
  assert.equal(parseNetworkList(JSON.stringify(list)).cniVersion, '1.1.0');
});

test('a chain is named, or written out', () => {
  const tuning = { type: 'tuning', sysctl: { 'net.core.somaxconn': '500' } };
  const chain = parseChain(`["portmap", "bandwidth", ${JSON.stringify(tuning)}]`);
  assert.deepEqual(types(conflist({ agentSocket, chain })), [
    ['podway-cni', 'mac'],
    ['portmap', 'portMappings'],
    ['bandwidth', 'bandwidth'],
    ['tuning'],
  ]);
  assert.deepEqual(parseChain('portmap, bandwidth'), chain.slice(0, 2));
  assert.deepEqual([parseChain(''), parseChain('none'), parseChain('[]')], [[], [], []]);
  for (const [text, says] of [
    ['tuning', /has tuning by name: by name there are portmap, bandwidth/],
    ['portmap,portmap', /names portmap twice/],
    ['portmap,', /has "", not the name/],
    ['["../x"]', /has "..\/x", not the name/],
    ['[{"typ":"tuning"}]', /has undefined, not the name/],
    ['[1]', /neither a name nor an object/],
    ['[{"type":"podway-cni"}]', /comes first by itself/],
    ['["a"', /neither names with commas/],
    ['[],"a":[]', /neither names with commas/],
    ['constructor', /has constructor by name/],
  ] as const)
    assert.throws(() => parseChain(text), says, text);
});

test('a list offers what all plugins speak', () => {
  const of = (...versions: string[]) => {
    const { cniVersion, cniVersions } = conflist({ agentSocket, chain: parseChain('portmap'), versions });
    return [cniVersion, cniVersions];
  };
  assert.deepEqual(of('0.4.0', '1.0.0', '1.1.0'), ['1.0.0', ['1.0.0', '1.1.0']]);
  assert.deepEqual(of('0.4.0', '1.0.0'), ['1.0.0', undefined]);
  assert.deepEqual(of('0.3.1', '0.4.0'), ['0.4.0', undefined]);
  assert.throws(() => of('0.1.0'), /portmap speak none of 0\.3\.1, 0\.4\.0, 1\.0\.0, 1\.1\.0/);
});

test('what is chained is what is there; the versions are asked of the binaries', async () => {
  using chain = new Chain();
  const wanted = parseChain('["portmap","bandwidth",{"type":"tuning"}]');
  const ask = () => chainedPlugins(wanted, { binDirs: [chain.binDir] });
  assert.equal((await ask()).versions.at(-1), '1.1.0');
  chain.plugin('portmap', { VERSION: { cniVersion: '1.0.0', supportedVersions: ['0.4.0', '1.0.0'] } });
  const found = await ask();
  assert.deepEqual(
    [found.chain.map(({ type }) => type), found.missing, found.versions],
    [['portmap'], ['bandwidth', 'tuning'], ['0.4.0', '1.0.0']],
  );
  chain.plugin('portmap', {
    VERSION: { cniVersion: '1.1.0', supportedVersions: ['0.4.0', '1.0.0', '1.1.0'] },
  });
  assert.deepEqual((await ask()).versions, ['0.4.0', '1.0.0', '1.1.0']);
  chain.plugin('bandwidth', {}, 'exit 1');
  assert.deepEqual((await ask()).versions, ['0.4.0', '1.0.0']);
});
