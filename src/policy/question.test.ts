import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseIp } from '../base/ip.ts';
import { decodeNetworkPolicy } from './decode.ts';
import { decodeClusterNetworkPolicy } from './decode-cluster.ts';
import { lint } from './lint.ts';
import { listPolicies } from './list.ts';
import { type PodView, SCTP, TCP, UDP } from './model.ts';
import { parseEnd, parseTarget, traceIn } from './question.ts';
import { translated } from './translated.ts';
import type { ReadWorld } from './world.ts';

const pod = (namespace: string, name: string, at: number, over: Partial<PodView> = {}): PodView => ({
  ...{
    namespace,
    name,
    uid: name,
    labels: { app: name },
    node: 'node-1',
    ips: [parseIp(`10.0.0.${at}`)],
    ports: [],
  },
  ...{ hostNetwork: false, ended: false },
  ...over,
});
const np = (namespace: string, name: string, spec: unknown) => {
  const source = { metadata: { namespace, name }, spec };
  return { ...decodeNetworkPolicy(source), source, namespace, name };
};
const world = (decoded: ReadWorld['decoded'], pods: PodView[]): ReadWorld => ({
  decoded,
  pods,
  namespaces: new Map([
    ['shop', {}],
    ['kube-system', { 'kubernetes.io/metadata.name': 'kube-system' }],
  ]),
  nodes: new Map([
    ['node-1', [parseIp('10.0.1.1')]],
    ['node-2', [parseIp('10.0.1.2')]],
  ]),
});

describe('a question', () => {
  it('is read from text', () => {
    assert.deepEqual(parseEnd('web', 'shop'), { kind: 'pod', namespace: 'shop', name: 'web' });
    assert.deepEqual(parseEnd('a/web', 'shop'), { kind: 'pod', namespace: 'a', name: 'web' });
    assert.deepEqual(parseEnd('node/node-1', 'shop'), { kind: 'node', name: 'node-1' });
    assert.deepEqual(parseEnd('10.0.0.1', 'shop'), { kind: 'address', ip: parseIp('10.0.0.1') });
    const target = (text: string) => {
      const { end, protocol, port } = parseTarget(text, 'shop');
      return [end.kind, protocol, port];
    };
    assert.deepEqual(target('db:5432'), ['pod', TCP, 5432]);
    assert.deepEqual(target('a/db:53/UDP'), ['pod', UDP, 53]);
    assert.deepEqual(target('db:9/sctp'), ['pod', SCTP, 9]);
    assert.deepEqual(target('db'), ['pod', 1, null]);
    assert.deepEqual(target('db/icmp'), ['pod', 1, null]);
    assert.deepEqual(target('[fd00::1]:80'), ['address', TCP, 80]);
    assert.deepEqual(target('fd00::1'), ['address', 1, null]);
    assert.throws(() => parseTarget('db:0', 'shop'), /port 0 is not from 1 to 65535/);
    assert.throws(() => parseTarget('db:80/tls', 'shop'), /"tls" is not tcp, udp or sctp/);
    assert.throws(() => parseEnd('a/b/c', 'shop'), /is not \[NAMESPACE\/\]POD/);
  });

  const deny = np('shop', 'deny', { podSelector: {} });
  const pods = [pod('shop', 'web', 1), pod('shop', 'db', 2, { node: 'node-2' })];
  const ask = (from: string, to: string) =>
    traceIn(world([deny], pods), parseEnd(from, 'shop'), parseTarget(to, 'shop'));

  it('is answered with the policy that decides', () => {
    assert.equal(ask('web', 'db:5432').verdict, 'deny');
    assert.equal(ask('web', 'db:5432').ingress.object, 'networkpolicy shop/deny');
    assert.equal(ask('10.0.0.1', '10.0.0.2:80').verdict, 'deny');
    assert.equal(ask('203.0.113.1', 'db:80').verdict, 'deny');
    assert.equal(ask('web', '203.0.113.1:443').verdict, 'allow');
  });

  it("knows the pod's own node from others", () => {
    assert.equal(ask('node/node-1', 'web:80').verdict, 'allow');
    assert.match(ask('node/node-1', 'web:80').notes[0]!, /node that it runs on/);
    assert.equal(ask('node/node-2', 'web:80').verdict, 'deny');
  });

  it('without an end is refused by name', () => {
    assert.throws(() => ask('nobody', 'db:80'), /there is no pod shop\/nobody/);
    assert.throws(() => ask('node/x', 'db:80'), /there is no node x/);
  });

  it('about what is translated says so', () => {
    const metadata = { namespace: 'shop', name: 'db' };
    const ports = [{ port: 80, nodePort: 30_080, protocol: 'TCP' as const }];
    const containers = [{ name: 'c', image: 'c', ports: [{ containerPort: 80, hostPort: 81 }] }];
    const spec = { nodeName: 'node-2', containers };
    const its = translated(
      [
        { metadata, spec: { clusterIPs: ['172.20.0.9', 'fd00::9'], ports } },
        { metadata, spec: { clusterIP: 'None' } },
      ],
      [
        { metadata, spec },
        { metadata, spec: { ...spec, nodeName: 'node-1', hostNetwork: true } },
      ],
    );
    const about = (to: string) =>
      traceIn({ ...world([deny], pods), translated: its }, parseEnd('web', 'shop'), parseTarget(to, 'shop'));
    assert.throws(() => about('172.20.0.9:80'), /172\.20\.0\.9 is an address of Service shop\/db/);
    assert.throws(() => about('[fd00::9]:80'), /is an address of Service shop\/db/);
    assert.match(about('10.0.1.2:30080').notes[0]!, /port 30080\/tcp of node-2 belongs to Service shop\/db/);
    assert.match(about('node/node-2:81').notes[0]!, /port 81\/tcp of node-2 belongs to pod shop\/db/);
    for (const own of ['10.0.1.2:30080/udp', '10.0.1.2:80', '10.0.1.2', 'db:30080', '203.0.113.1:81'])
      assert.deepEqual(about(own).notes, [], own);
    assert.doesNotMatch(about('10.0.1.1:81').notes.join(), /belongs/);
  });
});

describe('lint', () => {
  const kinds = (decoded: ReadWorld['decoded'], pods: PodView[]) =>
    lint(world(decoded, pods)).map(({ kind, text }) => `${kind}: ${text}`);
  const dns = pod('kube-system', 'dns', 9, { labels: { 'k8s-app': 'kube-dns' } });
  const web = pod('shop', 'web', 1);

  it('says what hardly was meant', () => {
    assert.deepEqual(kinds([np('shop', 'p', { podSelector: { matchLabels: { app: 'nobody' } } })], [web]), [
      'selects-nothing: no pod has the labels of its podSelector',
    ]);
    assert.deepEqual(
      kinds([np('shop', 'p', { podSelector: {}, ingress: [{ ports: [{ port: 'http' }] }] })], [web]),
      ['no-such-port: rule 0 of ingress names the port http/tcp, which no pod has: it matches nothing'],
    );
    assert.deepEqual(
      kinds(
        [np('shop', 'p', { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '10.1.0.0/8' } }] }] })],
        [web],
      ),
      ['host-bits: 10.1.0.0/8 is read as 10.0.0.0/8'],
    );
    assert.deepEqual(kinds([np('shop', 'p', { podSelector: {}, policyTypes: ['Egress'] })], [web, dns]), [
      "isolates-dns: shop/web cannot ask the cluster's DNS: allow egress to port 53 of kube-system",
    ]);
    assert.deepEqual(
      kinds([np('shop', 'p', { podSelector: {}, ingress: [{ ports: [{ endPort: 5 }] }] })], [web]),
      ['refused: spec.ingress[0].ports[0].endPort: 5 needs a port beside it'],
    );
  });

  it('says which name of a port no pod has by any protocol', () => {
    const named = (name: string) => {
      const source = {
        metadata: { name: 'c' },
        spec: {
          ...{ tier: 'Admin', priority: 1, subject: { namespaces: {} } },
          ingress: [
            { action: 'Accept', from: [{ namespaces: {} }], protocols: [{ destinationNamedPort: name }] },
          ],
        },
      };
      return { ...decodeClusterNetworkPolicy(source), source, namespace: null, name: 'c' };
    };
    const server = pod('shop', 'web', 1, { ports: [{ name: 'http', port: 80, protocol: TCP }] });
    assert.deepEqual(kinds([named('http')], [server]), []);
    assert.deepEqual(kinds([named('https')], [server]), [
      'no-such-port: rule 0 of ingress names the port https, which no pod has: it matches nothing',
    ]);
  });

  it('says which namespace has a mode that nobody knows', () => {
    const labelled = (word: string) =>
      lint({ ...world([], [web]), namespaces: new Map([['shop', { 'podway.dev/policy': word }]]) });
    assert.deepEqual(labelled('audit'), []);
    assert.deepEqual(labelled('Audit'), [
      {
        object: 'namespace shop',
        kind: 'unknown-mode',
        text: 'its label podway.dev/policy is "Audit", not enforce, audit, off: it counts as none',
      },
    ]);
  });

  it('says which rule leaves nothing to another, and which protocol is missing', () => {
    const to = (rules: unknown[]) => np('shop', 'p', { podSelector: {}, ingress: rules });
    const peer = { podSelector: { matchLabels: { app: 'x' } } };
    assert.deepEqual(kinds([to([{ from: [peer] }, { from: [peer], ports: [{ port: 80 }] }])], [web]), [
      'shadowed: rule 1 of ingress adds nothing: rule 0 matches all that it matches',
    ]);
    assert.deepEqual(
      kinds([to([{ from: [peer], ports: [{ port: 80 }] }, { ports: [{ port: 80, endPort: 90 }] }])], [web]),
      ['shadowed: rule 0 of ingress adds nothing: rule 1 matches all that it matches'],
    );
    assert.deepEqual(
      kinds(
        [
          to([
            { from: [peer], ports: [{ port: 80 }] },
            { from: [peer], ports: [{ port: 81 }] },
          ]),
        ],
        [web],
      ),
      [],
    );
    const quic = pod('shop', 'quic', 3, { ports: [{ name: 'q', protocol: UDP, port: 443 }] });
    assert.deepEqual(kinds([to([{ ports: [{ port: 443 }] }])], [quic]), [
      'protocol: rule 0 of ingress opens 443/tcp, which its pods serve by udp',
    ]);
    const out = np('shop', 'p', {
      podSelector: {},
      policyTypes: ['Egress'],
      egress: [{ ports: [{ port: 53 }] }],
    });
    assert.deepEqual(kinds([out], [web]), [
      'protocol: rule 0 of egress opens 53/tcp and no rule opens it by udp, by which DNS is asked',
    ]);
  });

  it('says when the API server cannot reach what it calls', () => {
    const services = [{ by: 'webhook w', namespace: 'shop', selector: { app: 'web' }, ports: ['https'] }];
    const called = { from: [parseIp('10.0.9.9')], services };
    const hook = pod('shop', 'web', 1, { ports: [{ name: 'https', protocol: TCP, port: 8443 }] });
    const said = (spec: object) =>
      lint({ ...world([np('shop', 'p', { podSelector: {}, ...spec })], [hook]), called }).map(
        ({ kind, text }) => `${kind}: ${text}`,
      );
    assert.deepEqual(said({}), [
      'isolates-called: shop/web serves webhook w, and the API server (10.0.9.9) does not reach it on 8443/tcp: allow its addresses by an ipBlock',
    ]);
    assert.deepEqual(said({ ingress: [{ from: [{ ipBlock: { cidr: '10.0.9.9/32' } }] }] }), []);
  });

  it('says nothing of a policy that is as it should be', () => {
    const good = np('shop', 'p', {
      podSelector: {},
      policyTypes: ['Egress'],
      egress: [{ ports: [{ protocol: 'UDP', port: 53 }] }],
    });
    assert.deepEqual(kinds([good], [web, dns]), []);
  });

  it('lists policies with the pods that they select', () => {
    const [row] = listPolicies(world([np('shop', 'p', { podSelector: {}, ingress: [{}] })], [web, dns]));
    assert.deepEqual(row, {
      namespace: 'shop',
      name: 'p',
      tier: 'networkpolicy',
      priority: null,
      directions: ['ingress'],
      pods: 1,
      rules: 1,
      problems: [],
    });
  });
});
