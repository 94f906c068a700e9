import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { linkAlias, readAlias } from './alias.ts';
import { hostLinkName } from './marks.ts';

const attachment = {
  network: 'podway',
  containerId: 'c'.repeat(64),
  ifname: 'eth0',
  pod: { namespace: 'default', name: 'web-1' },
  netns: '/run/netns/web 1',
};
const name = hostLinkName(attachment);

test('an alias gives back what was written, and reads well', () => {
  const alias = linkAlias(attachment)!;
  assert.equal(alias, `podway podway ${'c'.repeat(64)} eth0 default/web-1 /run/netns/web 1`);
  assert.deepEqual(readAlias(alias, name), attachment);
});

test('what does not fit 254 bytes is left out from the end', () => {
  const long = {
    ...attachment,
    pod: { namespace: 'n'.repeat(63), name: 'p'.repeat(90) },
    netns: '/n'.repeat(30),
  };
  const { netns: _, ...withoutPath } = long;
  assert.deepEqual(readAlias(linkAlias(long)!, name), withoutPath);
  const longer = { ...attachment, pod: { namespace: 'n', name: 'p'.repeat(253) } };
  const { pod: _pod, netns: _netns, ...bare } = longer;
  assert.deepEqual(readAlias(linkAlias(longer)!, name), bare);
  assert.equal(linkAlias({ ...attachment, containerId: 'c'.repeat(255) }), undefined);
});

test('an attachment without a pod keeps its path', () => {
  const { pod: _, ...bare } = attachment;
  assert.deepEqual(readAlias(linkAlias(bare)!, name), bare);
});

test('what names another attachment, or is cut, or is not ours, says nothing', () => {
  const alias = linkAlias(attachment)!;
  for (const other of [null, '', 'uplink', alias.replace('eth0', 'eth1'), alias.slice(0, 40), `x${alias}`])
    assert.equal(readAlias(other, name), null, String(other));
  fc.assert(fc.property(fc.string({ maxLength: 254 }), (text) => readAlias(text, name) === null));
});
