import assert from 'node:assert/strict';
import { test } from 'node:test';
import { emptyVpcState, type NetworkInterface, type SecurityGroup } from '../vpc/model.ts';
import { planQuestions } from './connectivity.ts';
import { closedGate } from './gates.ts';
import { compareWithApi } from './ipam.ts';
import type { IpamNode, NodeView, PodView } from './protocol.ts';

const pod = (name: string, node: string, ip: string): PodView => ({
  namespace: 'default',
  name,
  node,
  ips: [ip],
  phase: 'Running',
  netns: name,
  netnsPath: `/run/netns/${name}`,
});
const node = (name: string, ip: string, publicIp?: string): NodeView => ({
  name,
  instanceId: `i-${name}`,
  instanceType: 'm5.large',
  state: 'running',
  ips: [ip],
  publicIps: publicIp ? [publicIp] : [],
  netns: name,
  netnsPath: `/run/netns/${name}`,
  ready: true,
  zone: 'z',
  cniConfDir: '',
  cniBinDir: '',
  agentSocket: '',
});
const nodes = [node('node-1', '10.0.0.4', '198.18.0.1'), node('node-2', '10.0.32.4', '198.18.0.2')];
const pods = [
  pod('a', 'node-1', '10.0.0.6'),
  pod('b', 'node-1', '10.0.0.7'),
  pod('c', 'node-2', '10.0.32.6'),
];
const places = {
  pods,
  nodes,
  db: undefined,
  gatewayOf: (_: NodeView, family: 4 | 6) => (family === 4 ? '10.0.0.1' : 'fd00::1'),
  leadsOut6: () => true,
  seenOf: (node: NodeView) => node.publicIps[0],
  toIpv4: () => ({ address: 'ipv4.internet.podway.test', seen: '198.18.0.1' }),
  instanceLog: () => '/log',
  internetNetns: '',
};

test('questions ask for the address that each side must see', () => {
  const questions = planQuestions({ ...places, db: { ...nodes[0]!, name: 'db', ips: ['10.0.0.9'] } });
  const expected = new Map(questions.map((each) => [each.name, each.expected]));
  assert.equal(expected.get('pod-to-pod-same-node'), 'b 10.0.0.6');
  assert.equal(expected.get('pod-to-pod-across-nodes'), 'c 10.0.0.6');
  assert.equal(expected.get('node-to-pod-across-nodes'), 'a 10.0.32.4');
  assert.equal(expected.get('instance-to-pod'), 'a 10.0.0.9');
  assert.equal(expected.get('pod-to-internet'), 'internet 198.18.0.1');
  assert.equal(expected.get('pod-to-imds'), 'i-node-1');
  assert.equal(questions.filter((each) => each.log).length, 2);
});

test('each family is asked for what has an address of it', () => {
  const two = (place: PodView, six: string) => ({ ...place, ips: [...place.ips, six] });
  const dual = planQuestions({
    ...places,
    pods: [two(pods[0]!, 'fd00::6'), two(pods[1]!, 'fd00::7'), two(pods[2]!, 'fd00:0:0:1::6')],
    nodes: [
      { ...nodes[0]!, ips: ['10.0.0.4', 'fd00::4'] },
      { ...nodes[1]!, ips: ['10.0.32.4', 'fd00:0:0:1::4'] },
    ],
    db: { ...nodes[0]!, name: 'db', ips: ['10.0.0.9'] },
  });
  const four = dual.filter((each) => !each.name.endsWith('-ipv6'));
  const six = new Map(dual.filter((each) => !four.includes(each)).map((each) => [each.name, each]));
  assert.deepEqual(
    four.map((each) => each.name),
    planQuestions({ ...places, db: { ...nodes[0]!, name: 'db', ips: ['10.0.0.9'] } }).map(
      (each) => each.name,
    ),
  );
  assert.equal(six.get('pod-to-pod-across-nodes-ipv6')!.expected, 'c fd00::6');
  assert.equal(six.get('node-to-pod-across-nodes-ipv6')!.expected, 'a fd00:0:0:1::4');
  assert.equal(six.get('pod-to-router-ipv6')!.expected, 'reply from fd00::1');
  assert.equal(six.get('pod-to-internet-ipv6')!.expected, 'internet fd00::6');
  assert.deepEqual(six.get('pod-to-imds-ipv6')!.args.slice(0, 2), ['imds', 'fd00:ec2::254']);
  assert.equal(six.has('pod-to-instance-ipv6'), false, 'db has no IPv6');
  const only = planQuestions({
    ...places,
    pods: [{ ...pods[0]!, ips: ['fd00::6'] }],
    nodes: [{ ...nodes[0]!, ips: ['10.0.0.4', 'fd00::4'] }],
  });
  assert.ok(only.every((each) => each.name.endsWith('-ipv6')));
  const ipv4 = 'pod-to-ipv4-internet-ipv6';
  assert.equal(only.find((each) => each.name === ipv4)!.args[1], 'ipv4.internet.podway.test');
  assert.equal(six.has(ipv4), false, 'a pod of both families has its own way');
});

test('what is not there is not asked', () => {
  assert.deepEqual(planQuestions({ ...places, pods: [] }), []);
  const alone = planQuestions({ ...places, pods: pods.slice(0, 1), nodes: nodes.slice(0, 1) }).map(
    (each) => each.name,
  );
  assert.deepEqual(alone, [
    'node-to-own-pod',
    'pod-to-router',
    'pod-to-internet',
    'node-to-imds',
    'pod-to-imds',
  ]);
});

const group = (id: string, rules: Partial<SecurityGroup['rules'][number]>[]): SecurityGroup => ({
  id,
  vpcId: 'vpc',
  name: id.slice(3),
  description: '',
  tags: {},
  rules: rules.map((rule, index) => ({
    id: `sgr-${index}`,
    direction: 'ingress',
    protocol: '-1',
    peer: { kind: 'cidr', cidr: '0.0.0.0/0' },
    ...rule,
  })),
});
const eni = (id: string, ip: string, groupId: string) =>
  ({
    id,
    privateIps: [ip],
    ipv6Addresses: [],
    ipv4Prefixes: [],
    ipv6Prefixes: [],
    groupIds: [groupId],
  }) as unknown as NetworkInterface;

test('a closed gate is named by its group', () => {
  const open = { direction: 'egress' as const };
  const state = {
    ...emptyVpcState('r', []),
    networkInterfaces: { x: eni('x', '10.0.0.1', 'sg-a'), y: eni('y', '10.0.0.2', 'sg-b') },
    securityGroups: {
      'sg-a': group('sg-a', [open]),
      'sg-b': group('sg-b', [
        { protocol: 'tcp', fromPort: 80, toPort: 90, peer: { kind: 'group', groupId: 'sg-a' } },
      ]),
    },
  };
  const flow = (port: number, protocol: 'tcp' | 'udp' = 'tcp') =>
    closedGate(state, { from: '10.0.0.1', to: '10.0.0.2', protocol, port });
  assert.equal(flow(80), undefined);
  assert.match(flow(91) ?? '', /no ingress rule of security group b \(sg-b\) allows tcp 91 from 10.0.0.1/);
  assert.match(flow(80, 'udp') ?? '', /no ingress rule/);
  assert.match(
    closedGate(state, { from: '10.0.0.2', to: '10.0.0.1', protocol: 'icmp' }) ?? '',
    /no egress rule of security group b/,
  );
});

test('agents and API are compared by address and container', () => {
  const shown = (ip: string, containerId: string, name?: string): IpamNode => ({
    node: 'node-1',
    instanceType: '',
    family: 'ipv4',
    limits: { enis: 3, ipv4PerEni: 10, pods: 29 },
    addressing: 'secondary' as const,
    warm: { target: 0, cooldownSeconds: 0 },
    totals: { held: 1, free: 0, cooling: 0, quarantined: 0, foreign: 0 },
    enis: [
      {
        id: 'e',
        deviceIndex: 0,
        networkCard: 0,
        mac: '',
        ifname: '',
        subnetId: '',
        type: '',
        trunk: false,
        primaryIp: '',
        prefixes: [],
        addresses: [{ ip, state: 'held', containerId, ...(name ? { pod: name } : {}) }],
      },
    ],
  });
  const sandbox = (containerId: string) =>
    ({ containerId, state: 'made', hostNetwork: false, netns: '' }) as never;
  const object = {
    metadata: { name: 'a', namespace: 'default' },
    spec: { containers: [] },
    status: { podIP: '10.0.0.6', podIPs: [{ ip: '10.0.0.6' }] },
  };
  const kinds = (nodes: IpamNode[], container?: string) =>
    compareWithApi(nodes, container ? [{ pod: object, sandbox: sandbox(container) }] : []).map(
      (each) => each.kind,
    );
  assert.deepEqual(kinds([shown('10.0.0.6', 'c1')], 'c1'), []);
  const taken = shown('10.0.0.6', 'c1');
  taken.enis[0]!.addresses[0]!.state = 'quarantined';
  assert.deepEqual(kinds([taken], 'c1'), [], 'EC2 took it from its holder: its agent tells that');
  const astray = { ...taken, enis: [], astray: taken.enis[0]!.addresses };
  assert.deepEqual(kinds([astray], 'c1'), [], 'and its ENI with it');
  assert.deepEqual(kinds([shown('10.0.0.7', 'c1')], 'c1'), ['not-held']);
  assert.deepEqual(kinds([shown('10.0.0.6', 'c2')], 'c1'), ['held-by-other']);
  assert.deepEqual(kinds([shown('10.0.0.6', 'c2', 'default/a')]), ['no-pod']);
  assert.deepEqual(kinds([shown('10.0.0.6', 'cnitool')]), [], 'an attachment without a pod is nobody’s leak');
});
