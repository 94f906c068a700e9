// Which notifications concern us, from values alone.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCidr, parseIp } from '../base/ip.ts';
import { parseMac } from '../base/mac.ts';
import type { KernelEvent } from '../kernel/monitor.ts';
import type { Address, Link, Neighbour, Route, Rule } from '../kernel/rtnetlink.ts';
import type { Branch } from './branch.ts';
import { concernOf } from './concern.ts';
import { branchTableOf, GROUP_BRANCHES, GROUP_PODS, standInIndex } from './marks.ts';
import { eni0, eni1, nodeState } from './testing.ts';

const POD = 'pw0123456789ab';
const known = {
  node: nodeState(),
  pods: new Map([[POD, { hostIfname: POD, ips: [parseIp('10.0.0.120')], eni: eni1 }]]),
  eniLinks: new Map([
    [2, { key: '0/0', name: 'eth0' }],
    [3, { key: '0/1', name: 'eth1' }],
  ]),
  podLinks: new Map([[9, { name: POD, mac: null }]]),
  standIns: new Set([standInIndex(7)]),
};
const concern = (event: KernelEvent) => concernOf(event, known);

const link = (over: Partial<Link>, change: 'new' | 'del' = 'new') =>
  concern({
    kind: 'link',
    change,
    link: { index: 9, name: POD, mac: null, mtu: 9001, up: true, group: GROUP_PODS, ...over } as Link,
  });
const eth1 = { index: 3, name: 'eth1', mac: eni1.mac, group: 0 };
const eth0 = { index: 2, name: 'eth0', mac: eni0.mac, group: 0 };
const address = (text: string, over: Partial<Address> = {}, change: 'new' | 'del' = 'new') =>
  concern({
    kind: 'address',
    change,
    address: {
      index: 1,
      ip: parseIp(text),
      length: 32,
      scope: 0,
      noPrefixRoute: false,
      secondary: false,
      ...over,
    },
  });
const rule = (over: Partial<Rule>, change: 'new' | 'del' = 'new') =>
  concern({
    kind: 'rule',
    change,
    rule: { family: 4, priority: 100, table: 100, protocol: 3, ...over } as Rule,
  });
const netconf = (over: { index: number; forwarding?: number; rpFilter?: number }) =>
  concern({ kind: 'netconf', netconf: { family: 4, ...over } });
const neighbour = (over: Partial<Neighbour>) =>
  concern({
    kind: 'neighbour',
    change: 'new',
    neighbour: {
      index: 9,
      ip: parseIp('10.0.0.120'),
      mac: null,
      state: 'permanent',
      proxy: false,
      extLearn: false,
      ...over,
    },
  });

describe('a notification concerns us', () => {
  it('pods’ links: down, gone, in another group, renamed; not while they are made', () => {
    assert.equal(link({}), null);
    assert.equal(link({ up: false }), 'links');
    assert.equal(link({ group: 0 }), 'links');
    assert.equal(link({ mac: parseMac('02:00:00:00:00:99') }), 'links');
    assert.equal(link({}, 'del'), 'links');
    assert.equal(link({ name: 'mine' }), 'links');
    assert.equal(link({ index: 77, up: false }), null, 'one that has not been up yet');
    assert.equal(link({ index: 77, name: 'pwffffffffffff', up: false }, 'del'), null, 'nobody’s');
  });

  it('stand-ins: down or gone while a branch needs them; not while they are made, or when the branch has gone first', () => {
    const branch = { vlan: 7 } as Branch;
    const standIn = (vlan: number, over: Partial<Link>, change?: 'del', branches = [branch]) =>
      concernOf(
        {
          kind: 'link',
          change: change ?? 'new',
          link: { index: standInIndex(vlan), name: `pwv${vlan}`, group: GROUP_BRANCHES, ...over } as Link,
        },
        { ...known, node: { ...known.node, branches } },
      );
    assert.equal(standIn(7, { up: true }), null);
    assert.equal(standIn(7, { up: false }), 'links');
    assert.equal(standIn(7, {}, 'del'), 'links');
    assert.equal(standIn(7, { name: 'pwv7x', index: 99, up: false }), null, 'one that has not been up yet');
    assert.equal(standIn(7, { name: 'pwv7x', index: 99 }, 'del'), 'links');
    assert.equal(standIn(7, { up: false }, undefined, []), null);
    assert.equal(standIn(8, {}, 'del'), null);
    const route = (table: number, change: 'new' | 'del' = 'del') =>
      concernOf(
        { kind: 'route', change, route: { dst: parseCidr('::/0'), table } as Route },
        { ...known, node: { ...known.node, branches: [branch] } },
      );
    assert.deepEqual(
      [7, 8].map((vlan) => route(branchTableOf(vlan))),
      ['routes', null],
    );
    assert.equal(route(branchTableOf(8), 'new'), 'routes');
  });

  it('ENIs’ links: a secondary one down, renamed, with another MTU or MAC; the primary one only in its name', () => {
    assert.equal(link({ ...eth1 }), null);
    assert.equal(link({ ...eth1, up: false }), 'links');
    assert.equal(link({ ...eth1, mtu: 1500 }), 'links');
    assert.equal(link({ ...eth1, name: 'ens6' }), 'links');
    assert.equal(link({ ...eth1, mac: parseMac('02:00:00:00:00:99') }), 'links');
    assert.equal(link({ ...eth1 }, 'del'), 'links');
    assert.equal(link({ ...eth0, up: false, mtu: 1500 }), null);
    assert.equal(link({ index: 5, name: 'docker0', mac: parseMac('02:00:00:00:00:99') }), null);
  });

  it('addresses: of our ENIs anywhere, any on their links, the gateway; not link-local ones of IPv6', () => {
    assert.equal(address('10.0.0.120'), 'addresses');
    assert.equal(address('10.0.0.161'), 'addresses', 'inside a prefix');
    assert.equal(address('192.0.2.1', { index: 3 }), 'addresses');
    assert.equal(address('169.254.1.1', { scope: 253 }, 'del'), 'addresses');
    assert.equal(address('192.0.2.1'), null);
    assert.equal(address('fe80::1', { index: 3, scope: 253 }), null);
  });

  it('rules: with our number or to our tables, and the kernel’s own when they go', () => {
    assert.equal(rule({}), null);
    assert.equal(rule({ protocol: 80 }), 'rules');
    assert.equal(rule({ table: 20480 }), 'rules');
    assert.equal(rule({ table: 254 }, 'del'), 'rules');
    assert.equal(rule({ table: 254 }), null);
  });

  it('routes of our tables', () => {
    const route = (table: number) =>
      concern({ kind: 'route', change: 'del', route: { dst: parseCidr('10.0.0.0/8'), table } as Route });
    assert.deepEqual([254, 0x4ffe, 0x5001].map(route), [null, 'routes', 'routes']);
  });

  it('settings: forwarding off anywhere, a strict filter on links of ours', () => {
    assert.equal(netconf({ index: -1, forwarding: 0 }), 'sysctls');
    assert.equal(netconf({ index: -1, forwarding: 1, rpFilter: 1 }), null);
    assert.equal(netconf({ index: 9, rpFilter: 1 }), 'sysctls');
    assert.equal(netconf({ index: 9, forwarding: 1, rpFilter: 2 }), null);
    assert.equal(netconf({ index: 50, forwarding: 0, rpFilter: 1 }), null);
  });

  it('fixed neighbours on links of ours', () => {
    assert.equal(neighbour({}), 'neighbours');
    assert.equal(neighbour({ state: 'reachable' }), null);
    assert.equal(neighbour({ index: 50 }), null);
  });

  it('nothing, before there is a state', () => {
    assert.equal(
      concernOf(
        { kind: 'route', change: 'del', route: { table: 0x5000 } as Route },
        { ...known, node: undefined },
      ),
      null,
    );
  });
});
