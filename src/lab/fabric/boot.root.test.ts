// A stop and start, a reboot, and another instance of the same name: the namespace is a new one with nothing in it but
// what a cloud image brings up, whatever was done in the old one; neighbours see nothing of it.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { listNetns, NETNS_DIR, openNetns } from '../../kernel/netns.ts';
import type { VpcState } from '../vpc/model.ts';
import {
  addEni,
  addInstance,
  type Bench,
  bench,
  edit,
  eniId,
  skipReason,
  threeInstances,
} from './testing.ts';

const DIRT = [
  'ip link set eth1 up && ip addr add 10.0.0.20/32 dev eth1 && ip addr add 10.0.0.99/32 dev lo',
  'ip rule add from 10.0.0.20 table 1001 && ip route add default via 10.0.0.1 dev eth1 onlink table 1001',
  'nft add table inet podway && echo 1 >/proc/sys/net/ipv4/ip_forward',
  'ip link set eth0 down && ip link set eth0 name uplink && ip link add pw1 type veth peer name other',
].join(' && ');

/** Everything that a guest could have changed. */
const look = (lab: Bench, where: string) =>
  lab.sh(
    where,
    'ip -o -4 addr | sed "s/ *valid_lft.*//"; ip -o link | sed "s/@[^:]*//; s/^[0-9]*: //; s/qlen.*//; s/link-netnsid.*//; s/ alias.*//"; ip rule; ip -4 route show table all; nft list ruleset; cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/all/rp_filter',
  );
const inode = (lab: Bench, where: string) => lab.sh(where, 'stat -Lc %i /proc/self/ns/net');

const withSecond = (): VpcState =>
  edit(threeInstances(), (state) => {
    addEni(state, 0x1a, { ips: ['10.0.0.20'], instance: 'i-a', deviceIndex: 1 });
  });

describe('an instance boots into an empty namespace', { skip: skipReason }, () => {
  const reboot = (state: VpcState) =>
    edit(state, (copy) => void Object.assign(copy.instances['i-a']!, { rebootedAt: 7 }));

  it('when it is rebooted, and the others do not notice', async () => {
    await using lab = bench();
    const state = withSecond();
    await lab.fabric.apply(state);
    const [fresh, before, other] = [await look(lab, 'a'), await inode(lab, 'a'), await inode(lab, 'b')];
    assert.match(fresh, /eth0 +inet 10\.0\.0\.10\/19/);
    assert.match(fresh, /eth1: <BROADCAST,MULTICAST>/, 'an ENI that nobody has set up');
    await lab.serve('c', 8080);
    const flow = await lab.stream('b', '10.0.32.10', 8080);
    // Held open, its number is not given to another namespace.
    using _old = openNetns(`${NETNS_DIR}/${lab.fabric.netnsOf('a')}`);
    await lab.sh('a', DIRT);
    assert.notEqual(await look(lab, 'a'), fresh);
    await lab.fabric.apply(reboot(state));
    assert.equal(await look(lab, 'a'), fresh);
    assert.notEqual(await inode(lab, 'a'), before);
    assert.equal(await inode(lab, 'b'), other);
    assert.equal(await lab.ping('b', '10.0.0.10'), 1);
    assert.match((await flow.echo('still')) ?? '', /still$/);
  });

  it('when it is stopped and started; between the two there is none', async () => {
    await using lab = bench();
    const state = withSecond();
    const put = (change: (state: VpcState) => void) => lab.fabric.apply(edit(state, change));
    await lab.fabric.apply(state);
    const fresh = await look(lab, 'a');
    await lab.sh('a', DIRT);
    await put((copy) => void Object.assign(copy.instances['i-a']!, { state: 'stopped' }));
    assert.equal(listNetns().includes(lab.fabric.netnsOf('a')), false);
    assert.equal(await lab.ping('b', '10.0.0.10'), 0);
    await put((copy) => void Object.assign(copy.instances['i-a']!, { state: 'running', launchTime: 9 }));
    assert.equal(await look(lab, 'a'), fresh);
    assert.equal(await lab.ping('b', '10.0.0.10'), 1);
  });

  it('when another takes its name before anybody looked', async () => {
    await using lab = bench();
    const state = threeInstances();
    await lab.fabric.apply(state);
    await lab.sh('a', 'nft add table inet podway');
    await lab.fabric.apply(
      edit(state, (copy) => {
        copy.instances['i-a']!.state = 'terminated';
        delete copy.networkInterfaces[eniId(0x0a)];
        copy.instances['i-z'] = { ...addInstance(copy, 'z', 0x0f, { ips: ['10.0.0.40'] }), name: 'a' };
      }),
    );
    assert.equal(await lab.sh('a', 'nft list ruleset'), '');
    assert.match(await lab.sh('a', 'ip -br addr show eth0'), /10\.0\.0\.40/);
  });

  it('when the process that was to see to it was killed and its successor finds the life over', async () => {
    await using lab = bench();
    const state = withSecond();
    await lab.fabric.apply(state);
    const fresh = await look(lab, 'a');
    await lab.sh('a', DIRT);
    await lab.fabric.close();
    await using successor = bench({ lab: lab.lab, dir: lab.dir });
    await successor.fabric.apply(reboot(state));
    assert.equal(await look(successor, 'a'), fresh);
    assert.equal(await successor.ping('b', '10.0.0.10'), 1);
  });
});
