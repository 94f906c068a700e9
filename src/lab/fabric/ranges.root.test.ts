// Packets to whole ranges: an ENI's /28 prefixes, and another CIDR of the VPC.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { addEni, bench, edit, eniId, SUBNET_A, skipReason, TABLE, threeInstances, VPC } from './testing.ts';

const SUBNET_C = 'subnet-0aaaaaaaaaaaaaa0c';

describe('the fabric carries packets', { skip: skipReason }, () => {
  it('to and from each address of a prefix, as long as the ENI has it', async () => {
    await using lab = bench();
    const before = threeInstances();
    await lab.fabric.apply(before);
    const [first, last, beyond] = ['10.0.0.32', '10.0.0.47', '10.0.0.48'];
    for (const ip of [first, last, beyond]) await lab.sh('b', `ip addr add ${ip}/32 dev eth0`);
    const assigned = edit(before, (state) => {
      state.networkInterfaces[eniId(0x0b)]!.ipv4Prefixes.push('10.0.0.32/28');
    });
    await lab.fabric.apply(assigned);
    for (const ip of [first, last]) {
      assert.equal(await lab.ping('a', ip!, '-c1 -W3'), 1, `${ip} by ARP in the subnet`);
      assert.equal(await lab.ping('c', ip!, '-c1 -W3'), 1, `${ip} by the router`);
      assert.equal(await lab.ping('b', '10.0.0.10', `-c1 -W1 -I ${ip}`), 1, `from ${ip}`);
    }
    const neighbours = await lab.sh('a', 'ip neigh');
    for (const ip of [first, last])
      assert.match(neighbours, new RegExp(`${ip} dev eth0 lladdr 02:00:00:00:00:0b`));
    assert.equal(await lab.ping('a', beyond!), 0, 'an address beyond the prefix');
    assert.equal(await lab.ping('b', '10.0.0.10', `-c1 -W1 -I ${beyond}`), 0, 'from beyond the prefix');
    await lab.fabric.apply(before);
    for (const ip of [first, last]) assert.equal(await lab.ping('a', ip!), 0, `${ip} without the prefix`);
  });

  it('between the CIDRs of a VPC, from when one comes until it goes', async () => {
    await using lab = bench();
    const before = threeInstances();
    await lab.fabric.apply(before);
    const second = edit(before, (state) => {
      state.vpcs[VPC]!.cidrs.push({ cidr: '100.64.0.0/16', associationId: 'b' });
      state.routeTables[TABLE]!.routes.push({ destination: '100.64.0.0/16', target: { kind: 'local' } });
      const subnet = { ...state.subnets[SUBNET_A]!, id: SUBNET_C, cidr: '100.64.0.0/24' };
      state.subnets[SUBNET_C] = subnet;
      const eni = addEni(state, 0x77, {
        ips: ['100.64.0.10'],
        subnetId: SUBNET_C,
        instance: state.networkInterfaces[eniId(0x0b)]!.attachment!.instanceId,
        deviceIndex: 1,
      });
      eni.ipv4Prefixes.push('100.64.0.32/28');
    });
    await lab.fabric.apply(second);
    await lab.linkUp('b', 'eth1');
    await lab.sh(
      'b',
      'ip addr add 100.64.0.10/24 dev eth1 && ip addr add 100.64.0.33/32 dev lo && ' +
        'ip rule add from 100.64.0.0/16 table 7 && ip route add default via 100.64.0.1 dev eth1 onlink table 7',
    );
    for (const ip of ['100.64.0.10', '100.64.0.33']) {
      assert.equal(await lab.ping('a', ip, '-c1 -W3'), 1, `to ${ip}`);
      assert.equal(await lab.ping('b', '10.0.32.10', `-c1 -W3 -I ${ip}`), 1, `from ${ip}`);
    }
    await lab.fabric.apply(before);
    assert.equal(await lab.ping('a', '100.64.0.10'), 0);
    assert.equal(await lab.ping('a', '10.0.0.11'), 1);
  });
});
