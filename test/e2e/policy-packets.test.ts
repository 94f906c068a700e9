// Policies and packets of all kinds: large ones, with options, forged ones, ICMP; connections that a change cuts; nodes and
// their own pods; addresses that are given again; agents that are away.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { V1NetworkPolicy } from '@kubernetes/client-node';
import { parseIp } from '../../src/base/ip.ts';
import { openNetns } from '../../src/kernel/netns.ts';
import { pods } from '../../src/kube/index.ts';
import { BUILT_IN_IMAGE } from '../../src/lab/cluster/command.ts';
import { agentsBack, signalAgents } from '../support/agents.ts';
import { hosts, IN, ingress, OUT, pod, policy, port, toA } from '../support/policy-case.ts';
import { PORTS, PolicyGround } from '../support/policy-ground.ts';
import { arrives, familyOfIp, PROTOCOLS, probe, sendDatagram } from '../support/policy-probes.ts';
import { Talk } from '../support/policy-talk.ts';
import { ipv4Bytes, ipv6Bytes, sendRaw, tooBig, udpBytes } from '../support/raw-packets.ts';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const NODES = ['node-1', 'node-2'];
/** Beyond any link's MTU. */
const LARGE = 20_000;

describe('policies and packets', { skip, timeout: 200_000 }, () => {
  const lab = new Lab('pol-pkt');
  const ground = new PolicyGround(lab);
  before(async () => {
    await lab.up();
    await ground.start();
  });
  after(async () => {
    signalAgents(lab.name, NODES, 'SIGCONT');
    ground.close();
    await lab.down();
  });
  /** x/a is reached by x/b alone, on port 80. */
  const onlyB = (...ports: V1NetworkPolicy[]) => [
    toA('p', [
      ingress(
        [{ podSelector: pod('b') }],
        PROTOCOLS.map((protocol) => port(80, protocol)),
      ),
    ]),
    ...ports,
  ];
  const applied = async (...wanted: V1NetworkPolicy[]) => {
    await ground.policies(wanted);
    await ground.expect('in force', PROTOCOLS, PORTS);
  };

  it('X20 large datagrams, options, extension headers and fragments have the verdict of the whole', async () => {
    await applied(...onlyB());
    const to = ground.place('x/a');
    for (const dst of to.ips) {
      const srcOf = (key: string) => ground.place(key).ips.find((ip) => familyOfIp(ip) === familyOfIp(dst))!;
      for (const [from, may] of [
        ['x/b', true],
        ['y/b', false],
        ['x/c', false],
      ] as const) {
        const { netns } = ground.place(from);
        const udp = { src: srcOf(from), dst, sport: 5_000, port: 80 };
        const large = await arrives(to, 80, (payload) => {
          const bytes = new Uint8Array(LARGE);
          bytes.set(payload);
          sendDatagram(netns, dst, 80, bytes);
        });
        assert.equal(large, may, `${from}: a datagram of ${LARGE} bytes`);
        const headed = await arrives(to, 80, (payload) => {
          const body = udpBytes(udp, payload);
          const options = Uint8Array.of(1, 1, 1, 1);
          sendRaw(
            netns,
            dst,
            familyOfIp(dst) === 4 ? ipv4Bytes(udp, 17, body, { options }) : ipv6Bytes(udp, 17, body),
          );
        });
        assert.equal(headed, may, `${from}: with options`);
        if (familyOfIp(dst) === 6) continue;
        // The second fragment begins with what looks like an allowed port.
        const parts = await arrives(to, 80, (payload) => {
          const body = udpBytes(udp, Uint8Array.from([...payload, ...new Uint8Array(28)]));
          const id = 7;
          sendRaw(
            netns,
            dst,
            ipv4Bytes(udp, 17, body.subarray(16), { offset: 16, id }),
            ipv4Bytes(udp, 17, body.subarray(0, 16), { offset: 0, more: true, id }),
          );
        });
        assert.equal(parts, may, `${from}: fragments, the last one first`);
      }
    }
  });

  it('X21 echo follows rules for any protocol, and errors of an allowed flow pass', async (t) => {
    const ping = async (from: string, to: string) =>
      (await lab.askFromIn('x', from.split('/')[1]!, 'ping', ground.ipOf(to))).answer !== undefined;
    await applied(...onlyB());
    assert.equal(await ping('x/b', 'x/a'), false, 'a rule with ports allows no echo');
    await applied(toA('p', [ingress([{ podSelector: pod('b') }])]));
    assert.equal(await ping('x/b', 'x/a'), true);
    assert.equal(await ping('x/c', 'x/a'), false);
    const [src, dst] = [ground.place('x/a').ips[0]!, ground.place('y/b').ips[0]!];
    if (familyOfIp(src) === 6) return t.diagnostic('errors: with IPv4 alone');
    // x/a may send to y/b and receive nothing; a router on the way says that it is too large.
    await applied(
      policy('x', 'p', {
        podSelector: pod('a'),
        policyTypes: [...IN, ...OUT],
        ingress: [],
        egress: [{ to: hosts(ground, 'y/b') }],
      }),
    );
    const udp = { src, dst, sport: 80, port: 80 };
    sendRaw(ground.netnsOf('x/a'), dst, ipv4Bytes(udp, 17, udpBytes(udp, new Uint8Array(32))));
    const quoted = ipv4Bytes(udp, 17, udpBytes(udp, new Uint8Array(32)));
    await eventually('x/a knows the path', async () => {
      // One that comes before what it answers belongs to nothing.
      sendRaw(ground.netnsOf('y/b'), src, ipv4Bytes({ src: dst, dst: src }, 1, tooBig(1_300, quoted)));
      const route = ['ip', 'route', 'get', ground.ipOf('y/b')];
      return /mtu 1300/.test(await lab.ok('pod', 'exec', '-n', 'x', 'a', '--', ...route));
    });
  });

  it('X26 what a pod sends with the address of another arrives nowhere', async () => {
    await applied(...onlyB());
    const to = ground.place('x/a');
    const dst = to.ips[0]!;
    const forged = (src: string) => ({ src: parseIp(src), dst, sport: 5_002, port: 80 });
    for (const from of ['x/c', 'y/b', 'z/c'])
      for (const src of [ground.ipOf('x/b'), ground.ipOf('y/a')]) {
        const udp = forged(src);
        const came = await arrives(to, 80, (payload) => {
          const body = udpBytes(udp, payload);
          const packet = familyOfIp(dst) === 4 ? ipv4Bytes(udp, 17, body) : ipv6Bytes(udp, 17, body);
          sendRaw(ground.netnsOf(from), dst, packet);
        });
        assert.equal(came, false, `${from} as ${src}`);
      }
  });

  it('X22 a node reaches its own pods alone, X03 by each of its addresses; others by a block', async () => {
    await applied(policy('x', 'deny', { podSelector: {}, policyTypes: IN, ingress: [] }));
    const { nodes } = await lab.status();
    const reaches = async (node: string, key: string) => {
      using netns = openNetns(nodes.find(({ name }) => name === node)!.netnsPath);
      const to = ground.place(key);
      const asks = to.ips.map((address) => ({ address, protocol: 'TCP' as const, port: 80 }));
      const came = await probe(asks.map((ask) => ({ ...ask, to, from: { key: node, netns } })));
      assert.equal(new Set(came).size, 1);
      return came[0];
    };
    assert.equal(await reaches('node-1', 'x/a'), true);
    assert.equal(await reaches('node-2', 'x/a'), false);
    assert.equal(await reaches('node-2', 'x/b'), true);
    const other = nodes.find(({ name }) => name === 'node-2')!.ips;
    const cidrs = other.map((ip) => ({ ipBlock: { cidr: `${ip}/${ip.includes(':') ? 128 : 32}` } }));
    await applied(
      policy('x', 'deny', { podSelector: {}, policyTypes: IN, ingress: [] }),
      toA('node', [ingress(cidrs)]),
    );
    assert.equal(await reaches('node-2', 'x/a'), true);
    assert.equal(await reaches('node-2', 'x/c'), false);
  });

  it('X04 X35 a pod reaches itself; a queue on its link changes no verdict', async () => {
    await applied(...onlyB());
    await ground.expectOwn('closed');
    const ip = ground.ipOf('x/a');
    const route = await lab.ok(
      'lab',
      'exec',
      'node-1',
      '--',
      'sh',
      '-c',
      `ip route show table all | grep '^${ip} '; ip -6 route show table all | grep '^${ip} '; true`,
    );
    const link = / dev (\S+)/.exec(route)![1]!;
    await lab.ok(
      'lab',
      'exec',
      'node-1',
      '--',
      'tc',
      'qdisc',
      'add',
      'dev',
      link,
      'root',
      'tbf',
      'rate',
      '10mbit',
      'burst',
      '32kbit',
      'latency',
      '400ms',
    );
    await ground.expect('shaped', PROTOCOLS, PORTS);
  });

  it('X08 a change cuts what it no longer allows, whoever sends, and X09 a tuple that is used again is judged again', async () => {
    ground.echoes = true;
    await ground.policies([]);
    await ground.expect('open', PROTOCOLS, PORTS, () => true);
    const talks = [
      new Talk(ground, 'y/b', 'x/a'),
      new Talk(ground, 'x/a', 'z/a'),
      new Talk(ground, 'x/b', 'x/a'),
    ];
    for (const talk of talks) await talk.says();
    const narrow = policy('x', 'p', {
      podSelector: pod('a'),
      policyTypes: [...IN, ...OUT],
      ingress: [ingress([{ podSelector: pod('b') }])],
      egress: [],
    });
    await applied(narrow);
    const [intoIt, outOfIt, allowed] = talks as [Talk, Talk, Talk];
    await eventually('the one into it is cut', () => intoIt.isCut());
    await eventually('the one out of it is cut', () => outOfIt.isCut());
    await allowed.says();
    for (const talk of talks) talk.end();
    ground.echoes = false;
    const to = ground.place('x/a');
    const again = () =>
      arrives(to, 80, (payload) => sendDatagram(ground.netnsOf('y/b'), to.ips[0]!, 80, payload, 5_003));
    assert.equal(await again(), false);
    await ground.policies([]);
    await eventually('the same tuple is open', again);
    await applied(narrow);
    await eventually('and closed', async () => !(await again()));
  });

  it('X23 a pod that gets the address of a peer that has gone does not inherit what it might', async () => {
    const names = Array.from({ length: 14 }, (_, at) => ({ ns: 'z', pod: `next-${at}` }));
    await applied(toA('p', [ingress([{ namespaceSelector: { matchLabels: { ns: 'y' } } }])]));
    const peers = ['y/b', 'y/c'];
    const old = peers.map((key) => ground.ipOf(key));
    await ground.removePods({ ns: 'y', pod: 'b' }, { ns: 'y', pod: 'c' });
    await ground.addPods(...names.map((who) => [who, { node: 'node-2' }] as const));
    const heirs = names.filter(({ ns, pod: name }) => old.includes(ground.ipOf(`${ns}/${name}`)));
    assert.notEqual(heirs.length, 0, 'an address was given again');
    await ground.expectSteady('heirs');
    await ground.removePods(...names);
    await ground.addPods([{ ns: 'y', pod: 'b' }], [{ ns: 'y', pod: 'c' }]);
  });

  it('X28 a pod that is not ready is a peer; one that has ended is none, and who gets its address neither', async () => {
    const namesOf = (prefix: string) => Array.from({ length: 8 }, (_, at) => `${prefix}-${at}`);
    await applied(toA('p', [ingress([{ namespaceSelector: { matchLabels: { ns: 'y' } } }])]));
    const conditions = [{ type: 'Ready', status: 'False' }];
    await ground.client.patch(pods, 'b', 'y', { status: { conditions } }, { subresource: 'status' });
    await ground.expectSteady('not ready');
    const ended = namesOf('ended');
    for (const name of ended)
      await ground.core.createNamespacedPod({
        namespace: 'y',
        body: {
          metadata: { name },
          spec: {
            ...{ nodeName: 'node-2', restartPolicy: 'Never' },
            containers: [{ name: 'c', image: BUILT_IN_IMAGE, command: ['true'] }],
          },
        },
      });
    const old = await eventually('they end', async () => {
      const { items } = await ground.core.listNamespacedPod({ namespace: 'y' });
      const its = items.filter(({ metadata }) => ended.includes(metadata!.name!));
      return (
        its.every(({ status }) => status?.phase === 'Succeeded') && its.map(({ status }) => status!.podIP)
      );
    });
    const heirs = namesOf('heir').map((name) => ({ ns: 'z', pod: name }));
    const inherits = ({ ns, pod: name }: (typeof heirs)[number]) =>
      old.includes(ground.ipOf(`${ns}/${name}`));
    const come = () => ground.addPods(...heirs.map((who) => [who, { node: 'node-2' }] as const));
    await come();
    // The node may have had enough addresses that rested longer: the next ones get what is left.
    for (let more = 0; !heirs.some(inherits); more++) {
      assert.ok(more < 10, 'no address was given again');
      await ground.removePods(...heirs);
      await come();
    }
    // The last word is of the pods that have ended.
    for (const name of ended)
      await ground.client.patch(pods, name, 'y', { metadata: { labels: { last: 'word' } } });
    await ground.expectSteady('heirs');
    await ground.removePods(...heirs);
    await Promise.all(ended.map((name) => ground.core.deleteNamespacedPod({ namespace: 'y', name })));
  });

  it('X15 without its agent no pod starts, and the first packet after that is judged; X29 a policy that went meanwhile is gone', async () => {
    await applied(...onlyB());
    signalAgents(lab.name, NODES, 'SIGSTOP');
    const late = { ns: 'y', pod: 'late' };
    await ground.createPod(late, { node: 'node-1' });
    await ground.policies([
      policy('y', 'late', {
        podSelector: { matchLabels: { pod: 'late' } },
        policyTypes: OUT,
        egress: [],
      }),
    ]);
    await sleep(1_000);
    const running = async () =>
      (await ground.pods()).some(({ name, phase }) => name === 'late' && phase === 'Running');
    assert.equal(await running(), false);
    signalAgents(lab.name, NODES, 'SIGKILL');
    await agentsBack(lab.name, NODES);
    await ground.openPod(late);
    const [from, to] = [ground.place('y/late'), ground.place('y/a')];
    const asks = to.ips.map((address) => ({ from, to, address, protocol: 'UDP' as const, port: 80 }));
    assert.deepEqual(
      await probe(asks),
      asks.map(() => false),
      'its first packet',
    );
    await ground.expect('without the policy', PROTOCOLS, PORTS);
    await ground.removePod(late);
  });

  it('X30 what is deleted twice leaves nothing in the table', async () => {
    await ground.policies(onlyB());
    await ground.addPods([
      { ns: 'x', pod: 'gone' },
      { labels: { pod: 'b' }, node: 'node-2' },
    ]);
    const ip = ground.ipOf('x/gone');
    await ground.expect('in force', PROTOCOLS, PORTS);
    const listed = async () => {
      const tables = NODES.map((node) =>
        lab.ok('lab', 'exec', node, '--', 'nft', 'list', 'table', 'inet', 'podway-policy'),
      );
      // What was told of it lately may name it for a minute.
      return (await Promise.all(tables)).join('').replaceAll(/\tset flows\w+ \{.*?\n\t\}/gs, '');
    };
    assert.ok((await listed()).includes(ip), 'its address is there');
    await ground.removePod({ ns: 'x', pod: 'gone' });
    const { nodes } = await lab.status();
    const { cniConfDir } = nodes.find(({ name }) => name === 'node-2')!;
    for (let time = 0; time < 2; time++)
      await lab.podway(
        'cni',
        'del',
        '--conf',
        cniConfDir,
        '--netns',
        '/run/netns/pwt-none',
        '--container-id',
        'gone',
      );
    await eventually('nothing names it', async () => !(await listed()).includes(ip));
  });
});
