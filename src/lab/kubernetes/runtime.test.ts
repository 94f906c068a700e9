import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cgroupMounts } from './cgroups.ts';
import { hasCapability, majorOf } from './runtime.ts';

test("containerd's major version, from a package's words and from a plain build's", () => {
  for (const [text, major] of [
    ['containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3', 1],
    ['containerd github.com/containerd/containerd/v2 v2.4.2 abcdef', 2],
    ['containerd github.com/containerd/containerd/v2 (devel)', 2],
    ['containerd 3', undefined],
  ] as const)
    assert.equal(majorOf(text), major);
});

test('CAP_SYS_RESOURCE is bit 24 of the effective set', () => {
  assert.equal(hasCapability('CapEff:\t000001fffeffffff\n', 24n), false);
  assert.equal(hasCapability('CapEff:\t000001ffffffffff\n', 24n), true);
});

test('hierarchies of v1, v2 and both are found where they are mounted', () => {
  const text = `31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`;
  assert.deepEqual(cgroupMounts(text), ['/sys/fs/cgroup/cpu', '/sys/fs/cgroup/unified']);
});
