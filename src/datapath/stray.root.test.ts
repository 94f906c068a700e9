// Connections that begin while the nft table is missing: what would stay wrong is forgotten once the table is back, so
// that the client's next packet begins it anew; what works is left alone.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCidr, parseIp } from '../base/ip.ts';
import { type ConntrackEntry, NfNetlink } from '../kernel/nfnetlink.ts';
import { strayJudge } from './stray.ts';
import { eni0, eni1, INTERNET, needsRoot, nodeState, PEER, TestPods, TestVpc } from './testing.ts';

const PORT = 7777;

const entry = (over: {
  src: string;
  dst: string;
  real?: string;
  seenAs?: string;
  mark?: number;
  status?: number;
}) =>
  ({
    orig: { src: parseIp(over.src), dst: parseIp(over.dst), protocol: 17 },
    reply: { src: parseIp(over.real ?? over.dst), dst: parseIp(over.seenAs ?? over.src), protocol: 17 },
    zone: 0,
    mark: over.mark ?? 0,
    status: over.status ?? 0,
  }) as ConntrackEntry;

it('only what nobody answered yet, and what the table would have marked or translated', () => {
  const pod = '10.0.0.120';
  const state = nodeState({ excludeSnatCidrs: [parseCidr('192.168.0.0/16')] });
  const judge = strayJudge(state, new Set([parseIp(pod)]));
  const cases: [boolean, string, Parameters<typeof entry>[0]][] = [
    [true, 'a pod to the internet', { src: pod, dst: INTERNET }],
    [true, 'marked later, never translated', { src: pod, dst: INTERNET, mark: 0x407f }],
    [true, 'by a Service that leads out', { src: pod, dst: '10.0.9.9', real: INTERNET }],
    [true, 'a pod to the metadata service', { src: pod, dst: '169.254.169.254' }],
    [false, 'translated', { src: pod, dst: INTERNET, seenAs: '10.0.0.10', mark: 0x7f }],
    [false, 'answered', { src: pod, dst: INTERNET, status: 4 }],
    [false, 'inside the VPC', { src: pod, dst: PEER }],
    [false, 'an excluded destination', { src: pod, dst: '192.168.1.1' }],
    [false, 'nobody’s pod', { src: '10.0.0.121', dst: INTERNET }],
    [true, 'to the node, by an ENI that nobody noted', { src: INTERNET, dst: '10.0.0.40' }],
    [false, 'to the node, noted', { src: INTERNET, dst: '10.0.0.40', mark: 1 }],
    [false, 'to a pod', { src: INTERNET, dst: pod }],
  ];
  for (const [stray, what, over] of cases) assert.equal(judge(entry(over)), stray, what);
  const open = strayJudge({ ...state, snat: 'none' }, new Set([parseIp(pod)]));
  assert.equal(open(entry({ src: pod, dst: INTERNET })), false);
  assert.equal(open(entry({ src: pod, dst: '169.254.169.254' })), true);
});

describe('connections of a time without the table', needsRoot, () => {
  it('begin anew when it is back; those that work stay', async () => {
    using vpc = new TestVpc();
    const pods = new TestPods(vpc);
    using nf = NfNetlink.open(vpc.node);
    await pods.datapath.syncNode(pods.state());
    pods.add('pod-a', '10.0.0.77', eni0);
    pods.add('pod-b', '10.0.0.120', eni1);
    await Promise.all(['internet', 'peer', 'node'].map((where) => vpc.serve(where, PORT)));
    const out = () => vpc.seenSocket('pod-b', INTERNET, PORT, 41001)?.address;
    const into = () => vpc.seenSocket('internet', '10.0.0.40', PORT, 41002)?.address;
    const within = () =>
      nf.conntrack({ ip: parseIp('10.0.0.77') }).filter(({ orig }) => orig.sport === 41003);

    // Somebody else's, as portmap's: without any such rule the kernel tracks nothing.
    vpc.nft(
      'node',
      'table ip other { chain c { type nat hook postrouting priority 100; mark 0x2000 masquerade; }; }',
    );
    vpc.nft('node', 'delete table inet podway');
    assert.deepEqual([out(), into()], [undefined, undefined]);
    assert.equal(vpc.seenSocket('pod-a', PEER, PORT, 41003)?.address, '10.0.0.77');
    const [kept] = within();
    const { changes } = await pods.datapath.syncNode(pods.state());
    assert.equal(changes.at(-1), 'forget 2 connections that began without the nft table');
    assert.deepEqual([out(), into()], ['10.0.0.10', INTERNET]);
    assert.equal(within()[0]?.id, kept!.id);

    // A part of the table, as a cleaning tool leaves it.
    vpc.nft('node', 'flush chain inet podway source');
    assert.equal(vpc.seenSocket('pod-b', INTERNET, PORT, 41004), null);
    await pods.datapath.syncNode(pods.state());
    assert.equal(vpc.seenSocket('pod-b', INTERNET, PORT, 41004)?.address, '10.0.0.10');
    await pods.datapath.close();
  });
});
