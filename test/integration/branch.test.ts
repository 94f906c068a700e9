// Pods with branch ENIs: who reaches whom, by which way, and as whom it is seen, port included, in both modes and
// families; what others take away comes back, and what goes leaves nothing.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { parseCidr, parseIp } from '../../src/base/ip.ts';
import type { GateRule } from '../../src/datapath/branch-gate.ts';
import { BRANCH_TABLE } from '../../src/datapath/marks.ts';
import { programsOn, setProgram } from '../../src/kernel/bpf/hooks.ts';
import { NfNetlink } from '../../src/kernel/nfnetlink.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { allow, edit, INTERNET_HOST, skipReason } from '../../src/lab/fabric/testing.ts';
import {
  A,
  a6,
  B,
  C,
  check as checkIn,
  D,
  E,
  few,
  type Row,
  SILENCE_MS,
  SILENT,
  s6,
  same,
  t6,
  table,
} from './branch-rows.ts';
import {
  BranchWorld,
  DB,
  DB6,
  hostIfname,
  NODE,
  NODE_GROUP,
  NODE_PUBLIC,
  NODE6,
  nodeWith,
  PLAIN,
  PODS,
  worldState,
} from './branch-world.ts';

describe('pods with branches', { skip: skipReason }, () => {
  let world: BranchWorld;
  before(async () => {
    world = await BranchWorld.open();
  });
  after(() => world?.close());

  const check = (which: readonly Row[]) => checkIn(world, which);
  describe('who reaches whom', { concurrency: 4 }, () => {
    for (const row of table) test(`${row[0]} to ${row[1]}: ${row[2]}`, () => check([row]));
  });

  test('a strict pod’s way to its own node is judged by the VPC; a standard one’s, and the node’s to both, is not', async () => {
    const closed = edit(worldState(), (copy) => {
      copy.securityGroups[NODE_GROUP]!.rules = [allow('egress', '0.0.0.0/0'), allow('ingress', `${DB}/32`)];
    });
    await world.lab.fabric.apply(closed);
    await check([
      ['pod-a', NODE!, SILENT],
      ['node', A, same(NODE!)],
      ['pod-d', NODE!, same(D)],
      ['node', D, same(NODE!)],
    ]);
    await world.lab.fabric.apply(worldState());
  });

  test('IMDS, Pod Identity and a node-local DNS are on the node in both modes, listed addresses while they are there', async () => {
    // IMDS by its way through the primary ENI, the others as processes of the node that listen on their addresses.
    for (const pod of ['pod-a', 'pod-d'])
      assert.match(world.run(pod, 'ping', '-nc1', '-W30', '169.254.169.254'), / 1 received/, pod);
    const local = ['169.254.170.23', '169.254.20.10', '10.100.0.10'];
    world.run(
      'node',
      'sh',
      '-c',
      'ip link add local0 type veth peer local1; ip link set local0 up; ip link set local1 up',
    );
    for (const ip of [...local, 'fd00::a'])
      world.run('node', 'ip', 'addr', 'add', ip, 'dev', 'local0', ...(ip.includes(':') ? ['nodad'] : []));
    const both = (to: string): Row[] => [
      ['pod-a', to, same(A)],
      ['pod-c', to, same(C)],
      ['pod-d', to, same(D)],
      ['pod-e', to, same(E)],
    ];
    await check([...both(local[0]!), ...both(local[1]!)]);
    // Not listed: a strict pod asks the VPC for it, which does not know it.
    const six = ['pod-a', 'pod-s'].map((pod) => [pod, 'fd00::a', SILENT] as const);
    await check([['pod-a', '10.100.0.10', SILENT], ['pod-d', '10.100.0.10', same(D)], ...six]);
    const nodeLocal = ['10.100.0.10', 'fd00::a'].map(parseIp);
    await world.datapath.syncNode(nodeWith(PODS, { nodeLocal }));
    await check([...both('10.100.0.10'), ['pod-a', 'fd00::a', same(a6!)], ['pod-s', 'fd00::a', same(s6!)]]);
    world.run('node', 'ip', 'addr', 'del', '10.100.0.10/32', 'dev', 'local0');
    await check([['pod-a', '10.100.0.10', SILENT]]);
    await world.datapath.syncNode(nodeWith(PODS));
    await check([['pod-a', 'fd00::a', SILENT], ...few]);
  });

  test('what arrives on the node for a pod is judged there by its groups, and replies go back the way it came', async () => {
    // As kube-proxy and portmap do it: 30080 keeps the sender (a host port, externalTrafficPolicy Local), 30081 does
    // not.
    const nat = (to: Record<number, string>, family: 'ip' | 'ip6') => `
      table ${family} proxy {
        chain to { ${Object.entries(to)
          .map(
            ([port, pod]) =>
              `tcp dport ${port} ${Number(port) % 2 ? 'meta mark set mark or 0x4000 ' : ''}dnat to ${pod}`,
          )
          .join('; ')}; }
        chain pre { type nat hook prerouting priority -100; fib daddr type local jump to; }
        chain out { type nat hook output priority -100; fib daddr type local jump to; }
        chain post { type nat hook postrouting priority 100; meta mark & 0x4000 == 0x4000 meta mark set mark xor 0x4000 masquerade; }
      }`;
    const four = { 30080: `${A}:8080`, 30081: `${A}:8080`, 30090: `${D}:8080`, 30091: `${D}:8080` };
    const six = { 30080: `[${s6}]:8080`, 30090: `[${t6}]:8080` };
    world.run('node', 'sh', '-c', `nft -f - <<'E'\n${nat(four, 'ip')}\n${nat(six, 'ip6')}\nE`);
    const at = async (rows: [from: string, to: string, port: number, as: RegExp][]) => {
      const answers = await Promise.all(
        rows.map(([from, to, port, as]) =>
          world.seen(from, to, port, as === silent ? SILENCE_MS : undefined),
        ),
      );
      rows.forEach(([from, to, port, as], place) => {
        assert.match(answers[place]!, as, `${from} to ${to} ${port}`);
      });
    };
    const silent = /^silent$/;
    const kept = (ip: string) => new RegExp(`^${ip.replaceAll('.', '\\.')}, same port$`);
    // Not known what the groups let in: closed, for all that is no pod's and not the node's own.
    await at([
      ['db', NODE!, 30080, silent],
      ['db', NODE!, 30081, silent],
      ['db', NODE!, 30090, silent],
      ['db', NODE6!, 30080, silent],
      ['node', NODE!, 30080, kept(NODE!)],
      ['pod-plain', NODE!, 30090, kept(PLAIN!)],
      ['pod-b', NODE!, 30080, kept(B)],
    ]);
    const tcp = (port: number, ...sources: string[]): GateRule => ({
      protocol: 6,
      ports: [port, port],
      sources: sources.map((cidr) => parseCidr(cidr)),
    });
    const open = [tcp(8080, `${DB}/32`, `${DB6}/128`, `${INTERNET_HOST}/32`)];
    const sync = (gate: GateRule[]) =>
      world.datapath.syncNode(nodeWith(PODS, {}, { a: gate, d: gate, s: gate, t: gate }));
    await sync(open);
    await at([
      ['db', NODE!, 30080, kept(DB!)],
      ['db', NODE!, 30081, /^10\.0\.0\.11 \d+$|^10\.0\.0\.11, same port$/],
      ['db', NODE!, 30090, kept(DB!)],
      ['db', NODE!, 30091, /^10\.0\.0\.11/],
      ['db', NODE6!, 30080, kept(DB6!)],
      ['db', NODE6!, 30090, kept(DB6!)],
      ['internet', NODE_PUBLIC, 30080, kept(INTERNET_HOST)],
      ['internet', NODE_PUBLIC, 30090, kept(INTERNET_HOST)],
      ['node', NODE!, 30090, kept(NODE!)],
      ['pod-plain', NODE!, 30080, kept(PLAIN!)],
      ['pod-d', NODE!, 30080, kept(D)],
    ]);
    await check(few);
    assert.deepEqual((await sync(open)).changes, []);
    assert.ok(world.datapath.askedPods().includes(parseIp(A)), 'it is known for whom something arrived');
    // Another port, another sender, another protocol: closed.
    await sync([
      tcp(8081, '0.0.0.0/0'),
      tcp(8080, '10.0.99.0/24'),
      { ...tcp(8080, '0.0.0.0/0'), protocol: 17 },
    ]);
    await at([
      ['db', NODE!, 30080, silent],
      ['db', NODE!, 30090, silent],
      ['db', NODE6!, 30090, silent],
    ]);
    await sync([{ protocol: null, ports: null, sources: [parseCidr('0.0.0.0/0'), parseCidr('10.0.0.0/8')] }]);
    await at([
      ['db', NODE!, 30080, kept(DB!)],
      ['db', NODE6!, 30080, silent],
    ]);
    world.run('node', 'nft', 'delete', 'table', 'ip', 'proxy');
    world.run('node', 'nft', 'delete', 'table', 'ip6', 'proxy');
    await world.datapath.syncNode(nodeWith(PODS));
  });

  test('a second sync finds nothing to do; what others take away or change comes back, in both modes', async () => {
    assert.deepEqual((await world.datapath.syncNode(nodeWith(PODS))).changes, []);
    using rt = RtNetlink.open(world.node);
    const sh = (command: string) => world.run('node', 'sh', '-c', command);
    const damage: [what: string, does: () => unknown][] = [
      ['stand-ins', () => [7, 10].map((vlan) => rt.apply([{ op: 'link-del', name: `pwv${vlan}` }]))],
      ['far ends', () => ['pwv8x', 'pwv11x'].map((name) => rt.apply([{ op: 'link-set', name, up: false }]))],
      ['far ends that leave', () => sh('ip link del pwv12x; ip link del pwv13x')],
      [
        'programs',
        () => {
          for (const link of ['pwv8', 'pwv11']) setProgram(world.node, rt.link(link)!.index, 'egress', null);
          for (const link of ['eth1', hostIfname('a')])
            setProgram(world.node, rt.link(link)!.index, 'ingress', null);
        },
      ],
      ['the table', () => sh(`nft delete table inet ${BRANCH_TABLE}`)],
      ['the pair for arrivals', () => sh('ip link del pwvin')],
      ['its neighbour', () => sh('ip neigh del 169.254.1.2 dev pwvout')],
      ['a zone', () => sh(`nft delete element inet ${BRANCH_TABLE} zones4 "{ ${A} }"`)],
      ['a chain’s rules', () => sh(`nft flush chain inet ${BRANCH_TABLE} from_pod`)],
      ['the chain of standard pods', () => sh('nft flush chain inet podway eni_branch')],
      [
        'rules',
        () => {
          sh(`ip rule del pref 10 iif ${hostIfname('b')}; ip rule del pref 1026 iif ${hostIfname('e')}`);
          sh(
            'ip rule del pref 1; ip rule del pref 1025; ip -6 rule del pref 510; ip rule add pref 0 lookup local',
          );
        },
      ],
      [
        'routes',
        () => sh('ip route flush table 24583; ip route flush table 24586; ip route flush table 24576'),
      ],
      [
        'neighbours',
        () =>
          sh(
            'for v in 7 10; do ip neigh replace 10.0.32.1 lladdr 02:ff:ff:ff:ff:ff dev pwv$v nud permanent; done',
          ),
      ],
    ];
    for (const [what, does] of damage) {
      world.later += 60_000;
      does();
      const { changes } = await world.datapath.syncNode(nodeWith(PODS));
      assert.ok(changes.length > 0, what);
      assert.deepEqual((await world.datapath.syncNode(nodeWith(PODS))).changes, [], `after ${what}`);
      await check(few);
    }
  });

  test('another process takes everything over as it is', async () => {
    const next = world.newDatapath();
    try {
      const { changes } = await next.syncNode(nodeWith(PODS));
      assert.deepEqual(
        changes.filter((text) => !/nft (table|map)/.test(text)),
        [],
      );
      await check(few);
    } finally {
      await next.close();
    }
  });

  test('on a kernel before Linux 6.6 the same programs attach by clsact', async () => {
    const clear = (way: 'tcx' | 'clsact') => {
      using rt = RtNetlink.open(world.node);
      for (const { name, index } of rt.links())
        for (const hook of ['ingress', 'egress'] as const)
          if (name !== 'lo') setProgram(world.node, index, hook, null, way);
    };
    clear('tcx');
    await check([['pod-a', DB!, SILENT]]);
    const old = world.newDatapath({ hooks: 'clsact' });
    try {
      await old.syncNode(nodeWith(PODS));
      assert.deepEqual((await old.syncNode(nodeWith(PODS))).changes, []);
      await check(table);
    } finally {
      await old.close();
      clear('clsact');
    }
    await world.datapath.syncNode(nodeWith(PODS));
    await check(few);
  });

  test('a process that is killed at any step of ADD or DEL leaves what the next one completes or takes away', async () => {
    // Each step is the whole of what a process does; the next begins with a new one that remembers nothing.
    const asNew = async (does: (datapath: typeof world.datapath) => unknown) => {
      await world.datapath.close();
      world.datapath = world.newDatapath();
      await does(world.datapath);
    };
    const objects = () =>
      world.run(
        'node',
        'sh',
        '-c',
        'ip -o link; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; nft list table inet podway-branch',
      );
    for (const pod of ['a', 'd', 's', 't']) {
      const one = PODS.find((each) => each.pod === pod)!;
      const rest = nodeWith(PODS.filter((each) => each !== one));
      const cut = { hostIfname: hostIfname(pod) };
      const ways: (() => Promise<void>)[] = [
        // DEL: cut, and killed before the lease is released; the runtime asks again.
        async () => {
          await asNew((it) => it.cutPod(cut));
          await asNew((it) => it.syncNode(nodeWith(PODS)));
          await asNew((it) => it.cutPod(cut));
        },
        // Released, and killed before the link is deleted; or before the stand-in is.
        () => asNew((it) => it.cutPod(cut)),
        () =>
          asNew(async (it) => {
            it.cutPod(cut);
            await it.reapLinks();
          }),
        // ADD: killed when the stand-in is there; then when the link is there too, and undone.
        async () => {
          await asNew((it) => it.cutPod(cut));
          await asNew((it) => it.syncNode(rest));
          await asNew((it) => it.reapLinks());
          await asNew((it) => it.syncNode(nodeWith(PODS)));
        },
      ];
      for (const [place, way] of ways.entries()) {
        await way();
        await asNew((it) => it.syncNode(rest));
        await world.datapath.reapLinks();
        const marks = [`pwv${one.vlan}\\b`, cut.hostIfname, ...one.ips.map((ip) => `${ip}\\b`)];
        assert.doesNotMatch(objects(), new RegExp(marks.join('|')), `${pod}, way ${place}`);
        await world.datapath.syncNode(nodeWith(PODS));
        for (const ip of one.ips) await world.datapath.forgetAddress(parseIp(ip));
        world.wire(one);
        await asNew((it) => it.syncNode(nodeWith(PODS)));
        await check(few.filter(([from]) => from === `pod-${pod}`));
      }
    }
    await check(few);
  });

  test('a pod that goes leaves nothing, in either mode and family, and the last one nothing of branches', async () => {
    const objects = () =>
      world.run(
        'node',
        'sh',
        '-c',
        'ip -o link; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; ip neigh; nft list ruleset',
      );
    const left = new Set(PODS.filter(({ vlan }) => vlan !== undefined).map(({ pod }) => pod));
    const rest = () => PODS.filter(({ pod, vlan }) => vlan === undefined || left.has(pod));
    for (const pod of ['a', 'd', 's', 't', 'e', 'b', 'c']) {
      const { vlan, ips } = PODS.find((one) => one.pod === pod)!;
      left.delete(pod);
      world.datapath.cutPod({ hostIfname: hostIfname(pod) });
      await world.datapath.syncNode(nodeWith(rest()));
      await world.datapath.reapLinks();
      const marks = [
        `pwv${vlan}\\b`,
        hostIfname(pod),
        ...ips.map((ip) => `${ip}\\b`),
        `lookup ${0x6000 + vlan!}\\b`,
      ];
      assert.doesNotMatch(objects(), new RegExp(marks.join('|')), pod);
      for (const ip of ips) {
        await world.datapath.forgetAddress(parseIp(ip));
        using nf = NfNetlink.open(world.node);
        assert.deepEqual(nf.conntrack({ ip: parseIp(ip) }), [], `connections of ${pod}`);
      }
      await check(few.filter(([from, , as]) => from === 'pod-b' && left.has('b') && as !== SILENT));
      // Only strict pods move the kernel's rule for local addresses.
      const hasStrict = rest().some(({ mode }) => mode === 'strict');
      assert.equal(/^0:\tfrom all lookup local/.test(world.run('node', 'ip', 'rule')), !hasStrict, pod);
    }
    assert.doesNotMatch(objects(), /pwv|podway-branch|eni_branch|0xc00|0x7d|lookup 245[78]\d|goto \d/);
    using rt = RtNetlink.open(world.node);
    assert.deepEqual(programsOn(world.node, rt.link('eth1')!.index, 'ingress'), []);
    await check([['pod-plain', NODE!, same(PLAIN!)]]);
    // All of ours at once, as an uninstall takes it away, and the kernel's rule is back.
    await world.datapath.syncNode(nodeWith(PODS, { pods: nodeWith(PODS.slice(0, 1)).pods }));
    assert.match(objects(), /pwv7.*pwv8.*podway-branch/s);
    assert.doesNotMatch(world.run('node', 'ip', 'rule'), /^0:/m);
    await world.datapath.removeAll();
    assert.deepEqual(programsOn(world.node, rt.link('eth1')!.index, 'ingress'), []);
    assert.doesNotMatch(objects(), /pwv|inet podway|goto \d|proto 80/);
    assert.match(world.run('node', 'ip', 'rule'), /^0:\tfrom all lookup local/);
  });
});
