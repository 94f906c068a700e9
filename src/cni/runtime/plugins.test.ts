// How plugins are found, run, ended and judged (L15 to L22 of the CNI facts), and the compiled one behind the runtime.
import assert from 'node:assert/strict';
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Chain } from '../testing/chain.ts';
import { cni, conf, result, three } from '../testing/lists.ts';
import { FakeAgent, shim } from '../testing/shim.ts';
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
      for (const deadline = Date.now() + 30_000; alive(); ) {
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
