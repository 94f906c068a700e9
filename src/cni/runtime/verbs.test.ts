// Verbs over lists of plugins (L06 to L22 of the CNI facts), with plugins that note what they were given.
import assert from 'node:assert/strict';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CniError } from '../errors.ts';
import { Chain } from '../testing/chain.ts';
import { FakeAgent, shim } from '../testing/shim.ts';
import type { JsonObject } from '../types.ts';
import {
  addNetworkList,
  cachedAttachments,
  checkNetworkList,
  delNetworkList,
  findPlugin,
  gcNetworkList,
  statusNetworkList,
  validateNetworkList,
  versionOf,
} from './index.ts';

const result = (n: number, version = '1.1.0') => ({
  cniVersion: version,
  ips: [{ address: `10.0.0.${n}/32` }],
});
const conf = (more: object = {}) => ({
  cniVersion: '1.1.0',
  name: 'net',
  plugins: [{ type: 'a', key: 1 }, { type: 'b' }, { type: 'c' }],
  ...more,
});
const three = (chain: Chain) =>
  chain
    .plugin('a', { ADD: result(1) })
    .plugin('b', { ADD: result(2) })
    .plugin('c', { ADD: result(3) });
const cni =
  (code: number, says = /./) =>
  (error: unknown) => {
    assert.ok(error instanceof CniError, String(error));
    assert.equal(error.code, code, error.msg);
    assert.match(error.msg, says);
    return true;
  };

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

test('L15 plugins are found in the order of the path, never by a path of their own', async () => {
  using chain = three(new Chain());
  const second = join(chain.dir, 'second');
  mkdirSync(join(second, 'a'), { recursive: true });
  assert.equal(findPlugin('a', [second, '', chain.binDir]), join(chain.binDir, 'a'));
  for (const type of ['missing', '/bin/sh', '../bin/a', '..', '']) {
    assert.throws(() => findPlugin(type, [chain.binDir]), cni(7, /failed to find plugin|must not be a path/));
  }
  await assert.rejects(
    addNetworkList(chain.list(conf({ plugins: [{ type: 'zz' }] })), chain.call()),
    cni(7, /failed to find plugin "zz"/),
  );
});

test('L16 garbage, exit 1 with and without JSON, exit 0 without output', async () => {
  using chain = new Chain();
  const outcome = async (script: string) => {
    chain.plugin('a', {}, script);
    await addNetworkList(chain.list(conf({ plugins: [{ type: 'a' }] })), chain.call());
  };
  await assert.rejects(outcome('echo garbage; exit 0'), cni(6, /garbage/));
  await assert.rejects(outcome('echo "[]"; exit 0'), cni(6));
  await assert.rejects(outcome('exit 0'), cni(6, /nothing/));
  await assert.rejects(outcome(`echo '{"code":7,"msg":"m"}'; exit 1`), cni(7, /^m$/));
  await assert.rejects(outcome(`echo '{"x":7}'; exit 1`), cni(999, /no CNI error/));
  await assert.rejects(outcome('echo garbage; exit 3'), cni(999, /exit status 3.*garbage/));
  await assert.rejects(outcome('echo why >&2; exit 1'), cni(999, /why/));
  await assert.rejects(outcome('exit 1'), cni(999, /exit status 1/));
  await assert.rejects(outcome('kill -9 $$'), cni(999, /SIGKILL/));
  await assert.rejects(outcome('exec head -c 5000000 /dev/zero'), cni(6, /more than/));
});

test('L17 a plugin that takes too long dies with its children; so it does when the caller gives up', async () => {
  using chain = new Chain();
  const pids = join(chain.dir, 'pids');
  chain.plugin(
    'a',
    { ADD: result(1) },
    `[ -f "${chain.dir}/slow" ] && { sleep 60 & echo $$ $! > ${pids}; wait; }`,
  );
  const list = chain.list(conf({ plugins: [{ type: 'a' }] }));
  await addNetworkList(list, chain.call());
  writeFileSync(join(chain.dir, 'slow'), '');
  const gone = async () => {
    for (const pid of readFileSync(pids, 'utf8').trim().split(' ')) {
      const alive = () =>
        existsSync(`/proc/${pid}`) && !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
      for (const deadline = Date.now() + 5000; alive(); ) {
        assert.ok(Date.now() < deadline, `${pid} lives`);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
  };
  const call = chain.call({ timeoutMs: 300 });
  for (const run of [
    () => addNetworkList(list, call),
    () => delNetworkList(list, call),
    () => checkNetworkList(list, call),
    () => statusNetworkList(list, call),
    () => versionOf('a', call),
  ]) {
    await assert.rejects(run(), cni(11, /within 300 ms/));
    await gone();
  }
  const controller = new AbortController();
  const reason = new Error('given up');
  setTimeout(() => controller.abort(reason), 100);
  await assert.rejects(
    addNetworkList(list, chain.call({ signal: controller.signal })),
    (error) => error === reason,
  );
});

test('L18 a binary that is being written is tried again', async () => {
  using chain = new Chain();
  const file = join(chain.binDir, 'a');
  chmodSync(chain.plugin('a').binDir, 0o755);
  writeFileSync(file, readFileSync('/bin/true'));
  const writing = openSync(file, 'r+');
  const timer = setTimeout(() => closeSync(writing), 300);
  await delNetworkList(chain.list(conf({ plugins: [{ type: 'a' }] })), chain.call());
  clearTimeout(timer);
});

test('L19 names are checked before anything runs', async () => {
  using chain = three(new Chain());
  const list = chain.list(conf());
  for (const more of [
    { containerId: '../x' },
    { containerId: '' },
    { ifname: 'a/b' },
    { ifname: '' },
    { netns: '' },
    { netns: 'x' },
  ]) {
    await assert.rejects(addNetworkList(list, chain.call(more)), cni(4));
  }
  await assert.rejects(delNetworkList(list, chain.call({ containerId: 'a b' })), cni(4));
  await assert.rejects(addNetworkList(chain.list(conf({ name: 'a/b' })), chain.call()), cni(7));
  assert.deepEqual(chain.calls(), []);
});

test('L20 VERSION: what the plugin says, 0.1.0 for one that knows no VERSION', async () => {
  using chain = new Chain();
  chain.plugin('a', { VERSION: { cniVersion: '1.0.0', supportedVersions: ['0.4.0', '1.0.0'] } });
  assert.deepEqual(await versionOf('a', chain.call()), ['0.4.0', '1.0.0']);
  assert.equal(chain.notes()[0]?.conf['cniVersion'], '1.1.0');
  chain.fails('a', 'VERSION', { code: 4, msg: 'unknown CNI_COMMAND: VERSION' });
  assert.deepEqual(await versionOf('a', chain.call()), ['0.1.0']);
  chain.fails('a', 'VERSION', { code: 4, msg: 'other' });
  await assert.rejects(versionOf('a', chain.call()), cni(4));
});

test('L21 attachments of the cache; the older format is a bare result', async () => {
  using chain = three(new Chain());
  const list = chain.list(conf());
  await addNetworkList(list, chain.call());
  writeFileSync(chain.cached('net-old-eth0'), JSON.stringify(result(9, '1.0.0')));
  writeFileSync(chain.cached('garbage'), '{');
  assert.deepEqual(
    cachedAttachments(chain.cacheDir, { network: 'net' }).map(({ containerId }) => containerId),
    ['abc'],
  );
  assert.deepEqual(cachedAttachments(chain.cacheDir, { containerId: 'zz' }), []);
  assert.deepEqual(cachedAttachments(join(chain.dir, 'nowhere')), []);
  chain.notes();
  await delNetworkList(list, chain.call({ containerId: 'old' }));
  assert.deepEqual(chain.notes()[0]?.conf['prevResult'], result(9));
  assert.equal(chain.isCached('net-old-eth0'), false);
});

test('L22 a list is judged before use', async () => {
  using chain = new Chain().plugin('a', { VERSION: { cniVersion: '1.0.0', supportedVersions: ['1.0.0'] } });
  const errors = await validateNetworkList(
    chain.list(conf({ plugins: [{ type: 'a' }, { type: 'zz' }] })),
    chain.call(),
  );
  assert.deepEqual(
    errors.map(({ code }) => code),
    [1, 7],
  );
  assert.deepEqual(
    await validateNetworkList(
      chain.list(conf({ cniVersion: '1.0.0', plugins: [{ type: 'a' }] })),
      chain.call(),
    ),
    [],
  );
});

test('the compiled plugin behind the runtime: all verbs, and one fork in another place', async () => {
  const agent = new FakeAgent();
  using chain = new Chain();
  try {
    await agent.listen();
    writeFileSync(join(chain.binDir, 'podway-cni'), readFileSync(await shim()), { mode: 0o755 });
    const plugin = { type: 'podway-cni', agentSocket: agent.socketPath, capabilities: { mac: true } };
    const list = chain.list(conf({ plugins: [plugin] }));
    let entered = 0;
    const call = chain.call({
      netns: '/run/netns/none',
      enter: (start) => {
        entered++;
        return start();
      },
    });
    const added = await addNetworkList(list, { ...call, capabilityArgs: { mac: '02:00:00:00:00:07' } });
    assert.deepEqual(added.result.ips, [{ address: '10.0.0.5/32', gateway: '169.254.1.1', interface: 1 }]);
    const [first] = agent.requests;
    assert.ok(first?.verb === 'ADD' && first.conf.wishes.mac === '02:00:00:00:00:07');
    await checkNetworkList(list, call);
    await statusNetworkList(list, call);
    await gcNetworkList(list, { ...call, valid: [{ containerId: 'abc', ifname: 'eth0' }] });
    await assert.rejects(
      gcNetworkList({ ...list, name: 'net2' }, { ...call, valid: null }),
      cni(7, /valid-attachments/),
    );
    await delNetworkList(list, call);
    assert.deepEqual(await validateNetworkList(list, call), []);
    assert.deepEqual(
      agent.requests.map(({ verb }) => verb),
      ['ADD', 'CHECK', 'STATUS', 'GC', 'DEL'],
    );
    assert.equal(entered, 7);
  } finally {
    agent.close();
  }
});
