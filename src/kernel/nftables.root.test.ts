// nftables structure and elements, connection tracking, notifications and the feature probe, against the kernel itself.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { ipToBytes, parseCidr, parseIp } from '../base/ip.ts';
import { probeFeatures } from './features.ts';
import { type KernelEvent, watchKernel } from './monitor.ts';
import { createNetns, deleteNetns } from './netns.ts';
import { concatKey, NfNetlink, type NftElementOp } from './nfnetlink.ts';
import { Nft, NftError } from './nftables.ts';
import { RtNetlink } from './rtnetlink.ts';
import { eventually, inFreshNetns, needsRoot, refusal } from './testing.ts';

const ip = (text: string) => ipToBytes(parseIp(text));
const port = (value: number) => Uint8Array.of(value >> 8, value & 255);
const base = { family: 'inet', table: 'podway' } as const;

const TABLE = `table inet podway {
  map verdicts { type ipv4_addr : verdict\n}
  map marks { type ipv4_addr : mark\n}
  set ranges { type ipv4_addr . inet_service; flags interval\n}
  chain class { accept\n}
}`;

describe('libnftables', needsRoot, () => {
  test('a script is applied whole or not at all, and the error is the library’s', () =>
    inFreshNetns(async (ns) => {
      await using nft = Nft.open(ns);
      await nft.run(TABLE);
      assert.match(await nft.text('table inet podway'), /chain class \{\s+accept/);
      await assert.rejects(
        nft.run('add chain inet podway more\nadd rule inet podway nochain accept'),
        (error) =>
          error instanceof NftError &&
          /No such file or directory/.test(error.text) &&
          error.script.includes('more'),
      );
      const chains = (await nft.list('chains')).filter((it) => 'chain' in it);
      assert.deepEqual(
        chains.map((it) => (it['chain'] as { name: string }).name),
        ['class'],
      );
      await assert.rejects(nft.run('add nonsense'), /syntax error/);
    }));

  test('two namespaces side by side keep their own rulesets, and link names mean the present link', () =>
    inFreshNetns((one) =>
      inFreshNetns(async (two) => {
        await using first = Nft.open(one);
        await using second = Nft.open(two);
        await Promise.all([first.run('add table ip first'), second.run('add table ip second')]);
        assert.match(await first.text(), /^table ip first/);
        assert.match(await second.text(), /^table ip second/);
        using rt = RtNetlink.open(one);
        await first.run('add chain ip first c');
        for (const verdict of ['accept', 'drop']) {
          rt.apply([{ op: 'bridge-add', name: 'br0' }]);
          await first.run(`add rule ip first c iif "br0" ${verdict}`);
          assert.match(await first.text(), new RegExp(`iif "br0" ${verdict}`));
          rt.apply([{ op: 'link-del', name: 'br0' }]);
        }
      }),
    ));
});

describe('elements', needsRoot, () => {
  test('batches are atomic, ranges and verdicts come back as written', () =>
    inFreshNetns(async (ns) => {
      await using nft = Nft.open(ns);
      await nft.run(TABLE);
      using netfilter = NfNetlink.open(ns);
      const verdict = { kind: 'jump', chain: 'class' } as const;
      const add: NftElementOp = { op: 'add', ...base, set: 'verdicts', key: ip('10.0.0.1'), verdict };
      const range = {
        key: concatKey(ip('10.0.0.0'), port(80)),
        keyEnd: concatKey(ip('10.0.0.255'), port(90)),
      };
      netfilter.elements([
        add,
        { op: 'add', ...base, set: 'ranges', ...range },
        { op: 'add', ...base, set: 'marks', key: ip('10.0.0.1'), data: Uint8Array.of(7, 0, 0, 0) },
      ]);
      const text = await nft.text('table inet podway');
      assert.match(text, /10\.0\.0\.1 : jump class/);
      assert.match(text, /10\.0\.0\.0\/24 \. 80-90/);
      assert.match(text, /10\.0\.0\.1 : 0x00000007/);
      assert.deepEqual(netfilter.listElements('inet', 'podway', 'verdicts')[0]?.verdict, verdict);
      assert.deepEqual(netfilter.listElements('inet', 'podway', 'ranges')[0]?.keyEnd, range.keyEnd);

      const other: NftElementOp = { ...add, key: ip('10.0.0.2') };
      const exists = refusal(() => netfilter.elements([other, add]));
      assert.deepEqual([exists.code, exists.index, exists.op], ['EEXIST', 1, 'element-add']);
      assert.equal(netfilter.listElements('inet', 'podway', 'verdicts').length, 1);
      const missing = refusal(() =>
        netfilter.elements([
          { ...add, op: 'del' },
          { ...other, op: 'del' },
        ]),
      );
      assert.deepEqual([missing.code, missing.index], ['ENOENT', 1]);
      assert.equal(netfilter.listElements('inet', 'podway', 'verdicts').length, 1);
      assert.equal(refusal(() => netfilter.elements([{ ...add, set: 'nowhere' }])).code, 'ENOENT');
      assert.equal(refusal(() => netfilter.listElements('inet', 'podway', 'nowhere')).code, 'ENOENT');

      netfilter.elements([
        { op: 'del', ...base, set: 'ranges', ...range },
        { op: 'flush', ...base, set: 'verdicts' },
      ]);
      assert.deepEqual(netfilter.listElements('inet', 'podway', 'ranges'), []);
      assert.deepEqual(netfilter.listElements('inet', 'podway', 'verdicts'), []);
    }));

  test('ten thousand in one batch', () =>
    inFreshNetns(async (ns) => {
      await using nft = Nft.open(ns);
      await nft.run(TABLE);
      using netfilter = NfNetlink.open(ns);
      const ops = Array.from({ length: 10_000 }, (_, i): NftElementOp => {
        const key = Uint8Array.of(10, 0, i >> 8, i & 255);
        return { op: 'add', ...base, set: 'verdicts', key, verdict: { kind: 'goto', chain: 'class' } };
      });
      netfilter.elements(ops);
      assert.equal(netfilter.listElements('inet', 'podway', 'verdicts').length, 10_000);
      assert.equal(refusal(() => netfilter.elements(ops.slice(0, 3000))).index, 0);
    }));
});

describe('connection tracking', needsRoot, () => {
  test('an address is forgotten wherever it stands, and nothing else is', async () => {
    const name = `pwt-kernel-ct-${process.pid}`;
    const ns = createNetns(name);
    try {
      using netfilter = NfNetlink.open(ns);
      const make = (src: string, dst: string, replySrc: string, replyDst: string, sport: number) =>
        execFileSync(
          'ip',
          [
            ...`netns exec ${name} conntrack -I -p udp -t 600 -s ${src} -d ${dst} -r ${replySrc} -q ${replyDst}`.split(
              ' ',
            ),
            ...`--sport ${sport} --dport 53 --reply-port-src 53 --reply-port-dst ${sport}`.split(' '),
          ],
          { stdio: 'ignore' },
        );
      const pod = '10.0.0.5';
      make(pod, '10.0.9.9', '10.0.9.9', pod, 1001); // plain, from it
      make('10.0.9.9', pod, pod, '10.0.9.9', 1002); // plain, to it
      make('10.0.9.9', '192.0.2.1', pod, '10.0.9.9', 1003); // behind a virtual address: only in the reply
      make(pod, '10.0.9.9', '10.0.9.9', '192.0.2.7', 1004); // source translated: only in the original
      make('10.0.0.6', '10.0.9.9', '10.0.9.9', '10.0.0.6', 1005); // another
      make('fd00::5', 'fd00::9', 'fd00::9', 'fd00::5', 1006);
      assert.equal(netfilter.conntrackCount(), 6);
      assert.equal(netfilter.conntrack({ family: 6 }).length, 1);
      assert.equal(netfilter.conntrack({ ip: parseIp(pod) }).length, 4);
      assert.equal(netfilter.conntrack({ ip: parseIp('192.0.2.7') })[0]?.orig.sport, 1004);

      assert.equal(netfilter.conntrackDelete({ ip: parseIp(pod) }), 4);
      assert.deepEqual(
        netfilter
          .conntrack()
          .map((it) => it.orig.sport)
          .sort(),
        [1005, 1006],
      );
      const counts = await Promise.all(
        ['10.0.0.6', 'fd00::5', '10.0.0.7'].map((it) => netfilter.conntrackForget(parseIp(it))),
      );
      assert.deepEqual(counts, [1, 1, 0]);
      assert.deepEqual(netfilter.conntrack(), []);
    } finally {
      ns.close();
      deleteNetns(name);
    }
  });
});

describe('notifications', needsRoot, () => {
  test('links, addresses, routes, rules, neighbours and nftables are reported as they change', () =>
    inFreshNetns(async (ns) => {
      const events: KernelEvent[] = [];
      const groups = ['link', 'address', 'route', 'rule', 'neighbour', 'nftables'] as const;
      using _watch = watchKernel(ns, { groups }, (event) => events.push(event));
      using rt = RtNetlink.open(ns);
      rt.apply([{ op: 'veth-add', name: 'v0', peer: { name: 'v1' } }]);
      const index = rt.link('v0')!.index;
      rt.apply([
        { op: 'link-set', index, up: true },
        { op: 'addr-add', index, ip: parseIp('10.0.0.1'), length: 24 },
        { op: 'route-add', dst: parseCidr('10.9.0.0/16'), table: 20480, oif: index },
        { op: 'rule-add', family: 4, priority: 512, table: 20480 },
        { op: 'neigh-replace', index, ip: parseIp('10.0.0.2'), mac: rt.link('v1')!.mac! },
      ]);
      await using nft = Nft.open(ns);
      await nft.run('add table inet podway');
      const seen = (kind: string, holds: (event: KernelEvent) => boolean) =>
        eventually(`an event of ${kind}`, () => events.some((event) => event.kind === kind && holds(event)));
      await seen('link', (it) => it.kind === 'link' && it.link.name === 'v0' && it.link.up);
      await seen('address', (it) => it.kind === 'address' && it.address.ip === parseIp('10.0.0.1'));
      await seen(
        'route',
        (it) => it.kind === 'route' && it.route.table === 20480 && it.route.protocol === 80,
      );
      await seen('rule', (it) => it.kind === 'rule' && it.rule.priority === 512);
      await seen('neighbour', (it) => it.kind === 'neighbour' && it.neighbour.state === 'permanent');
      await seen(
        'nftables',
        (it) => it.kind === 'nftables' && it.table === 'podway' && it.object === 'table',
      );
      await seen('nftables-generation', () => true);
      rt.apply([{ op: 'link-del', index }]);
      await seen('link', (it) => it.kind === 'link' && it.change === 'del' && it.link.name === 'v0');
    }));

  test('nothing is reported after close, not even of the same burst', () =>
    inFreshNetns(async (ns) => {
      using rt = RtNetlink.open(ns);
      let calls = 0;
      const first = watchKernel(ns, { groups: ['link'] }, () => {
        calls++;
        first.close();
      });
      let others = 0;
      using _second = watchKernel(ns, { groups: ['link'] }, () => others++);
      rt.apply([
        { op: 'bridge-add', name: 'b0' },
        { op: 'bridge-add', name: 'b1' },
      ]);
      await eventually('both links on the open watch', () => others >= 2);
      assert.equal(calls, 1);
    }));
});

describe('features', needsRoot, () => {
  test('this machine has all that is needed, and the probe leaves nothing', () => {
    const lacking = probeFeatures().filter((it) => it.needed && !it.present);
    assert.deepEqual(lacking, []);
  });
});
