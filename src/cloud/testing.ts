// A cloud in memory for tests: EC2's calls with its limits and error codes, tags and client tokens, on the VPC of
// `testing-vpc.ts`. `before` and `after` hooks see every call, so that a test can delay, fail or cut a call before or
// after its effect; describes may be made to lag.
import { type Cidr, formatCidr, type Ipv4 } from '../base/ip.ts';
import {
  type Blocks,
  type Cloud,
  CloudError,
  type CreateEni,
  type EniDescription,
  type EniId,
  type Tags,
  type TrunkCloud,
} from './port.ts';
import { inPrefix, takeSix } from './testing-subnet.ts';
import { FakeVpc } from './testing-vpc.ts';

export type FakeSettings = {
  subnets?: Record<string, string>;
  enis?: number;
  ipv4PerEni?: number;
  /** Per trunk. */
  branchEnis?: number;
  /** Called before a call has its effect; throwing leaves the cloud as it was. */
  before?: (action: string) => unknown;
  /** Called after a call has had its effect; throwing loses the answer. */
  after?: (action: string) => unknown;
};

export class FakeCloud extends FakeVpc implements Cloud, TrunkCloud {
  readonly calls: string[] = [];
  before: (action: string) => unknown;
  after: (action: string) => unknown;
  /** When set, instance describes answer with this instead of the truth. */
  describeLag: ((truth: EniDescription[]) => EniDescription[]) | undefined;
  #associations = 0;
  readonly #tokens = new Map<string, { id: EniId; request: string }>();
  readonly #settings: Required<Pick<FakeSettings, 'enis' | 'ipv4PerEni' | 'branchEnis'>>;

  constructor(settings: FakeSettings = {}) {
    super(settings.subnets ?? { 'subnet-0a': '10.0.0.0/19' });
    this.#settings = {
      enis: settings.enis ?? 3,
      ipv4PerEni: settings.ipv4PerEni ?? 10,
      branchEnis: settings.branchEnis ?? 9,
    };
    this.before = settings.before ?? (() => {});
    this.after = settings.after ?? (() => {});
  }

  async describeNetworkInterfaces(filter: Parameters<Cloud['describeNetworkInterfaces']>[0]) {
    return this.#call('DescribeNetworkInterfaces', () => {
      if (filter.kind === 'ids')
        return filter.ids
          .filter((id) => filter.absent !== 'skip' || this.enis.has(id))
          .map((id) => structuredClone(this.eni(id, 'DescribeNetworkInterfaces')));
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
      const isLoose = (eni: EniDescription) => eni.status === 'available';
      return all.filter(
        (eni) =>
          (!filter.loose || isLoose(eni)) &&
          Object.entries(filter.tags).every(([key, value]) => [value].flat().includes(eni.tags[key] ?? '')),
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
      if (earlier) return structuredClone(this.eni(earlier.id, 'CreateNetworkInterface'));
      if (request.secondaryCount + (request.prefixCount ?? 0) >= this.#settings.ipv4PerEni)
        throw limit('CreateNetworkInterface');
      const eni = this.make(request);
      this.#tokens.set(request.clientToken, { id: eni.id, request: JSON.stringify(request) });
      return structuredClone(eni);
    });
  }

  async attachNetworkInterface(request: Parameters<Cloud['attachNetworkInterface']>[0]) {
    return this.#call('AttachNetworkInterface', () => {
      const eni = this.eni(request.eniId, 'AttachNetworkInterface');
      const attached = [...this.enis.values()].filter(
        (one) => one.attachment?.instanceId === request.instanceId,
      );
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
      const eni = this.eni(eniId, 'DeleteNetworkInterface');
      if (eni.status !== 'available')
        throw new CloudError('DeleteNetworkInterface', 'InvalidParameterValue', `${eniId} is in use`);
      this.drop(eni);
    });
  }

  async setDeleteOnTermination(eniId: EniId, attachmentId: string) {
    return this.#call('ModifyNetworkInterfaceAttribute', () => {
      const eni = this.eni(eniId, 'ModifyNetworkInterfaceAttribute');
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
      const eni = this.eni(eniId, 'AssignPrivateIpAddresses');
      this.#checkRoom(eni, count);
      const ips = this.subnet(eni.subnetId).take(count, 'AssignPrivateIpAddresses');
      eni.addresses.push(...ips.map((ip) => ({ ip, primary: false, public: false })));
      return ips;
    });
  }

  async assignTheseIps(eniId: EniId, ips: readonly Ipv4[]) {
    return this.#call('AssignPrivateIpAddresses', () => {
      const eni = this.eni(eniId, 'AssignPrivateIpAddresses');
      const subnet = this.subnet(eni.subnetId);
      const named = ips.filter((ip) => !eni.addresses.some((one) => one.ip === ip));
      if (named.length === 0 || named.some((ip) => subnet.isTaken(ip))) {
        throw new CloudError(
          'AssignPrivateIpAddresses',
          'InvalidParameterValue',
          'some are assigned already',
        );
      }
      this.#checkRoom(eni, named.length);
      subnet.takeNamed(named);
      eni.addresses.push(...named.map((ip) => ({ ip, primary: false, public: false })));
    });
  }

  async assignPrefixes(eniId: EniId, count: number) {
    return this.#call('AssignPrivateIpAddresses', () => {
      const eni = this.eni(eniId, 'AssignPrivateIpAddresses');
      this.#checkRoom(eni, count);
      const prefixes = this.subnet(eni.subnetId).takePrefixes(count, 'AssignPrivateIpAddresses');
      eni.ipv4Prefixes.push(...prefixes);
      return prefixes;
    });
  }

  async assignThesePrefixes(eniId: EniId, prefixes: readonly Cidr[]) {
    return this.#call('AssignPrivateIpAddresses', () => {
      const eni = this.eni(eniId, 'AssignPrivateIpAddresses');
      const subnet = this.subnet(eni.subnetId);
      const ips = prefixes.flatMap(inPrefix);
      if (ips.some((ip) => subnet.isTaken(ip)))
        throw new CloudError('AssignPrivateIpAddresses', 'InvalidIPAddress.InUse', 'the prefix is in use');
      this.#checkRoom(eni, prefixes.length);
      subnet.takeNamed(ips);
      eni.ipv4Prefixes.push(...prefixes);
    });
  }

  async assignIpv6Prefixes(eniId: EniId, count: number) {
    return this.#call('AssignIpv6Addresses', () => {
      const eni = this.eni(eniId, 'AssignIpv6Addresses');
      const prefixes = takeSix(this.subnet(eni.subnetId), count, 'AssignIpv6Addresses');
      eni.ipv6Prefixes.push(...prefixes);
      return prefixes;
    });
  }

  async assignTheseIpv6Prefixes(eniId: EniId, prefixes: readonly Cidr[]) {
    return this.#call('AssignIpv6Addresses', () => {
      const eni = this.eni(eniId, 'AssignIpv6Addresses');
      const { used6 } = this.subnet(eni.subnetId);
      if (prefixes.some((one) => used6.has(formatCidr(one))))
        throw new CloudError('AssignIpv6Addresses', 'InvalidParameterValue', 'the prefix is in use');
      for (const one of prefixes) used6.add(formatCidr(one));
      eni.ipv6Prefixes.push(...prefixes);
    });
  }

  async unassign(eniId: EniId, blocks: Blocks) {
    const six = blocks.prefixes.filter(({ ip }) => typeof ip === 'bigint').map(formatCidr);
    if (six.length > 0)
      await this.#call('UnassignIpv6Addresses', () => {
        const eni = this.eni(eniId, 'UnassignIpv6Addresses');
        const { used6 } = this.subnet(eni.subnetId);
        for (const cidr of six) used6.delete(cidr);
        eni.ipv6Prefixes = eni.ipv6Prefixes.filter((one) => !six.includes(formatCidr(one)));
      });
    const ips = blocks.ips.filter((ip) => typeof ip === 'number');
    const prefixes = blocks.prefixes.filter(({ ip }) => typeof ip === 'number');
    if (ips.length > 0)
      await this.#call('UnassignPrivateIpAddresses', () => {
        const eni = this.eni(eniId, 'UnassignPrivateIpAddresses');
        for (const ip of ips)
          if (!eni.addresses.some((one) => one.ip === ip && !one.primary)) throw notOn(eniId, String(ip));
        eni.addresses = eni.addresses.filter((one) => !ips.includes(one.ip));
        this.subnet(eni.subnetId).release(ips);
      });
    if (prefixes.length > 0)
      await this.#call('UnassignPrivateIpAddresses', () => {
        const eni = this.eni(eniId, 'UnassignPrivateIpAddresses');
        const named = new Set(prefixes.map(formatCidr));
        const kept = eni.ipv4Prefixes.filter((one) => !named.has(formatCidr(one)));
        if (kept.length + named.size !== eni.ipv4Prefixes.length) throw notOn(eniId, [...named].join());
        eni.ipv4Prefixes = kept;
        this.subnet(eni.subnetId).release(prefixes.flatMap(inPrefix));
      });
  }

  async describeSubnets(ids: readonly string[]) {
    return this.#call('DescribeSubnets', () => ids.map((id) => this.#describeSubnet(id)));
  }

  async describeVpcSubnets(_vpcId: string, zone: string) {
    return this.#call('DescribeSubnets', () =>
      [...this.subnets.keys()].map((id) => this.#describeSubnet(id)).filter((one) => one.zone === zone),
    );
  }

  async describeSecurityGroups() {
    return this.#call('DescribeSecurityGroups', () => [{ id: 'sg-0nodes', tags: {} }]);
  }

  async setSecurityGroups(eniId: EniId, groupIds: readonly string[]) {
    return this.#call('ModifyNetworkInterfaceAttribute', () => {
      this.eni(eniId, 'ModifyNetworkInterfaceAttribute').groupIds = [...groupIds];
    });
  }

  #describeSubnet(id: string) {
    const subnet = this.subnets.get(id);
    if (!subnet)
      throw new CloudError(
        'DescribeSubnets',
        'InvalidSubnetID.NotFound',
        `The subnet ID '${id}' does not exist`,
      );
    return {
      ...{ id, zone: 'us-west-2a', cidr: subnet.cidr, ipv6Cidr: subnet.cidr6 },
      ...{ availableIps: subnet.free, tags: {} },
    };
  }

  async createTags(eniId: EniId, tags: Tags) {
    return this.#call('CreateTags', () => {
      const eni = this.eni(eniId, 'CreateTags');
      eni.tags = { ...eni.tags, ...tags };
    });
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

  async associateTrunk({ trunkId, branchId, vlanId }: Parameters<TrunkCloud['associateTrunk']>[0]) {
    const action = 'AssociateTrunkInterface';
    const refuse = (code: string, text: string): never => {
      throw new CloudError(action, code, text);
    };
    return this.#call(action, () => {
      const [trunk, branch] = [this.eni(trunkId, action), this.eni(branchId, action)];
      if (trunk.interfaceType !== 'trunk' || !trunk.attachment)
        refuse('IncorrectState', `${trunkId} is no attached trunk`);
      if (branch.status !== 'available') refuse('InvalidNetworkInterface.InUse', `${branchId} is in use`);
      const others = [...this.trunkAssociations.values()].filter((one) => one.trunkId === trunkId);
      if (others.some((one) => one.vlanId === vlanId))
        refuse('InvalidParameterValue', `VLAN ID ${vlanId} of ${trunkId} is taken`);
      if (others.length >= this.#settings.branchEnis)
        refuse('AttachmentLimitExceeded', `${others.length} of ${this.#settings.branchEnis} branches`);
      branch.status = 'in-use';
      const id = `trunk-assoc-${++this.#associations}`;
      this.trunkAssociations.set(id, { id, trunkId, branchId, vlanId });
      return id;
    });
  }

  async disassociateTrunk(id: string) {
    return this.#call('DisassociateTrunkInterface', () => {
      if (!this.trunkAssociations.has(id))
        throw new CloudError(
          'DisassociateTrunkInterface',
          'InvalidTrunkInterfaceAssociationId.NotFound',
          `${id} does not exist`,
        );
      this.dropAssociation(id);
    });
  }

  async describeTrunkAssociations() {
    return this.#call('DescribeTrunkInterfaceAssociations', () =>
      structuredClone([...this.trunkAssociations.values()]),
    );
  }

  async probeTrunking() {
    return this.#call('AssociateTrunkInterface', () => {});
  }

  async #call<T>(action: string, effect: () => T): Promise<T> {
    this.calls.push(action);
    await this.before(action);
    const answer = effect();
    await this.after(action);
    return answer;
  }

  #checkRoom(eni: EniDescription, more: number): void {
    if (eni.addresses.length + eni.ipv4Prefixes.length + more > this.#settings.ipv4PerEni)
      throw limit('AssignPrivateIpAddresses');
  }
}

const notOn = (eniId: EniId, what: string): CloudError =>
  new CloudError('UnassignPrivateIpAddresses', 'InvalidParameterValue', `${what} is not on ${eniId}`);

const limit = (action: string): CloudError =>
  new CloudError(action, 'PrivateIpAddressLimitExceeded', 'over the limit per interface');
