// Whose address the internet sees of pods, by the routes of their node's subnet.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addInstance, GATEWAY, SUBNET_A, smallVpc, TABLE, VPC } from '../fabric/testing.ts';
import type { NatGateway, RouteTarget } from '../vpc/model.ts';
import type { NodeView } from './protocol.ts';
import { waysOut } from './ways-out.ts';

const node = { instanceId: 'i-a', publicIps: ['198.18.0.1'] } as NodeView;
const NAT = 'nat-0aaaaaaaaaaaaaaaa';

function out(routes: [string, RouteTarget][], state: NatGateway['state'] = 'available', dns64 = true) {
  const vpc = smallVpc();
  addInstance(vpc, 'a', 0x0a, { ips: ['10.0.0.10'] });
  vpc.subnets[SUBNET_A]!.enableDns64 = dns64;
  vpc.natGateways[NAT] = {
    id: NAT,
    vpcId: VPC,
    subnetId: SUBNET_A,
    connectivity: 'public',
    state,
    publicIp: '198.18.0.9',
    createTime: 0,
    tags: {},
  };
  vpc.routeTables[TABLE]!.routes = routes.map(([destination, target]) => ({ destination, target }));
  return waysOut(vpc, 'node');
}
const byNat = { kind: 'nat-gateway', id: NAT } as const;
const byInternet = { kind: 'internet-gateway', id: GATEWAY } as const;

test('IPv4 is seen as the NAT gateway where the subnet leads to one that is there', () => {
  assert.equal(out([['0.0.0.0/0', byInternet]]).seenOf(node), '198.18.0.1');
  assert.equal(out([['0.0.0.0/0', byNat]]).seenOf(node), '198.18.0.9');
  assert.equal(out([['0.0.0.0/0', byNat]], 'pending').seenOf(node), undefined);
});

test('pods of IPv6 alone go by NAT64 where there is DNS64 too, else with the node', () => {
  const nat64: [string, RouteTarget][] = [['64:ff9b::/96', byNat]];
  const byName = { address: 'ipv4.internet.podway.test', seen: '198.18.0.9' };
  const withNode = { address: '203.0.113.10', seen: '198.18.0.1' };
  assert.deepEqual(out(nat64).toIpv4(node), byName);
  assert.equal(out(nat64, 'deleting').toIpv4(node), undefined);
  assert.deepEqual(out(nat64, 'available', false).toIpv4(node), withNode);
  assert.deepEqual(out([['0.0.0.0/0', byInternet]]).toIpv4(node), withNode);
  assert.equal(out(nat64).leadsOut6(node), false);
  assert.equal(out([['::/0', byInternet]]).leadsOut6(node), true);
});
