// No parameter of any action is dropped in silence: the walk over every member of every action's schema.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { honoured } from './actions/honoured.ts';
import { meanings } from './actions/index.ts';
import { type AnyHonours, refuseRest } from './honours.ts';
import { type ActionSchema, loadActionSchemas, type Shape, type StructShape } from './wire/schema.ts';

const lookUp = await loadActionSchemas();
const actions = Object.keys(meanings).sort();
const schemaOf = (action: string): ActionSchema => {
  const schema = lookUp(action);
  assert.ok(schema, `the SDK has no ${action}`);
  return schema;
};
const rulesOf = (action: string): AnyHonours => (honoured as Record<string, AnyHonours>)[action]!;

/** What only in-process callers can say. */
const IN_PROCESS = new Set(['RunInstances.LabAgent']);
const OF_ALL = new Set(['DryRun', 'ClientToken']);
const MAX_DEPTH = 6;

/** A value of that shape that asks for something. */
function asking(shape: Shape, depth = 0): unknown {
  switch (shape.kind) {
    case 'string':
      return 'something';
    case 'number':
      return 1;
    case 'boolean':
      return true;
    case 'timestamp':
      return new Date(0);
    case 'blob':
      return Uint8Array.of(1);
    case 'list':
      return [asking(shape.item(), depth)];
    case 'struct': {
      const first = depth < MAX_DEPTH ? shape.members()[0] : undefined;
      return first ? { [first.name]: asking(first.shape(), depth + 1) } : { some: 1 };
    }
  }
}

const structOf = (shape: Shape): StructShape | undefined => {
  const item = shape.kind === 'list' ? shape.item() : shape;
  return item.kind === 'struct' ? item : undefined;
};

type Case = { path: string; input: object; refused: boolean };

/** One request for each member: of a structure whose members have rules of their own, for each of those. */
function casesOf(
  shape: StructShape,
  rules: AnyHonours,
  prefix: string,
  wrap: (inner: object) => object,
): Case[] {
  return shape.members().flatMap((member): Case[] => {
    const path = prefix + member.name;
    const rule = rules[member.name];
    const inner = member.shape();
    if (rule !== undefined && typeof rule === 'object' && !Array.isArray(rule)) {
      const struct = structOf(inner);
      assert.ok(struct, `${path} is no structure`);
      const within = (value: object) => wrap({ [member.name]: inner.kind === 'list' ? [value] : value });
      return casesOf(struct, rule as AnyHonours, `${path}.`, within);
    }
    const refused =
      !(prefix === '' && OF_ALL.has(member.name)) && (rule === undefined || Array.isArray(rule));
    return [
      { path, input: wrap({ [member.name]: asking(inner) }), refused: refused && !valueIsFine(rule, inner) },
    ];
  });
}

/** `true` asks for what is so anyway where the list of values says so. */
const valueIsFine = (rule: unknown, shape: Shape): boolean =>
  Array.isArray(rule) && rule.includes(asking(shape));

test('every parameter of every action is honoured or refused by name', () => {
  let count = 0;
  for (const action of actions) {
    const rules = rulesOf(action);
    for (const { path, input, refused } of casesOf(schemaOf(action).input, rules, '', (value) => value)) {
      count++;
      const call = () => refuseRest(action, input, rules);
      if (!refused) assert.doesNotThrow(call, `${action} ${path}`);
      else {
        assert.throws(
          call,
          (error: { code?: string; message: string }) =>
            error.code === 'UnsupportedOperation' && error.message.includes(`${action} with ${path}`),
          `${action} drops ${path}`,
        );
      }
    }
  }
  assert.ok(count > 450, `only ${count} parameters were walked`);
});

test('every rule is of a parameter that exists, and a parameter without effect has a reason', () => {
  const check = (action: string, shape: StructShape, rules: AnyHonours, prefix: string): void => {
    const members = new Map(shape.members().map((member) => [member.name, member]));
    for (const [name, rule] of Object.entries(rules)) {
      const path = `${action}.${prefix}${name}`;
      if (IN_PROCESS.has(path)) continue;
      const member = members.get(name);
      assert.ok(member, `${path} does not exist`);
      if (typeof rule === 'string') assert.ok(rule.length > 15, `${path} has no reason`);
      const inner = structOf(member.shape());
      if (inner && typeof rule === 'object' && !Array.isArray(rule))
        check(action, inner, rule as AnyHonours, `${prefix}${name}.`);
    }
  };
  for (const action of actions) check(action, schemaOf(action).input, rulesOf(action), '');
});

test('what asks for nothing is no reason to refuse', () => {
  const rules = rulesOf('RunInstances');
  for (const input of [
    { EbsOptimized: false, Ipv6AddressCount: 0, Ipv6Addresses: [], KernelId: '', HibernationOptions: {} },
    { Monitoring: { Enabled: false }, EnclaveOptions: { Enabled: false }, DryRun: true, ClientToken: 'x' },
    {
      Placement: { Tenancy: 'default', AvailabilityZone: 'us-west-2a' },
      InstanceInitiatedShutdownBehavior: 'stop',
    },
    { CpuOptions: undefined },
  ]) {
    refuseRest('RunInstances', input, rules);
  }
  const message = (action: string, input: object): string => {
    try {
      refuseRest(action, input, rulesOf(action));
    } catch (error) {
      return (error as Error).message;
    }
    return '';
  };
  assert.match(message('RunInstances', { Placement: { Tenancy: 'host' } }), /Placement\.Tenancy=host /);
  assert.match(
    message('RunInstances', {
      NetworkInterfaces: [{ DeviceIndex: 0 }, { DeviceIndex: 1, AssociateCarrierIpAddress: true }],
    }),
    /RunInstances with NetworkInterfaces\.AssociateCarrierIpAddress has no meaning in this VPC\./,
  );
  assert.match(
    message('CreateNetworkInterface', { ConnectionTrackingSpecification: { UdpTimeout: 30 } }),
    /^CreateNetworkInterface with ConnectionTrackingSpecification has no meaning/,
  );
  // An index of 0 names a place; false may mean that something be taken away.
  assert.notEqual(message('ModifySubnetAttribute', { EnableLniAtDeviceIndex: 0 }), '');
  assert.notEqual(message('ModifyNetworkInterfaceAttribute', { AssociatePublicIpAddress: false }), '');
  assert.notEqual(message('ModifyInstanceAttribute', { EnaSupport: { Value: false } }), '');
  assert.equal(message('ModifyInstanceAttribute', { EnaSupport: { Value: true } }), '');
});

/** What the AWS VPC CNI, Cilium's operator and our agent send. */
const ALLOCATORS: [keyof typeof meanings, object][] = [
  ['DescribeNetworkInterfaces', { NetworkInterfaceIds: ['eni-1'] }],
  ['DescribeNetworkInterfaces', { Filters: [{ Name: 'status', Values: ['available'] }], MaxResults: 1000 }],
  [
    'CreateNetworkInterface',
    {
      Description: 'aws-K8S-i-1',
      SubnetId: 'subnet-1',
      Groups: ['sg-1'],
      SecondaryPrivateIpAddressCount: 14,
      Ipv6AddressCount: 0,
      TagSpecifications: [{ ResourceType: 'network-interface', Tags: [{ Key: 'a', Value: 'b' }] }],
      ClientToken: 'once',
    },
  ],
  ['CreateNetworkInterface', { SubnetId: 'subnet-1', Ipv4PrefixCount: 1, InterfaceType: 'interface' }],
  [
    'AttachNetworkInterface',
    { DeviceIndex: 1, InstanceId: 'i-1', NetworkInterfaceId: 'eni-1', NetworkCardIndex: 0 },
  ],
  [
    'ModifyNetworkInterfaceAttribute',
    { NetworkInterfaceId: 'eni-1', Attachment: { AttachmentId: 'a', DeleteOnTermination: true } },
  ],
  ['ModifyNetworkInterfaceAttribute', { NetworkInterfaceId: 'eni-1', Groups: ['sg-1'] }],
  ['DetachNetworkInterface', { AttachmentId: 'eni-attach-1', Force: false }],
  ['DeleteNetworkInterface', { NetworkInterfaceId: 'eni-1' }],
  ['AssignPrivateIpAddresses', { NetworkInterfaceId: 'eni-1', SecondaryPrivateIpAddressCount: 3 }],
  ['AssignPrivateIpAddresses', { NetworkInterfaceId: 'eni-1', Ipv4PrefixCount: 1 }],
  ['UnassignPrivateIpAddresses', { NetworkInterfaceId: 'eni-1', PrivateIpAddresses: ['10.0.0.9'] }],
  ['UnassignPrivateIpAddresses', { NetworkInterfaceId: 'eni-1', Ipv4Prefixes: ['10.0.0.16/28'] }],
  [
    'AssociateAddress',
    { AllocationId: 'eipalloc-1', NetworkInterfaceId: 'eni-1', AllowReassociation: false },
  ],
  ['CreateTags', { Resources: ['eni-1'], Tags: [{ Key: 'a', Value: 'b' }] }],
  ['DescribeInstances', { InstanceIds: ['i-1'] }],
  ['DescribeInstances', { Filters: [{ Name: 'vpc-id', Values: ['vpc-1'] }], MaxResults: 1000 }],
  ['DescribeInstanceTypes', { InstanceTypes: ['m5.large'] }],
  ['DescribeSubnets', { SubnetIds: ['subnet-1'], MaxResults: 1000 }],
  ['DescribeVpcs', { MaxResults: 1000 }],
  ['DescribeSecurityGroups', { MaxResults: 1000 }],
  ['DescribeRouteTables', { MaxResults: 100 }],
  ['DescribeTags', { Filters: [{ Name: 'resource-id', Values: ['i-1'] }] }],
];

test('all that the known allocators send is honoured', () => {
  for (const [action, input] of ALLOCATORS) refuseRest(action, input, rulesOf(action));
});
