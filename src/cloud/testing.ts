// A cloud in memory for tests: subnets, one instance, interfaces, EC2's limits and error codes, tags, client tokens.
// `before` and `after` hooks see every call, so that a test can delay, fail or cut a call before or after its effect;
// describes may be made to lag. It is as strict as EC2: an address is held once, limits hold, what is in use stays, and
// a prefix needs sixteen free addresses in one aligned block.
import { addToIp, type Cidr, cidrSize, formatCidr, type Ipv4, parseCidr } from '../base/ip.ts';
import { localMac } from '../base/mac.ts';
import {
  type Blocks,
  type Cloud,
  CloudError,
  type CreateEni,
  type EniDescription,
  type EniId,
} from './port.ts';

export type FakeSettings = {
  subnets?: Record<string, string>;
  enis?: number;
  ipv4PerEni?: number;
  /** Called before a call has its effect; throwing leaves the cloud as it was. */
  before?: (action: string) => unknown;
  /** Called after a call has had its effect; throwing loses the answer. */
  after?: (action: string) => unknown;
};

type Subnet = { id: string; cidr: Cidr; used: Set<Ipv4> };

export class FakeCloud implements Cloud {
  readonly instanceId = 'i-0fake';
  readonly enis = new Map<EniId, EniDescription>();
  readonly calls: string[] = [];
  before: (action: string) => unknown;
  after: (action: string) => unknown;
  /** When set, instance describes answer with this instead of the truth. */
  describeLag: ((truth: EniDescription[]) => EniDescription[]) | undefined;
  readonly #subnets = new Map<string, Subnet>();
  readonly #tokens = new Map<string, { id: EniId; request: string }>();
  /** Assigned to nobody, and to be had by name only. */
  readonly #loose = new Set<Ipv4>();
  readonly #spoilt = new Map<Ipv4, EniDescription>();
  readonly #settings: Required<Pick<FakeSettings, 'enis' | 'ipv4PerEni'>>;
  #next = 1;

  constructor(settings: FakeSettings = {}) {
    this.#settings = { enis: settings.enis ?? 3, ipv4PerEni: settings.ipv4PerEni ?? 10 };
    this.before = settings.before ?? (() => {});
    this.after = settings.after ?? (() => {});
    const subnets = settings.subnets ?? { 'subnet-0a': '10.0.0.0/19' };
    for (const [id, cidr] of Object.entries(subnets)) {
      this.#subnets.set(id, { id, cidr: parseCidr(cidr), used: new Set() });
    }
    this.addInstanceEni({ deviceIndex: 0 });
  }

  /** An interface that somebody else made and attached; device 0 is the primary one. */
  addInstanceEni(options: { deviceIndex: number; subnetId?: string; description?: string }): EniDescription {
    const subnetId = options.subnetId ?? [...this.#subnets.keys()][0]!;
    const eni = this.#make({
      subnetId,
      groupIds: ['sg-0nodes'],
      description: options.description ?? '',
      secondaryCount: 0,
      tags: {},
      clientToken: '',
    });
    eni.status = 'in-use';
    eni.attachment = {
      id: `eni-attach-${eni.id.slice(4)}`,
      instanceId: this.instanceId,
      deviceIndex: options.deviceIndex,
      networkCard: 0,
      status: 'attached',
      deleteOnTermination: options.deviceIndex === 0,
    };
    return eni;
  }

  /** Takes addresses out of a subnet, as other users of it do; answers how many were left. */
  occupy(subnetId: string, leave: number): void {
    const subnet = this.#subnets.get(subnetId)!;
    for (
      let ip = addToIp(subnet.cidr.ip, cidrSize(subnet.cidr) - 2) as Ipv4;
      this.freeIn(subnetId) > leave;
      ip = addToIp(ip, -1)
    ) {
      subnet.used.add(ip);
    }
  }

  /** Takes one address of every whole free /28, or of all but `keep` of them: singles are left, prefixes are not. */
  fragment(subnetId: string, keep = 0): void {
    const subnet = this.#subnets.get(subnetId)!;
    for (const cidr of this.#wholePrefixes(subnet).slice(keep)) subnet.used.add(addToIp(cidr.ip as Ipv4, 7));
  }

  prefixesIn(subnetId: string): number {
    return this.#wholePrefixes(this.#subnets.get(subnetId)!).length;
  }

  vacate(subnetId: string): void {
    const subnet = this.#subnets.get(subnetId)!;
    const held = new Set([...this.enis.values()].flatMap(addressesOf));
    for (const ip of subnet.used) if (!held.has(ip) && !this.#loose.has(ip)) subnet.used.delete(ip);
  }

  freeIn(subnetId: string): number {
    const subnet = this.#subnets.get(subnetId)!;
    return cidrSize(subnet.cidr) - 5 - subnet.used.size;
  }

  /** Removes an address or an interface behind the allocator's back; the address is then in use elsewhere, or `free`. */
  takeAway(eniId: EniId, ip?: Ipv4, free = false): void {
    const eni = this.#eni(eniId, 'takeAway');
    const prefix = eni.ipv4Prefixes.find((one) => one.ip === ip);
    if (prefix) {
      eni.ipv4Prefixes = eni.ipv4Prefixes.filter((one) => one !== prefix);
      if (free) for (const each of inPrefix(prefix)) this.#loose.add(each);
      return;
    }
    if (ip === undefined) {
      this.#drop(eni);
      return;
    }
    eni.addresses = eni.addresses.filter((one) => one.ip !== ip);
    // It stays with nobody: EC2 has thousands of others to give out first.
    if (free) this.#loose.add(ip);
  }

  /** Gives an address that is with nobody to an interface of somebody else, so that it cannot be asked for by name. */
  spoil(subnetId: string, ip: Ipv4): void {
    if (!this.#loose.delete(ip)) return;
    const request = { subnetId, groupIds: [], description: '', secondaryCount: 0, tags: {}, clientToken: '' };
    const other = this.#make(request);
    other.addresses.push({ ip, primary: false, public: false });
    this.#spoilt.set(ip, other);
  }

  /** Undoes every `spoil`. */
  unspoil(): void {
    for (const [ip, other] of this.#spoilt) {
      this.#drop(other);
      this.#subnets.get(other.subnetId)!.used.add(ip);
      this.#loose.add(ip);
    }
    this.#spoilt.clear();
  }

  /** Moves an address to another interface of the node, as EC2 may when it is free for a moment. */
  moveTo(eniId: EniId, from: EniId, ip: Ipv4): void {
    this.takeAway(from, ip);
    this.#eni(eniId, 'moveTo').addresses.push({ ip, primary: false, public: false });
  }

  /** Moves an address to an interface of somebody else, whose id it answers. */
  giveToAnother(eniId: EniId, ip: Ipv4): EniId {
    const { subnetId } = this.#eni(eniId, 'giveToAnother');
    this.takeAway(eniId, ip);
    const other = this.#make({
      subnetId,
      groupIds: [],
      description: '',
      secondaryCount: 0,
      tags: {},
      clientToken: '',
    });
    other.addresses.push({ ip, primary: false, public: false });
    return other.id;
  }

  /** Puts addresses on an interface behind the allocator's back. */
  putOn(eniId: EniId, count = 1, over: { public?: boolean } = {}): Ipv4[] {
    const eni = this.#eni(eniId, 'putOn');
    const ips = this.#take(eni.subnetId, count, 'putOn');
    eni.addresses.push(...ips.map((ip) => ({ ip, primary: false, public: over.public ?? false })));
    return ips;
  }

  /** Puts this address on an interface. */
  put(eniId: EniId, ip: Ipv4): void {
    const eni = this.#eni(eniId, 'put');
    this.#subnets.get(eni.subnetId)!.used.add(ip);
    eni.addresses.push({ ip, primary: false, public: false });
  }

  /** Takes this address for something that is no interface. */
  reserve(subnetId: string, ip: Ipv4): void {
    this.#subnets.get(subnetId)!.used.add(ip);
  }

  async describeNetworkInterfaces(filter: Parameters<Cloud['describeNetworkInterfaces']>[0]) {
    return this.#call('DescribeNetworkInterfaces', () => {
      if (filter.kind === 'ids')
        return filter.ids.map((id) => structuredClone(this.#eni(id, 'DescribeNetworkInterfaces')));
      const all = structuredClone([...this.enis.values()]);
      if (filter.kind === 'instance') {
        const ours = all.filter((eni) => eni.attachment?.instanceId === filter.instanceId);
        return this.describeLag ? this.describeLag(ours) : ours;
      }
      if (filter.kind === 'addresses') {
        const { subnetId, ips } = filter;
        return all.filter(
          (eni) => eni.subnetId === subnetId && eni.addresses.some((one) => ips.includes(one.ip)),
        );
      }
      if (filter.kind === 'subnet') return all.filter((eni) => eni.subnetId === filter.subnetId);
      return all.filter((eni) =>
        Object.entries(filter.tags).every(([key, value]) => eni.tags[key] === value),
      );
    });
  }

  async createNetworkInterface(request: CreateEni) {
    return this.#call('CreateNetworkInterface', () => {
      const earlier = this.#tokens.get(request.clientToken);
      if (earlier && earlier.request !== JSON.stringify(request))
        throw new CloudError(
          'CreateNetworkInterface',
          'IdempotentParameterMismatch',
          'the token came with other parameters',
        );
      if (earlier) return structuredClone(this.#eni(earlier.id, 'CreateNetworkInterface'));
      if (request.secondaryCount + (request.prefixCount ?? 0) >= this.#settings.ipv4PerEni)
        throw limit('CreateNetworkInterface');
      const eni = this.#make(request);
      this.#tokens.set(request.clientToken, { id: eni.id, request: JSON.stringify(request) });
      return structuredClone(eni);
    });
  }

  async attachNetworkInterface(request: Parameters<Cloud['attachNetworkInterface']>[0]) {
    return this.#call('AttachNetworkInterface', () => {
      const eni = this.#eni(request.eniId, 'AttachNetworkInterface');
      const attached = [...this.enis.values()].filter((one) => one.attachment);
      if (eni.attachment)
        throw new CloudError(
          'AttachNetworkInterface',
          'InvalidNetworkInterface.InUse',
          `${eni.id} is in use`,
        );
      if (attached.length >= this.#settings.enis) {
        throw new CloudError(
          'AttachNetworkInterface',
          'AttachmentLimitExceeded',
          `${attached.length} of ${this.#settings.enis}`,
        );
      }
      if (attached.some((one) => one.attachment!.deviceIndex === request.deviceIndex)) {
        throw new CloudError(
          'AttachNetworkInterface',
          'InvalidParameterValue',
          `device ${request.deviceIndex} is taken`,
        );
      }
      eni.status = 'in-use';
      eni.attachment = {
        id: `eni-attach-${eni.id.slice(4)}`,
        instanceId: request.instanceId,
        deviceIndex: request.deviceIndex,
        networkCard: request.networkCard,
        status: 'attached',
        deleteOnTermination: false,
      };
      return eni.attachment.id;
    });
  }

  async detachNetworkInterface(attachmentId: string) {
    return this.#call('DetachNetworkInterface', () => {
      const eni = [...this.enis.values()].find((one) => one.attachment?.id === attachmentId);
      if (!eni)
        throw new CloudError(
          'DetachNetworkInterface',
          'InvalidAttachmentID.NotFound',
          `${attachmentId} is not there`,
        );
      eni.attachment = null;
      eni.status = 'available';
    });
  }

  async deleteNetworkInterface(eniId: EniId) {
    return this.#call('DeleteNetworkInterface', () => {
      const eni = this.#eni(eniId, 'DeleteNetworkInterface');
      if (eni.attachment)
        throw new CloudError('DeleteNetworkInterface', 'InvalidParameterValue', `${eniId} is in use`);
      this.#drop(eni);
    });
  }

  async setDeleteOnTermination(eniId: EniId, attachmentId: string) {
    return this.#call('ModifyNetworkInterfaceAttribute', () => {
      const eni = this.#eni(eniId, 'ModifyNetworkInterfaceAttribute');
      if (eni.attachment?.id !== attachmentId) {
        throw new CloudError(
          'ModifyNetworkInterfaceAttribute',
          'InvalidAttachmentID.NotFound',
          `${attachmentId} is not there`,
        );
      }
      eni.attachment.deleteOnTermination = true;
    });
  }

  async assignPrivateIps(eniId: EniId, count: number) {
    return this.#call('AssignPrivateIpAddresses', () => {
      const eni = this.#eni(eniId, 'AssignPrivateIpAddresses');
      this.#checkRoom(eni, count);
      const ips = this.#take(eni.subnetId, count, 'AssignPrivateIpAddresses');
      eni.addresses.push(...ips.map((ip) => ({ ip, primary: false, public: false })));
      return ips;
    });
  }

  async assignTheseIps(eniId: EniId, ips: readonly Ipv4[]) {
    return this.#call('AssignPrivateIpAddresses', () => {
      const eni = this.#eni(eniId, 'AssignPrivateIpAddresses');
      const { used } = this.#subnets.get(eni.subnetId)!;
      const named = ips.filter((ip) => !eni.addresses.some((one) => one.ip === ip));
      if (named.length === 0 || named.some((ip) => used.has(ip) && !this.#loose.has(ip))) {
        throw new CloudError(
          'AssignPrivateIpAddresses',
          'InvalidParameterValue',
          'some are assigned already',
        );
      }
      this.#checkRoom(eni, named.length);
      for (const ip of named) {
        used.add(ip);
        this.#loose.delete(ip);
      }
      eni.addresses.push(...named.map((ip) => ({ ip, primary: false, public: false })));
    });
  }

  async assignPrefixes(eniId: EniId, count: number) {
    return this.#call('AssignPrivateIpAddresses', () => {
      const eni = this.#eni(eniId, 'AssignPrivateIpAddresses');
      this.#checkRoom(eni, count);
      const prefixes = this.#takePrefixes(eni.subnetId, count, 'AssignPrivateIpAddresses');
      eni.ipv4Prefixes.push(...prefixes);
      return prefixes;
    });
  }

  async assignThesePrefixes(eniId: EniId, prefixes: readonly Cidr[]) {
    return this.#call('AssignPrivateIpAddresses', () => {
      const eni = this.#eni(eniId, 'AssignPrivateIpAddresses');
      const { used } = this.#subnets.get(eni.subnetId)!;
      const ips = prefixes.flatMap(inPrefix);
      if (ips.some((ip) => used.has(ip) && !this.#loose.has(ip)))
        throw new CloudError('AssignPrivateIpAddresses', 'InvalidIPAddress.InUse', 'the prefix is in use');
      this.#checkRoom(eni, prefixes.length);
      for (const ip of ips) {
        used.add(ip);
        this.#loose.delete(ip);
      }
      eni.ipv4Prefixes.push(...prefixes);
    });
  }

  async unassign(eniId: EniId, { ips, prefixes }: Blocks) {
    if (ips.length > 0)
      await this.#call('UnassignPrivateIpAddresses', () => {
        const eni = this.#eni(eniId, 'UnassignPrivateIpAddresses');
        for (const ip of ips)
          if (!eni.addresses.some((one) => one.ip === ip && !one.primary)) throw notOn(eniId, String(ip));
        eni.addresses = eni.addresses.filter((one) => !ips.includes(one.ip));
        this.#free(eni, ips);
      });
    if (prefixes.length > 0)
      await this.#call('UnassignPrivateIpAddresses', () => {
        const eni = this.#eni(eniId, 'UnassignPrivateIpAddresses');
        const named = new Set(prefixes.map(formatCidr));
        const kept = eni.ipv4Prefixes.filter((one) => !named.has(formatCidr(one)));
        if (kept.length + named.size !== eni.ipv4Prefixes.length) throw notOn(eniId, [...named].join());
        eni.ipv4Prefixes = kept;
        this.#free(eni, prefixes.flatMap(inPrefix));
      });
  }

  #free(eni: EniDescription, ips: readonly Ipv4[]): void {
    for (const ip of ips) this.#subnets.get(eni.subnetId)!.used.delete(ip);
  }

  async describeSubnets(ids: readonly string[]) {
    return this.#call('DescribeSubnets', () => ids.map((id) => this.#describeSubnet(id)));
  }

  async describeVpcSubnets(_vpcId: string, zone: string) {
    return this.#call('DescribeSubnets', () =>
      [...this.#subnets.keys()].map((id) => this.#describeSubnet(id)).filter((one) => one.zone === zone),
    );
  }

  async describeSecurityGroups() {
    return this.#call('DescribeSecurityGroups', () => [{ id: 'sg-0nodes', tags: {} }]);
  }

  async setSecurityGroups(eniId: EniId, groupIds: readonly string[]) {
    return this.#call('ModifyNetworkInterfaceAttribute', () => {
      this.#eni(eniId, 'ModifyNetworkInterfaceAttribute').groupIds = [...groupIds];
    });
  }

  #describeSubnet(id: string) {
    const subnet = this.#subnets.get(id);
    if (!subnet)
      throw new CloudError(
        'DescribeSubnets',
        'InvalidSubnetID.NotFound',
        `The subnet ID '${id}' does not exist`,
      );
    return { id, zone: 'us-west-2a', cidr: subnet.cidr, availableIps: this.freeIn(id), tags: {} };
  }

  async describeInstanceType(instanceType: string) {
    const { enis, ipv4PerEni } = this.#settings;
    return this.#call('DescribeInstanceTypes', () => ({
      instanceType,
      enis,
      ipv4PerEni,
      ipv6PerEni: ipv4PerEni,
      networkCards: [{ index: 0, enis }],
      hypervisor: 'nitro',
      bareMetal: false,
    }));
  }

  async #call<T>(action: string, effect: () => T): Promise<T> {
    this.calls.push(action);
    await this.before(action);
    const answer = effect();
    await this.after(action);
    return answer;
  }

  #eni(id: EniId, action: string): EniDescription {
    const eni = this.enis.get(id);
    if (eni) return eni;
    throw new CloudError(
      action,
      'InvalidNetworkInterfaceID.NotFound',
      `The networkInterface ID '${id}' does not exist`,
    );
  }

  #make(request: CreateEni): EniDescription {
    const { subnetId, prefixCount = 0 } = request;
    const ipv4Prefixes = this.#takePrefixes(subnetId, prefixCount, 'CreateNetworkInterface');
    const ips = request.ips
      ? this.#claim(subnetId, request.ips)
      : this.#take(subnetId, request.secondaryCount + 1, 'CreateNetworkInterface', ipv4Prefixes);
    const number = this.#next++;
    const eni: EniDescription = {
      id: `eni-${number.toString(16).padStart(17, '0')}` as EniId,
      mac: localMac(Uint8Array.of(2, 0, 0, 0, number >> 8, number & 255)),
      subnetId: request.subnetId,
      vpcId: 'vpc-0fake',
      zone: 'us-west-2a',
      description: request.description,
      interfaceType: 'interface',
      status: 'available',
      groupIds: [...request.groupIds],
      addresses: ips.map((ip, i) => ({ ip, primary: i === 0, public: false })),
      ipv6Addresses: [],
      ipv4Prefixes,
      ipv6Prefixes: [],
      attachment: null,
      requesterId: '',
      tags: { ...request.tags },
    };
    this.enis.set(eni.id, eni);
    return eni;
  }

  #drop(eni: EniDescription): void {
    this.enis.delete(eni.id);
    this.#free(eni, addressesOf(eni));
  }

  #checkRoom(eni: EniDescription, more: number): void {
    if (eni.addresses.length + eni.ipv4Prefixes.length + more > this.#settings.ipv4PerEni)
      throw limit('AssignPrivateIpAddresses');
  }

  /** The lowest whole aligned /28s; the subnet's first and last contain addresses that EC2 keeps. */
  #wholePrefixes(subnet: Subnet): Cidr[] {
    const found: Cidr[] = [];
    for (let offset = 16; offset + 16 < cidrSize(subnet.cidr); offset += 16) {
      const cidr: Cidr = { ip: addToIp(subnet.cidr.ip, offset), length: 28 };
      if (inPrefix(cidr).every((ip) => !subnet.used.has(ip))) found.push(cidr);
    }
    return found;
  }

  #takePrefixes(subnetId: string, count: number, action: string): Cidr[] {
    if (count === 0) return [];
    const subnet = this.#subnets.get(subnetId)!;
    const whole = this.#wholePrefixes(subnet);
    if (whole.length < count) {
      const text = `${subnetId} has ${whole.length} free /28 of ${count}`;
      throw new CloudError(action, 'InsufficientCidrBlocks', text);
    }
    const taken = whole.slice(0, count);
    for (const ip of taken.flatMap(inPrefix)) subnet.used.add(ip);
    return taken;
  }

  #claim(subnetId: string, ips: readonly Ipv4[]): Ipv4[] {
    const { used } = this.#subnets.get(subnetId)!;
    if (ips.some((ip) => used.has(ip)))
      throw new CloudError('CreateNetworkInterface', 'InvalidIPAddress.InUse', 'an address is in use');
    for (const ip of ips) used.add(ip);
    return [...ips];
  }

  /** `held`: prefixes of the same request, given back when its addresses cannot be had. */
  #take(subnetId: string, count: number, action: string, held: readonly Cidr[] = []): Ipv4[] {
    const subnet = this.#subnets.get(subnetId)!;
    if (this.freeIn(subnetId) < count) {
      for (const ip of held.flatMap(inPrefix)) subnet.used.delete(ip);
      throw new CloudError(
        action,
        'InsufficientFreeAddressesInSubnet',
        `${subnetId} has ${this.freeIn(subnetId)} of ${count}`,
      );
    }
    return Array.from({ length: count }, () => this.#freeIp(subnet, action));
  }

  #freeIp(subnet: Subnet, action: string): Ipv4 {
    // The lowest free one: what was given back comes again at once, which is the hardest case for reuse.
    const end = cidrSize(subnet.cidr) - 1;
    for (let offset = 4; offset < end; offset++) {
      const ip = addToIp(subnet.cidr.ip, offset) as Ipv4;
      if (subnet.used.has(ip)) continue;
      subnet.used.add(ip);
      return ip;
    }
    throw new CloudError(action, 'InsufficientFreeAddressesInSubnet', `${subnet.id} is full`);
  }
}

const inPrefix = (prefix: Cidr): Ipv4[] =>
  Array.from({ length: cidrSize(prefix) }, (_, offset) => addToIp(prefix.ip as Ipv4, offset));

const addressesOf = (eni: EniDescription): Ipv4[] => [
  ...eni.addresses.map((one) => one.ip),
  ...eni.ipv4Prefixes.flatMap(inPrefix),
];

const notOn = (eniId: EniId, what: string): CloudError =>
  new CloudError('UnassignPrivateIpAddresses', 'InvalidParameterValue', `${what} is not on ${eniId}`);

const limit = (action: string): CloudError =>
  new CloudError(action, 'PrivateIpAddressLimitExceeded', 'over the limit per interface');
