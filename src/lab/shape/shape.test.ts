import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkSettingsFor, parseSettingArguments, readSettings } from './settings.ts';
import { checkCluster, defaultShape, flagDifferences, shapeDifferences, withDemo } from './shape.ts';

test('the default shape has nodes round robin over two subnets', () => {
  const shape = defaultShape({ nodes: 3 });
  assert.deepEqual(
    shape.instances.map((each) => [each.name, each.type, each.subnet]),
    [
      ['node-1', 'm5.large', 'subnet-a'],
      ['node-2', 'm5.large', 'subnet-b'],
      ['node-3', 'm5.large', 'subnet-a'],
    ],
  );
  assert.deepEqual(
    shape.vpcs[0]?.subnets.map((each) => each.cidr),
    ['10.0.0.0/19', '10.0.32.0/19'],
  );
});

test('what a flag does not ask for is no difference', () => {
  const present = defaultShape({ nodes: 3, settings: { cooldown: '5s' } });
  assert.deepEqual(flagDifferences(present, {}), []);
  assert.deepEqual(flagDifferences(present, { nodes: 3, settings: { cooldown: '5000ms' } }), []);
  assert.deepEqual(flagDifferences(withDemo(present), { nodes: 3 }), []);
});

test('a difference names both sides', () => {
  const present = defaultShape();
  const cases: [Parameters<typeof flagDifferences>[1], RegExp][] = [
    [{ nodes: 4 }, /2 nodes, asked for 4/],
    [{ instanceType: 'm5.xlarge' }, /node-1 is m5.large, asked for m5.xlarge/],
    [{ settings: { warm: '9' } }, /setting warm is by the forecast \(default\), asked for 9/],
  ];
  for (const [flags, says] of cases) assert.match(flagDifferences(present, flags).join(), says);
});

test('a whole shape is compared in whole, its demo left out', () => {
  const present = withDemo(defaultShape());
  assert.deepEqual(shapeDifferences(present, defaultShape()), []);
  const other = defaultShape();
  other.vpcs[0]!.cidrs = ['10.1.0.0/16'];
  assert.match(
    shapeDifferences(present, other).join(),
    /CIDRs is \["10.0.0.0\/16"\], asked for \["10.1.0.0\/16"\]/,
  );
});

test("a subnet's tags, reservations and held addresses are compared, whatever their order", () => {
  const [present, other] = [defaultShape(), defaultShape()];
  const [is, asked] = [present.vpcs[0]!.subnets[0]!, other.vpcs[0]!.subnets[0]!];
  is.tags = { a: '1', b: '2' };
  asked.tags = { b: '2', a: '1' };
  is.reservations = [
    { cidr: '10.0.1.0/24', type: 'prefix' },
    { cidr: '10.0.2.0/24', type: 'explicit' },
  ];
  asked.reservations = is.reservations.toReversed();
  is.held = ['10.0.3.9', '10.0.3.8'];
  asked.held = ['10.0.3.8', '10.0.3.9'];
  assert.deepEqual(shapeDifferences(present, other), []);
  asked.tags = { a: '2' };
  asked.reservations = [];
  asked.held = [];
  const differences = shapeDifferences(present, other);
  assert.equal(differences.length, 3);
  assert.match(differences.join(), /tags is {"a":"1","b":"2"}, asked for {"a":"2"}/);
  assert.match(differences.join(), /reservations is \["10.0.1.0\/24 prefix","10.0.2.0\/24 explicit"\]/);
  assert.match(differences.join(), /held is \["10.0.3.8","10.0.3.9"\], asked for \[\]/);
});

test('settings: texts to values, and refusals that state the rule', () => {
  assert.equal(readSettings(parseSettingArguments(['cooldown=500ms'])).cooldownMs, 500);
  assert.equal(readSettings({ warm: '5' }).warm, 5);
  assert.equal(readSettings({}).warm, undefined);
  assert.equal(readSettings({}).podMtu, undefined);
  const cidrs = ['192.168.0.0/16', '100.64.0.0/10'];
  assert.deepEqual(readSettings({ excludeSnatCidrs: cidrs.join(', ') }).excludeSnatCidrs, cidrs);
  const refused: [string, RegExp][] = [
    ['cooldown', /not KEY=VALUE/],
    ['cooldown=soon', /duration/],
    ['podMtu=90000', /576 to 9001/],
    ['snat=yes', /node, none, random/],
    ['colour=red', /no setting "colour"/],
    ['excludeSnatCidrs=192.168.0.0', /list of IPv4 CIDRs/],
    ['excludeSnatCidrs=192.168.0.0/33', /list of IPv4 CIDRs/],
    ['excludeSnatCidrs=999.0.0.0/8', /list of IPv4 CIDRs/],
    ['excludeSnatCidrs=192.168.0.1/16', /without host bits/],
    ['excludeSnatCidrs=fd00::/8', /list of IPv4 CIDRs/],
  ];
  for (const [argument, says] of refused) {
    assert.throws(
      () => parseSettingArguments([argument]),
      (error: Error & { exit?: number }) => says.test(error.message) && error.exit === 2,
    );
  }
});

test('families that the machine or the cluster cannot have are refused', () => {
  checkSettingsFor(false, { families: 'ipv6' }, true);
  checkSettingsFor(true, { families: 'dual' }, true);
  checkSettingsFor(false, { families: 'ipv4' }, false);
  checkSettingsFor(false, {}, false);
  assert.throws(() => checkSettingsFor(false, { families: 'dual' }, false), /families=dual needs IPv6/);
  assert.throws(() => checkSettingsFor(true, { families: 'ipv6' }, true), /families ipv4 or dual/);
});

test('a real Kubernetes has no instance of IPv6 alone', () => {
  const shape = defaultShape({ settings: { families: 'dual' } });
  const [vpc] = shape.vpcs;
  vpc!.subnets[1] = { ...vpc!.subnets[1]!, cidr: '', ipv6Native: true };
  checkCluster(shape);
  assert.throws(
    () => checkCluster({ ...shape, kubernetes: { version: 'v1.36.3' } }),
    /node-2 has IPv6 alone/,
  );
});

test('another family is another shape', () => {
  const dual = defaultShape({ settings: { families: 'dual' } });
  assert.deepEqual(flagDifferences(dual, { settings: { families: 'dual' } }), []);
  assert.match(
    flagDifferences(defaultShape(), { settings: { families: 'dual' } }).join(),
    /setting families is ipv4 \(default\), asked for dual/,
  );
});
