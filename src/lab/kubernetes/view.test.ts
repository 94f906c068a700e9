import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labPaths } from '../daemon/paths.ts';
import { realNodePaths } from './layout.ts';
import { bindingsOf, presentParent, shadowedFolders, viewScript } from './view.ts';

const paths = realNodePaths(labPaths('one'), 'node-1');
const has =
  (...present: string[]) =>
  (path: string) =>
    present.includes(path);

test('the deepest present folder on the way to a path', () => {
  const exists = has('/', '/etc', '/var', '/var/lib');
  for (const [path, parent] of [
    ['/etc/cni/net.d', '/etc'],
    ['/var/lib/kubelet', '/var/lib'],
    ['/opt/cni/bin', '/'],
    ['/etc', '/etc'],
  ])
    assert.equal(presentParent(path!, exists), parent);
});

test('a folder is shadowed once, and only when the machine lacks what a node needs below it', () => {
  const all = bindingsOf(paths).map(({ to }) => to);
  assert.deepEqual(shadowedFolders(bindingsOf(paths), has(...all)), []);
  const some = has('/', '/etc', '/run', '/run/podway', '/run/netns', '/var', '/var/lib', '/var/log', '/opt');
  assert.deepEqual(shadowedFolders(bindingsOf(paths), some), ['/etc', '/opt', '/run', '/var/lib']);
});

test('the lab folder is hidden last, and the script ends as the holder of the view', () => {
  const lines = viewScript(paths, { node: 'node-1', exists: () => true, sysctls: ['kernel/panic'] })
    .trim()
    .split('\n');
  const binds = lines.filter((line) => line.startsWith('mount -n --bind'));
  assert.equal(binds.at(-1), `mount -n --bind '${paths.run}' '/run/podway'`);
  assert.ok(binds.includes(`mount -n --bind '${paths.sysctl}/kernel/panic' '/proc/sys/kernel/panic'`));
  assert.equal(lines[2], 'mount -n --make-rprivate /');
  assert.equal(lines.at(-1), 'exec sleep infinity');
  assert.ok(!lines.some((line) => line.includes('tmpfs')));
});
