import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatCidr, formatIp, parseCidr, parseIp } from '../base/ip.ts';
import type { Address, Route, Rule } from '../kernel/rtnetlink.ts';
import { desiredRoutes, desiredRules, eniAddress, podRoutes, unheldCidrs } from './desired.ts';
import { diffAddresses, diffElements, diffRoutes, diffRules } from './diff.ts';
import { assignMarks } from './enis.ts';
import { PROTOCOL } from './marks.ts';
import { eni0, eni1, eni2, nodeState } from './testing.ts';

const marksOf = (node: Parameters<typeof desiredRules>[0]) => assignMarks(node.enis, []);

/** A rule as the kernel lists it. */
const listedRule = (rule: ReturnType<typeof desiredRules>[number]): Rule => ({
  family: rule.family,
  priority: rule.priority,
  from: rule.from ?? null,
  to: rule.to ?? null,
  iifname: rule.iifname ?? null,
  oifname: null,
  fwmark: rule.fwmark ?? 0,
  fwmask: rule.fwmask ?? 0,
  invert: false,
  table: rule.table,
  protocol: rule.protocol ?? PROTOCOL,
  suppressPrefixLength: null,
  action: 'lookup',
  goto: null,
});
const listedRoute = (route: ReturnType<typeof desiredRoutes>[number]): Route => ({
  dst: route.dst,
  table: route.table,
  type: route.type ?? 'unicast',
  gateway: route.gateway ?? null,
  oif: route.oif ?? null,
  src: null,
  scope: (route.oif === undefined ? 'universe' : route.scope)!,
  protocol: PROTOCOL,
  metric: 0,
  onlink: route.onlink ?? false,
  mtu: null,
  advmss: null,
});

describe('desired rules', () => {
  const text = (rules: ReturnType<typeof desiredRules>) =>
    rules.map(
      (rule) =>
        `${rule.priority}: ${rule.to ? `to ${formatCidr(rule.to)} ` : ''}${rule.iifname ? `iif ${rule.iifname} ` : ''}${rule.fwmark === undefined ? '' : `fwmark ${rule.fwmark}/0x${rule.fwmask?.toString(16)} `}lookup 0x${rule.table.toString(16)}`,
    );

  it('three for a subnet of pods and one for each secondary ENI', () => {
    const node = nodeState({ enis: [eni0, eni1, eni2] });
    assert.deepEqual(text(desiredRules(node, marksOf(node))), [
      '512: to 10.0.0.0/24 lookup 0x5000',
      '513: to 10.0.0.0/24 iif lo lookup 0x4ffe',
      '514: to 10.0.0.0/24 lookup 0x4fff',
      '1024: fwmark 1/0x7f lookup 0x5001',
      '1024: fwmark 2/0x7f lookup 0x5002',
    ]);
  });

  it('with policy enforced, only judged packets and the node’s own reach pods', () => {
    const node = nodeState({ enis: [eni0], judged: { mark: 0x100, mask: 0x300 } });
    assert.deepEqual(text(desiredRules(node, marksOf(node))), [
      '512: to 10.0.0.0/24 fwmark 256/0x300 lookup 0x5000',
      '512: to 10.0.0.0/24 iif lo lookup 0x5000',
      '513: to 10.0.0.0/24 iif lo lookup 0x4ffe',
      '514: to 10.0.0.0/24 lookup 0x4fff',
    ]);
  });

  it('each subnet has its own; an address outside of all makes them meet everything', () => {
    const other = {
      ...eni1,
      subnetCidr: parseCidr('10.0.7.0/24'),
      primaryIp: parseIp('10.0.7.4'),
      addresses: [parseIp('10.0.7.5')],
      prefixes: [],
    };
    const prefixes = (node: Parameters<typeof desiredRules>[0]) =>
      desiredRules(node, marksOf(node))
        .filter((rule) => rule.priority === 514)
        .map((rule) => (rule.to ? formatCidr(rule.to) : 'any'));
    assert.deepEqual(prefixes(nodeState({ enis: [eni0, other] })), ['10.0.0.0/24', '10.0.7.0/24']);
    const strayHeld = { ...other, addresses: [parseIp('10.0.8.5')] };
    assert.deepEqual(prefixes(nodeState({ enis: [eni0, strayHeld] })), ['any']);
    const stray = { hostIfname: 'pw000000000001', ips: [parseIp('10.0.9.9')], eni: eni0 };
    assert.deepEqual(prefixes(nodeState({ enis: [eni0], pods: [stray] })), ['any']);
  });
});

describe('desired routes', () => {
  it('a black hole for all that the ENIs hold but their primary addresses', () => {
    assert.deepEqual(unheldCidrs(nodeState()).map(formatCidr), [
      '10.0.0.77/32',
      '10.0.0.78/32',
      '10.0.0.120/32',
      '10.0.0.121/32',
      '10.0.0.160/28',
    ]);
  });

  it('a secondary ENI’s table: its router, and everything by it', () => {
    const routes = desiredRoutes(
      nodeState({ enis: [eni0, { ...eni1, addresses: [], prefixes: [] }] }),
      new Map([['0/1', 7]]),
    );
    assert.deepEqual(
      routes
        .filter((route) => route.table === 0x5001)
        .map(
          (route) =>
            `${formatCidr(route.dst)} via ${route.gateway ? formatIp(route.gateway) : '-'} dev ${route.oif} ${route.scope}`,
        ),
      ['10.0.0.1/32 via - dev 7 link', '0.0.0.0/0 via 10.0.0.1 dev 7 universe'],
    );
  });

  it('an ENI without a link has no routes yet', () => {
    assert.ok(desiredRoutes(nodeState(), new Map()).every((route) => route.table < 0x5000));
  });
});

describe('diff', () => {
  const node = nodeState({ enis: [eni0, eni1, eni2] });
  const rules = desiredRules(node, marksOf(node));
  const routes = [
    ...desiredRoutes(
      node,
      new Map([
        ['0/1', 7],
        ['0/2', 8],
      ]),
    ),
    ...podRoutes({ ips: [parseIp('10.0.0.77')] }, 20),
  ];

  it('what is as desired needs nothing', () => {
    assert.deepEqual(diffRules(rules.map(listedRule), rules), []);
    assert.deepEqual(diffRoutes(routes.map(listedRoute), routes), []);
    assert.deepEqual(
      diffAddresses(7, [{ index: 7, scope: 0, secondary: false, ...eniAddress(eni1) }], [eniAddress(eni1)]),
      [],
    );
  });

  it('whatever is missing or left over, the changes lead to what is desired', () => {
    fc.assert(
      fc.property(
        fc.subarray(rules.map(listedRule)),
        fc.subarray(routes.map(listedRoute)),
        fc.boolean(),
        (someRules, someRoutes, extra) => {
          const ruleKey = (rule: { priority: number; table: number; fwmark?: number }) =>
            `${rule.priority} ${rule.table} ${rule.fwmark ?? 0}`;
          const ruleSet = new Set(someRules.map(ruleKey));
          const leftover = listedRule({
            family: 4,
            priority: 1024,
            fwmark: 9,
            fwmask: 0x7f,
            table: 0x5009,
            protocol: PROTOCOL,
          });
          for (const { op } of diffRules(extra ? [...someRules, leftover] : someRules, rules)) {
            if (op.op === 'rule-add') ruleSet.add(ruleKey(op));
            else if (op.op === 'rule-del') assert.equal(op.table, 0x5009);
          }
          assert.deepEqual([...ruleSet].sort(), rules.map(ruleKey).sort());

          const routeKey = (route: { dst: Route['dst']; table: number }) =>
            `${formatCidr(route.dst)} ${route.table}`;
          const routeSet = new Set(someRoutes.map(routeKey));
          const old = listedRoute(podRoutes({ ips: [parseIp('10.0.0.99')] }, 21)[0]!);
          if (extra) routeSet.add(routeKey(old));
          for (const { op } of diffRoutes(extra ? [...someRoutes, old] : someRoutes, routes)) {
            if (op.op === 'route-replace') routeSet.add(routeKey(op));
            else if (op.op === 'route-del') routeSet.delete(routeKey(op));
          }
          assert.deepEqual([...routeSet].sort(), routes.map(routeKey).sort());
        },
      ),
    );
  });

  it('nothing without our protocol number, and nothing outside our tables, is deleted', () => {
    const foreignRule = { ...listedRule(rules[0]!), priority: 77, protocol: 3 };
    const foreignRoutes = [
      { ...listedRoute(routes[0]!), dst: parseCidr('10.9.0.0/16'), protocol: 3 },
      { ...listedRoute(routes[0]!), dst: parseCidr('10.9.0.0/16'), table: 254 },
    ];
    assert.deepEqual(diffRules([...rules.map(listedRule), foreignRule], rules), []);
    assert.deepEqual(diffRoutes([...routes.map(listedRoute), ...foreignRoutes], routes), []);
  });

  it('a rule that is there twice loses one', () => {
    const changes = diffRules([...rules, rules[0]!].map(listedRule), rules);
    assert.deepEqual(
      changes.map((change) => change.text),
      ['delete rule IPv4 512 to 10.0.0.0/24 table 20480'],
    );
  });

  it('somebody’s rule with fewer selectors goes, and ours that the kernel deletes in its place comes again', () => {
    type Op = ReturnType<typeof diffRules>[number]['op'];
    /** As the kernel does: a rule comes last of its priority; the first with all that the request names goes. */
    const apply = (list: Rule[], op: Op): Rule[] => {
      if (op.op === 'rule-add') {
        const after = list.findLastIndex((rule) => rule.priority <= op.priority) + 1;
        return [...list.slice(0, after), listedRule(op), ...list.slice(after)];
      }
      assert.equal(op.op, 'rule-del');
      const { op: _, ...asked } = op as { op: string } & Parameters<typeof listedRule>[0];
      const has = (rule: Rule) =>
        Object.entries(asked).every(
          ([key, value]) =>
            value === undefined || JSON.stringify(rule[key as keyof Rule]) === JSON.stringify(value),
        );
      const place = list.findIndex(has);
      assert.notEqual(place, -1);
      return list.toSpliced(place, 1);
    };
    const judged = nodeState({ enis: [eni0, eni1], judged: { mark: 0x100, mask: 0x300 } });
    const wanted = desiredRules(judged, marksOf(judged));
    const short = wanted.map(({ family, priority, table, protocol }) =>
      listedRule({ family, priority, table, protocol: protocol! }),
    );
    const text = (list: readonly Rule[]) => list.map((rule) => JSON.stringify(rule)).sort();
    fc.assert(
      fc.property(
        fc
          .shuffledSubarray([...wanted.map(listedRule), ...short])
          .map((list) => list.toSorted((a, b) => a.priority - b.priority)),
        (list) => {
          const after = diffRules(list, wanted).reduce((now, { op }) => apply(now, op), list);
          assert.deepEqual(text(after), text(wanted.map(listedRule)));
        },
      ),
    );
  });

  it('a route to another link is replaced, one of another kind too', () => {
    const moved = routes
      .map(listedRoute)
      .map((route) => (route.table === 0x5000 ? { ...route, oif: 99 } : route));
    assert.deepEqual(
      diffRoutes(moved, routes).map((change) => change.text),
      ['replace route 10.0.0.77/32 table 20480'],
    );
  });

  it('a cloud image’s address with a prefix, and a pod’s address, leave the ENI’s link', () => {
    const observed: Address[] = [
      { index: 7, ip: eni1.primaryIp, length: 24, noPrefixRoute: false, scope: 0, secondary: false },
      { index: 7, ip: eni1.addresses[0]!, length: 32, noPrefixRoute: true, scope: 0, secondary: false },
      { index: 7, ip: parseIp('fe80::1'), length: 64, noPrefixRoute: false, scope: 253, secondary: false },
    ];
    assert.deepEqual(
      diffAddresses(7, observed, [eniAddress(eni1)]).map((change) => change.text),
      [
        'delete address 10.0.0.40/24 of link 7',
        'delete address 10.0.0.120/32 of link 7',
        'add address 10.0.0.40/32 of link 7',
      ],
    );
  });

  it('an element with the wrong chain is removed and added', () => {
    const a = { ifindex: 7, ip: parseIp('10.0.0.77'), chain: 'eni_0_0' };
    const b = { ifindex: 8, ip: parseIp('10.0.0.78'), chain: 'eni_0_0' };
    const wrong = { ...a, chain: 'eni_0_1' };
    assert.deepEqual(diffElements([wrong, b], [a]), { remove: [wrong, b], add: [a] });
    assert.deepEqual(diffElements([a], [a]), { remove: [], add: [] });
  });
});
