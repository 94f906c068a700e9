// Ec2Error: a failure in EC2's own words. `code` is one of EC2's codes, `message` names the object and the limit.
// The wire layer prints it as EC2's error XML; in-process callers of act() catch it as it is.

/** HTTP status by code, for the codes that do not answer 400. Source: EC2 API reference, "Error codes". */
const STATUS: Record<string, number> = {
  AuthFailure: 401,
  ExpiredToken: 403,
  InvalidClientTokenId: 403,
  SignatureDoesNotMatch: 403,
  UnauthorizedOperation: 403,
  DryRunOperation: 412,
  RequestEntityTooLarge: 413,
  InternalError: 500,
  InternalFailure: 500,
  RequestLimitExceeded: 503,
  ServiceUnavailable: 503,
  Unavailable: 503,
};

export class Ec2Error extends Error {
  override name = 'Ec2Error';
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }

  get status(): number {
    return STATUS[this.code] ?? 400;
  }
}

/** Words of one kind of resource as EC2's errors use them; without `malformed`, any unknown text is not found. */
export type ResourceWords = {
  prefix: string;
  notFound: string;
  malformed?: string;
  noun: string;
  /** Text that does not even begin as an id is not found, rather than malformed. */
  anyText?: boolean;
};

export const resourceWords = {
  vpc: {
    prefix: 'vpc',
    notFound: 'InvalidVpcID.NotFound',
    malformed: 'InvalidVpcID.Malformed',
    noun: 'vpc ID',
  },
  subnet: {
    prefix: 'subnet',
    notFound: 'InvalidSubnetID.NotFound',
    malformed: 'InvalidSubnetID.Malformed',
    noun: 'subnet ID',
    anyText: true,
  },
  subnetCidrReservation: {
    prefix: 'scr',
    notFound: 'InvalidSubnetCidrReservationID.NotFound',
    malformed: 'InvalidSubnetCidrReservationID.Malformed',
    noun: 'subnet CIDR reservation ID',
  },
  routeTable: {
    prefix: 'rtb',
    notFound: 'InvalidRouteTableID.NotFound',
    malformed: 'InvalidRouteTableId.Malformed',
    noun: 'routeTable ID',
  },
  internetGateway: {
    prefix: 'igw',
    notFound: 'InvalidInternetGatewayID.NotFound',
    malformed: 'InvalidInternetGatewayId.Malformed',
    noun: 'internetGateway ID',
  },
  egressOnlyInternetGateway: {
    prefix: 'eigw',
    notFound: 'InvalidEgressOnlyInternetGatewayId.NotFound',
    malformed: 'InvalidEgressOnlyInternetGatewayId.Malformed',
    noun: 'egressOnlyInternetGateway ID',
  },
  natGateway: {
    prefix: 'nat',
    notFound: 'NatGatewayNotFound',
    malformed: 'NatGatewayMalformed',
    noun: 'NatGateway',
  },
  allocation: {
    prefix: 'eipalloc',
    notFound: 'InvalidAllocationID.NotFound',
    noun: 'allocation ID',
  },
  securityGroup: {
    prefix: 'sg',
    notFound: 'InvalidGroup.NotFound',
    malformed: 'InvalidGroupId.Malformed',
    noun: 'security group',
  },
  securityGroupRule: {
    prefix: 'sgr',
    notFound: 'InvalidSecurityGroupRuleId.NotFound',
    malformed: 'InvalidSecurityGroupRuleId.Malformed',
    noun: 'security group rule ID',
  },
  networkInterface: {
    prefix: 'eni',
    notFound: 'InvalidNetworkInterfaceID.NotFound',
    malformed: 'InvalidNetworkInterfaceId.Malformed',
    noun: 'networkInterface ID',
  },
  attachment: {
    prefix: 'eni-attach',
    notFound: 'InvalidAttachmentID.NotFound',
    malformed: 'InvalidNetworkInterfaceAttachmentId.Malformed',
    noun: 'attachment ID',
  },
  trunkAssociation: {
    prefix: 'trunk-assoc',
    notFound: 'InvalidTrunkInterfaceAssociationId.NotFound',
    malformed: 'InvalidTrunkInterfaceAssociationId.Malformed',
    noun: 'trunk interface association ID',
  },
  interfacePermission: {
    prefix: 'eni-perm',
    notFound: 'InvalidPermissionID.NotFound',
    malformed: 'InvalidPermissionID.Malformed',
    noun: 'network interface permission ID',
  },
  instance: {
    prefix: 'i',
    notFound: 'InvalidInstanceID.NotFound',
    malformed: 'InvalidInstanceID.Malformed',
    noun: 'instance ID',
  },
  volume: {
    prefix: 'vol',
    notFound: 'InvalidVolume.NotFound',
    malformed: 'InvalidVolumeID.Malformed',
    noun: 'volume',
  },
  networkAcl: {
    prefix: 'acl',
    notFound: 'InvalidNetworkAclID.NotFound',
    malformed: 'InvalidNetworkAclId.Malformed',
    noun: 'networkAcl ID',
  },
  keyPair: { prefix: 'key', notFound: 'InvalidKeyPair.NotFound', noun: 'key pair' },
} as const satisfies Record<string, ResourceWords>;

/** Malformed or not found, for one id or several; several stand in one pair of quotes, as EC2 prints them. */
export function notFound(words: ResourceWords, ids: readonly string[]): Ec2Error {
  const form = new RegExp(`^${words.prefix}-[0-9a-f]{8}([0-9a-f]{9})?$`);
  const bad = ids.find((id) => !form.test(id) && !(words.anyText && !id.startsWith(`${words.prefix}-`)));
  if (bad !== undefined && words.malformed !== undefined) {
    const other = bad.startsWith(`${words.prefix}-`) ? '' : ` (expecting "${words.prefix}-...")`;
    return new Ec2Error(words.malformed, `Invalid id: "${bad}"${other}`);
  }
  const many = ids.length > 1;
  return new Ec2Error(
    words.notFound,
    `The ${words.noun}${many ? 's' : ''} '${ids.join(', ')}' ${many ? 'do' : 'does'} not exist`,
  );
}

export const invalidValue = (message: string): Ec2Error => new Ec2Error('InvalidParameterValue', message);
export const missing = (parameter: string): Ec2Error =>
  new Ec2Error('MissingParameter', `The request must contain the parameter ${parameter}`);
export const conflict = (message: string): Ec2Error => new Ec2Error('InvalidParameterCombination', message);

const isGiven = (value: unknown): boolean =>
  Array.isArray(value) ? value.length > 0 : value !== undefined && value !== null && value !== false;

/** Refuses two ways of saying one thing, of which one would otherwise be dropped. */
export function oneWay<T extends object>(input: T, ...names: (keyof T & string)[]): void {
  const [first, second] = names.filter((name) => isGiven(input[name]));
  if (second !== undefined)
    throw conflict(`The parameter ${second} may not be used in combination with ${first}`);
}

/** The value of a parameter that EC2 demands; an empty list is none. */
export function required<T>(value: T | undefined | null, parameter: string): T {
  if (value === undefined || value === null || value === '') throw missing(parameter);
  if (Array.isArray(value) && value.length === 0) throw missing(parameter);
  return value;
}

/** The Modify...Attribute actions change one attribute at a time. */
export function oneAttribute(values: readonly unknown[]): void {
  const asked = values.filter((value) => value !== undefined).length;
  if (asked === 1) return;
  throw conflict(asked === 0 ? 'No attributes specified.' : 'Fields for multiple attribute types specified');
}
