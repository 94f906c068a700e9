import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { packageRoot } from '../daemon/parts.ts';
import { readSettings } from './settings.ts';
import { defaultShape, shapeDifferences } from './shape.ts';
import { parseLabYaml } from './yaml-rules.ts';

const examples = join(packageRoot, 'examples');
const good = `region: us-west-2
vpcs:
  - name: v
    cidrs: [10.0.0.0/16]
    subnets:
      - { name: a, cidr: 10.0.0.0/24, zone: us-west-2a, routeTable: t }
    routeTables:
      - name: t
        routes:
          - { to: 0.0.0.0/0, via: internet }
    securityGroups:
      - name: g
        ingress:
          - { from: 0.0.0.0/0, protocol: tcp, ports: 80-90 }
instances:
  - { name: n, type: m5.large, subnet: a, securityGroups: [g] }
settings:
  cooldown: 1s
`;

test('every example is a shape', () => {
  for (const file of readdirSync(examples).filter((name) => name.endsWith('.yaml')))
    assert.ok(parseLabYaml(readFileSync(join(examples, file), 'utf8'), file).vpcs.length > 0, file);
});

test('the default example is the default shape', () => {
  const shape = parseLabYaml(readFileSync(join(examples, 'default.yaml'), 'utf8'), 'default.yaml');
  assert.deepEqual(shapeDifferences(defaultShape(), shape), []);
  assert.deepEqual(shape.vpcs, defaultShape().vpcs);
  assert.deepEqual(shape.instances, defaultShape().instances);
});

test('ENIConfigs name subnets and groups of one VPC', () => {
  const withConfig = (text: string) => parseLabYaml(`${good}eniConfigs:\n  - ${text}\n`, 'f').eniConfigs;
  assert.deepEqual(withConfig('{ name: us-west-2a, subnet: a, securityGroups: [g] }'), [
    { name: 'us-west-2a', subnet: 'a', securityGroups: ['g'] },
  ]);
  assert.throws(
    () => withConfig('{ name: x, subnet: b }'),
    /f:\d+: eniConfigs\[0\]\.subnet is "b", which is no subnet/,
  );
  assert.throws(
    () => withConfig('{ name: x, subnet: a, securityGroups: [h] }'),
    /is "h", which is no security group/,
  );
});

test('IPv6 is of labs that have it', () => {
  const with6 = (settings: string, subnet: string, route = '{ to: "::/0", via: internet }') =>
    parseLabYaml(
      `vpcs:
  - name: v
    cidrs: [10.0.0.0/16]
    routeTables: [{ name: t, routes: [${route}] }]
    subnets: [${subnet}]
    securityGroups:
      - { name: g, ingress: [{ from: "::/0", protocol: icmpv6 }, { from: "fd00::/8", protocol: tcp, ports: 80 }] }
settings: { ${settings} }
`,
      'f',
    );
  const native = '{ name: six, ipv6Native: true, zone: us-west-2a }';
  const shape = with6('families: dual', native);
  assert.deepEqual(shape.vpcs[0]!.subnets, [{ name: 'six', cidr: '', ipv6Native: true, zone: 'us-west-2a' }]);
  assert.deepEqual(shape.vpcs[0]!.securityGroups[0]!.ingress[1], {
    protocol: 'tcp',
    peer: 'fd00::/8',
    fromPort: 80,
    toPort: 80,
  });
  assert.throws(
    () => with6('warm: 1', native),
    /the IPv6-only subnet six, which needs settings: families: dual/,
  );
  const plain = '{ name: a, cidr: 10.0.0.0/24, zone: us-west-2a }';
  assert.throws(() => with6('warm: 1', plain), /the route to ::\/0, which needs settings: families/);
  assert.throws(
    () => with6('families: dual', '{ name: six, ipv6Native: true, cidr: 10.0.0.0/24, zone: us-west-2a }'),
    /cidr is of IPv4, which an IPv6-only subnet does not have/,
  );
  assert.throws(
    () => with6('families: dual', plain, '{ to: 0.0.0.0/0, via: egress-only }'),
    /only IPv6 leads by an egress-only gateway/,
  );
  assert.throws(() => with6('families: dual', plain, '{ to: "::1/0", via: internet }'), /host bits/);
  assert.throws(() => with6('families: both', plain), /families is one of ipv4, ipv6, dual/);
});

test('NAT gateways are of a subnet with IPv4, and take IPv6 of 64:ff9b::/96', () => {
  const withGateway = (gateway: string, route: string, settings = 'families: ipv6') =>
    parseLabYaml(
      `vpcs:
  - name: v
    cidrs: [10.0.0.0/16]
    natGateways: [${gateway}]
    routeTables: [{ name: t, routes: [${route}] }]
    subnets:
      - { name: a, cidr: 10.0.0.0/24, zone: us-west-2a, routeTable: t, dns64: true }
      - { name: six, ipv6Native: true, zone: us-west-2a }
settings: { ${settings} }
`,
      'f',
    );
  const out = '{ name: out, subnet: a }';
  const shape = withGateway(
    `${out}, { name: in, subnet: a, private: true }`,
    '{ to: "64:ff9b::/96", via: out }',
  );
  assert.deepEqual(shape.vpcs[0]!.natGateways, [
    { name: 'out', subnet: 'a' },
    { name: 'in', subnet: 'a', private: true },
  ]);
  assert.equal(shape.vpcs[0]!.subnets[0]!.dns64, true);
  const four = '{ to: 0.0.0.0/0, via: out }';
  assert.throws(() => withGateway(out, '{ to: "::/0", via: out }'), /within 64:ff9b::\/96 alone/);
  assert.throws(
    () => withGateway(out, '{ to: 0.0.0.0/0, via: other }'),
    /is "other", neither internet nor an instance, nor a NAT gateway/,
  );
  assert.throws(() => withGateway('{ name: out, subnet: b }', four), /is "b", which this VPC does not have/);
  assert.throws(() => withGateway('{ name: out, subnet: six }', four), /IPv6-only subnet/);
  assert.throws(() => withGateway('{ name: internet, subnet: a }', four), /something else/);
  assert.throws(() => withGateway(`${out}, ${out}`, four), /NAT gateway "out" twice/);
  assert.throws(() => withGateway(out, four, 'warm: 1'), /six, which needs settings/);
});

test('variables of the agents', () => {
  const env = readSettings({ env: 'A=1,2; B={"x":"y"};' }).env;
  assert.deepEqual(env, { A: '1,2', B: '{"x":"y"}' });
  assert.throws(() => readSettings({ env: 'A' }), /NAME=VALUE/);
});

test('a group rule with ports', () => {
  assert.deepEqual(parseLabYaml(good, 'f').vpcs[0]?.securityGroups[0]?.ingress, [
    { protocol: 'tcp', peer: '0.0.0.0/0', fromPort: 80, toPort: 90 },
  ]);
});

test('what EC2 says of a type is read, and is a part of the shape', () => {
  const shape = parseLabYaml(
    `${good}instanceTypes: { m5.large: { enis: 2 }, t3.small: { ipv4PerEni: 2 } }\n`,
    'f',
  );
  assert.deepEqual(shape.instanceTypes, { 'm5.large': { enis: 2 }, 't3.small': { ipv4PerEni: 2 } });
  assert.match(
    shapeDifferences(parseLabYaml(good, 'f'), shape).join(),
    /what EC2 says of types is \[\], asked for \["m5\.large enis=2 ipv4PerEni=","t3\.small enis= ipv4PerEni=2"\]/,
  );
});

const route = '{ to: 0.0.0.0/0, via: internet }';
const rule = '{ from: 0.0.0.0/0, protocol: tcp, ports: 80-90 }';
const TWICE = {
  route: `${route}\n          - ${route}`,
  rule: `${rule}\n          - ${rule}`,
};

const cases: [string, string, string, RegExp][] = [
  ['an unknown key', 'instances:', 'machines:', /^f:15: has an unknown key "machines"/],
  ['no YAML', 'cidrs: [10.0.0.0/16]', 'cidrs: [10.0.0.0/16', /^f:\d+: /],
  [
    'a CIDR that is none',
    '10.0.0.0/24',
    '10.0.0.256/24',
    /^f:6: vpcs\[0\].subnets\[0\].cidr is "10.0.0.256\/24"/,
  ],
  ['host bits in a CIDR', '10.0.0.0/24', '10.0.0.1/24', /^f:6: /],
  ['a subnet outside of its VPC', '10.0.0.0/24', '10.1.0.0/24', /^f:6: .*outside the VPC's 10.0.0.0\/16/],
  ['a subnet that is too small', '10.0.0.0/24', '10.0.0.0/29', /^f:6: .*\/16 to \/28/],
  ['a zone of another region', 'us-west-2a', 'us-east-1a', /^f:6: .*not a zone of us-west-2/],
  ['a route table that is not there', 'routeTable: t', 'routeTable: u', /^f:6: .*no routeTables entry names/],
  ['a route to nobody', 'via: internet', 'via: nobody', /^f:10: .*neither internet nor an instance/],
  [
    'a route to the VPC itself',
    'to: 0.0.0.0/0',
    'to: 10.0.0.0/16',
    /^f:10: .*lies in the VPC's 10.0.0.0\/16/,
  ],
  ['a local route by an instance', '0.0.0.0/0, via: internet', '10.0.0.0/16, via: n', /^f:10: .*local route/],
  [
    'a route to the metadata service',
    'to: 0.0.0.0/0',
    'to: 169.254.169.254/32',
    /^f:10: .*services of the VPC/,
  ],
  [
    'two routes to one place',
    '{ to: 0.0.0.0/0, via: internet }',
    TWICE.route,
    /^f:11: .*has a route already/,
  ],
  [
    'one rule twice',
    '{ from: 0.0.0.0/0, protocol: tcp, ports: 80-90 }',
    TWICE.rule,
    /^f:15: .*a rule before it/,
  ],
  ['a second document', 'settings:\n', '---\nsettings:\n', /^f:17: is a second document/],
  ['a rule for nobody', 'from: 0.0.0.0/0', 'from: friends', /^f:14: .*neither a CIDR nor a security group/],
  ['ports of icmp', 'protocol: tcp', 'protocol: icmp', /^f:14: .*only tcp and udp have ports/],
  ['ports out of order', '80-90', '90-80', /^f:14: /],
  ['a subnet that is not there', 'subnet: a', 'subnet: z', /^f:16: .*which no VPC has/],
  ['a group that is not there', '[g]', '[h]', /^f:16: .*which VPC v does not have/],
  ['a name of the lab itself', 'name: n,', 'name: vpc,', /^f:16: .*the lab uses itself/],
  ['a type that is not there', 'm5.large', 'm5.tiny', /^f:16: .*no instance type/],
  ['a bad setting', 'cooldown: 1s', 'cooldown: soon', /^f:18: .*duration/],
];
const subnetKeys = (more: string): [string, string] => ['routeTable: t }', `routeTable: t, ${more} }`];
cases.push(
  ['a tag that names', ...subnetKeys('tags: { Name: b }'), /^f:6: .*tags\.Name is not needed/],
  ["a tag of AWS's", ...subnetKeys('tags: { "aws:x": b }'), /^f:6: .*users cannot set/],
  ['tags that are none', ...subnetKeys('tags: [a]'), /^f:6: .*is not a map/],
  [
    'a reservation outside',
    ...subnetKeys('reservations: [{ cidr: 10.0.1.0/28, type: prefix }]'),
    /^f:6: .*reservations\[0\]\.cidr is 10\.0\.1\.0\/28, outside the subnet's 10\.0\.0\.0\/24/,
  ],
  [
    'a reservation of another type',
    ...subnetKeys('reservations: [{ cidr: 10.0.0.0/28, type: manual }]'),
    /^f:6: .*type is "manual", not one of prefix, explicit/,
  ],
  [
    'a reservation too small for prefixes',
    ...subnetKeys('reservations: [{ cidr: 10.0.0.16/29, type: prefix }]'),
    /^f:6: .*too small/,
  ],
  [
    'two reservations of one address',
    ...subnetKeys(
      'reservations: [{ cidr: 10.0.0.16/28, type: prefix }, { cidr: 10.0.0.20/32, type: explicit }]',
    ),
    /^f:6: .*overlaps the reservation 10\.0\.0\.16\/28/,
  ],
  ['a held address outside', ...subnetKeys('held: [10.0.1.9]'), /^f:6: .*held\[0\] is 10\.0\.1\.9, outside/],
  ["a held address of AWS's", ...subnetKeys('held: [10.0.0.3]'), /^f:6: .*AWS keeps/],
  ['an address held twice', ...subnetKeys('held: [10.0.0.9, 10.0.0.9]'), /^f:6: .*held already/],
  [
    'reservations without room for an instance',
    ...subnetKeys('reservations: [{ cidr: 10.0.0.0/24, type: explicit }]'),
    /^f:16: .*puts 1 into subnet a, which has 0/,
  ],
  [
    'a second CIDR of another private range',
    'cidrs: [10.0.0.0/16]',
    'cidrs: [10.0.0.0/16, 172.16.0.0/16]',
    /^f:4: .*172\.16\.0\.0\/16, which this VPC cannot have: .*none from 172\.16\.0\.0\/12/,
  ],
);
const types = (text: string): [string, string] => ['settings:', `instanceTypes: ${text}\nsettings:`];
cases.push(
  ['a type that nobody has', ...types('{ m5.tiny: { enis: 2 } }'), /^f:17: instanceTypes\.m5\.tiny is no/],
  ['a type without numbers', ...types('{ m5.large: {} }'), /^f:17: .*neither enis nor ipv4PerEni/],
  [
    'a number of ENIs that is none',
    ...types('{ m5.large: { enis: 0 } }'),
    /^f:17: .*enis is "0", not a whole/,
  ],
  ['another key of a type', ...types('{ m5.large: { cpus: 2 } }'), /^f:17: .*unknown key "cpus"/],
);
const impossible = [
  ['0.0.0.0/16', /this network/],
  ['127.0.0.0/16', /loopback/],
  ['169.254.0.0/16', /link-local/],
  ['224.0.0.0/16', /multicast/],
  ['239.255.0.0/16', /multicast/],
  ['255.255.0.0/16', /reserved/],
  ['198.18.0.0/16', /the lab's own/],
  ['198.19.4.0/24', /the lab's own/],
  ['203.0.113.0/24', /the lab's own/],
  ['203.0.0.0/16', /the lab's own/],
] as const;
for (const [cidr, why] of impossible)
  cases.push([
    `a VPC of ${cidr}`,
    '10.0.0.0/16',
    cidr,
    new RegExp(`^f:4: .*no VPC can have: .*${why.source}`),
  ]);

test('a file without a word in it says what it lacks', () => {
  for (const text of ['', '\n\n', '# nothing\n', '---\n', 'null\n', '---\n...\n'])
    assert.throws(
      () => parseLabYaml(text, 'f'),
      /^LabError: f:1: the file is empty: a lab has at least one VPC$/,
    );
});

for (const [what, from, to, says] of cases) {
  test(`refused with line and reason: ${what}`, () => {
    assert.ok(good.includes(from));
    assert.throws(
      () => parseLabYaml(good.replace(from, to), 'f'),
      (error: Error) => {
        assert.match(error.message, says);
        return true;
      },
    );
  });
}

test('a subnet holds as many instances as it has addresses to give', () => {
  const file = (count: number) => {
    const more = Array.from({ length: count - 1 }, (_, i) => `  - { name: n${i}, subnet: a }\n`).join('');
    return good.replace('10.0.0.0/24', '10.0.0.0/28').replace('settings:', `${more}settings:`);
  };
  assert.equal(parseLabYaml(file(11), 'f').instances.length, 11);
  assert.throws(
    () => parseLabYaml(file(12), 'f'),
    /^LabError: f:16: instances puts 12 into subnet a, which has 11/,
  );
});
