// What others do to a node of a lab, with the agent as it runs: put right at once, told where it cannot be, and kept small.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CoreV1Api } from '@kubernetes/client-node';
import type { PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { AT_ONCE_MS, type Damage, testDamages } from './damages.ts';
import { assertAnswer, downAll, Lab } from './lab.ts';

/** Settings without a kernel notification are compared every five seconds, and everything after thirty. */
const SILENT_MS = 25_000;
/** Enough free addresses for a second ENI. */
const lab = new Lab('repair', ['--nodes', '1', '--set', 'cooldown=0s', '--set', 'warm=14']);
let a: PodView;
let b: PodView;

const onNode = (...command: string[]) => lab.ok('lab', 'exec', 'node-1', '--', ...command);
const eth1 = async () => (await lab.ipam('node-1')).enis.find((eni) => eni.deviceIndex === 1);
const reach = async () => {
  for (const [from, to] of [
    ['a', b],
    ['b', a],
  ] as const)
    assertAnswer(
      await lab.askFrom(from, 'tcp', to.ips[0]!, '8080'),
      `${to.name} ${(from === 'a' ? a : b).ips[0]}`,
    );
};
const eventOf = (pod: string, reason: string) =>
  eventually(`the Event ${reason} of ${pod}`, async () => {
    const api = (await lab.kube()).makeApiClient(CoreV1Api);
    const { items } = await api.listNamespacedEvent({ namespace: 'default' });
    return items.find((event) => event.involvedObject.name === pod && event.reason === reason);
  });

before(async () => {
  if (skip) return;
  await lab.up();
  [a, b] = await Promise.all([lab.run('a'), lab.run('b')]);
  await eventually('a second ENI', async () => (await eth1())?.ifname === 'eth1');
});
after(() => (skip ? undefined : downAll([lab])));

const damages: Damage[] = [
  ['all rules', 'ip rule flush', 'ip rule | grep -q "lookup 20480" && ip rule | grep -q "32766:.*main"'],
  ['the nft ruleset', 'nft flush ruleset', 'nft list table inet podway | grep -q ways'],
  ['the pods’ routes', 'ip route flush table 20480', 'test "$(ip route show table 20480 | wc -l)" = 2'],
  ['an ENI set down', 'ip link set eth1 down', 'ip route show table 20481 | grep -q default'],
  ['forwarding', 'echo 0 > /proc/sys/net/ipv4/ip_forward', 'grep -q 1 /proc/sys/net/ipv4/ip_forward'],
];
testDamages(lab, damages, reach);

test('put right within seconds: a setting that nobody tells of', { skip }, async () => {
  const key = '/proc/sys/net/ipv4/conf/eth1/arp_ignore';
  await onNode('sh', '-c', `echo 0 > ${key}`);
  await eventually('it is back', async () => (await onNode('cat', key)).trim() === '1', SILENT_MS);
});

test('a pod’s deleted link is made again, and the pod is told', { skip }, async () => {
  const route = await onNode('ip', 'route', 'show', 'table', '20480', `${a.ips[0]}/32`);
  await onNode('ip', 'link', 'del', /dev (\S+)/.exec(route)![1]!);
  await eventually('a has its network', () => reach().then(() => true), AT_ONCE_MS);
  const event = await eventOf('a', 'LinkRestored');
  assert.match(event.message ?? '', /was deleted and made again, with the same address/);
});

test('a pod’s address on lo is removed; a free one on eth0 is not given out', { skip }, async () => {
  await onNode('ip', 'addr', 'add', `${a.ips[0]}/32`, 'dev', 'lo');
  const addresses = () => onNode('ip', '-4', 'addr', 'show', 'dev', 'lo');
  await eventually('it is gone', async () => !(await addresses()).includes(a.ips[0]!), AT_ONCE_MS);
  await reach();
  const free = async () =>
    (await lab.ipam('node-1')).enis[0]!.addresses.find((one) => one.state === 'free')!.ip;
  const ip = await free();
  await onNode('ip', 'addr', 'add', `${ip}/32`, 'dev', 'eth0');
  const state = async () => (await lab.ipam('node-1')).enis[0]!.addresses.find((one) => one.ip === ip);
  await eventually('it is kept', async () => (await state())?.state === 'quarantined', AT_ONCE_MS);
  assert.equal((await state())?.reason, 'it is on eth0 of the node');
  await onNode('ip', 'addr', 'del', `${ip}/32`, 'dev', 'eth0');
  await eventually('it is free', async () => (await state())?.state === 'free', AT_ONCE_MS);
});

test('an ENI whose link has another MAC address costs its own addresses only', { skip }, async () => {
  const eni = (await eth1())!;
  const setMac = (mac: string) =>
    onNode('sh', '-c', `ip link set eth1 down; ip link set eth1 address ${mac}; ip link set eth1 up`);
  await setMac('02:00:00:00:99:99');
  await eventually('it has no link', async () => (await eth1())?.ifname === null, AT_ONCE_MS);
  assert.match(await lab.ok('ipam', 'show'), /no link/);
  assert.equal((await lab.status()).nodes[0]!.ready, true);
  const c = await lab.run('c');
  assert.ok(!eni.addresses.some((address) => address.ip === c.ips[0]), `${c.ips[0]} is of ${eni.id}`);
  await setMac(eni.mac);
  await eventually('it has its link', async () => (await eth1())?.ifname === 'eth1', AT_ONCE_MS);
  await lab.delete('c');
  await lab.agreed();
});
