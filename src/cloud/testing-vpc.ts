// A VPC in memory for tests: subnets, one instance and its interfaces, and what others do to them behind the node's back.
// `testing.ts` is EC2's calls on it. It is as strict as EC2: an address is held once, and what is in use stays.
import { addToIp, formatCidr, formatIp, type Ip, type Ipv4, parseCidr } from '../base/ip.ts';
import { localMac } from '../base/mac.ts';
import {
  CloudError,
  type CreateEni,
  type EniDescription,
  type EniId,
  type TrunkAssociation,
} from './port.ts';
import { FakeSubnet, inPrefix, takeSix, takeSixes } from './testing-subnet.ts';

export class FakeVpc {
  readonly instanceId = 'i-0fake';
  readonly enis = new Map<EniId, EniDescription>();
  /** By id. */
  readonly trunkAssociations = new Map<string, TrunkAssociation>();
  protected readonly subnets = new Map<string, FakeSubnet>();
  readonly #spoilt = new Map<Ipv4, EniDescription>();
  #next = 1;

  constructor(subnets: Record<string, string>) {
    for (const [id, cidr] of Object.entries(subnets)) this.subnets.set(id, new FakeSubnet(id, cidr));
    this.addInstanceEni({ deviceIndex: 0 });
  }

  /** An interface that somebody else made and attached; device 0 is the primary one. */
  addInstanceEni(options: {
    deviceIndex: number;
    subnetId?: string;
    description?: string;
    instanceId?: string;
    interfaceType?: 'trunk';
  }): EniDescription {
    const subnetId = options.subnetId ?? [...this.subnets.keys()][0]!;
    const eni = this.make({
      subnetId,
      groupIds: ['sg-0nodes'],
      description: options.description ?? '',
      secondaryCount: 0,
      tags: {},
      clientToken: '',
    });
    eni.status = 'in-use';
    if (options.interfaceType) eni.interfaceType = options.interfaceType;
    eni.attachment = {
      id: `eni-attach-${eni.id.slice(4)}`,
      instanceId: options.instanceId ?? this.instanceId,
      deviceIndex: options.deviceIndex,
      networkCard: 0,
      status: 'attached',
      deleteOnTermination: options.deviceIndex === 0,
    };
    return eni;
  }

  /** Gives each subnet a /64. */
  addIpv6(): void {
    let number = 0;
    for (const subnet of this.subnets.values()) subnet.cidr6 = parseCidr(`2001:db8:0:${++number}::/64`);
  }

  /** Takes addresses out of a subnet, as other users of it do; answers how many were left. */
  occupy(subnetId: string, leave: number): void {
    this.subnet(subnetId).occupy(leave);
  }

  /** Takes one address of every whole free /28, or of all but `keep` of them: singles are left, prefixes are not. */
  fragment(subnetId: string, keep = 0): void {
    const subnet = this.subnet(subnetId);
    for (const cidr of subnet.wholePrefixes().slice(keep)) subnet.used.add(addToIp(cidr.ip as Ipv4, 7));
  }

  prefixesIn(subnetId: string): number {
    return this.subnet(subnetId).wholePrefixes().length;
  }

  vacate(subnetId: string): void {
    const { used, loose } = this.subnet(subnetId);
    const held = new Set([...this.enis.values()].flatMap(addressesOf));
    for (const ip of used) if (!held.has(ip) && !loose.has(ip)) used.delete(ip);
  }

  freeIn(subnetId: string): number {
    return this.subnet(subnetId).free;
  }

  /** Removes an address or an interface behind the allocator's back; the address is then in use elsewhere, or `free`. */
  takeAway(eniId: EniId, ip?: Ip, free = false): void {
    const eni = this.eni(eniId, 'takeAway');
    const { loose } = this.subnet(eni.subnetId);
    if (typeof ip === 'bigint') {
      const gone = eni.ipv6Prefixes.find((one) => one.ip === ip);
      eni.ipv6Prefixes = eni.ipv6Prefixes.filter((one) => one !== gone);
      if (gone && free) this.subnet(eni.subnetId).used6.delete(formatCidr(gone));
      return;
    }
    const prefix = eni.ipv4Prefixes.find((one) => one.ip === ip);
    if (prefix) {
      eni.ipv4Prefixes = eni.ipv4Prefixes.filter((one) => one !== prefix);
      if (free) for (const each of inPrefix(prefix)) loose.add(each);
      return;
    }
    if (ip === undefined) {
      this.drop(eni);
      return;
    }
    eni.addresses = eni.addresses.filter((one) => one.ip !== ip);
    // It stays with nobody: EC2 has thousands of others to give out first.
    if (free) loose.add(ip);
  }

  /** Gives an address that is with nobody to an interface of somebody else, so that it cannot be asked for by name. */
  spoil(subnetId: string, ip: Ipv4): void {
    if (!this.subnet(subnetId).loose.delete(ip)) return;
    const request = { subnetId, groupIds: [], description: '', secondaryCount: 0, tags: {}, clientToken: '' };
    const other = this.make(request);
    other.addresses.push({ ip, primary: false, public: false });
    this.#spoilt.set(ip, other);
  }

  /** Undoes every `spoil`. */
  unspoil(): void {
    for (const [ip, other] of this.#spoilt) {
      this.drop(other);
      const { used, loose } = this.subnet(other.subnetId);
      used.add(ip);
      loose.add(ip);
    }
    this.#spoilt.clear();
  }

  /** Moves an address to another interface of the node, as EC2 may when it is free for a moment. */
  moveTo(eniId: EniId, from: EniId, ip: Ipv4): void {
    this.takeAway(from, ip);
    this.eni(eniId, 'moveTo').addresses.push({ ip, primary: false, public: false });
  }

  /** Moves an address to an interface of somebody else, whose id it answers. */
  giveToAnother(eniId: EniId, ip: Ipv4): EniId {
    const { subnetId } = this.eni(eniId, 'giveToAnother');
    this.takeAway(eniId, ip);
    const other = this.make({
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
    const eni = this.eni(eniId, 'putOn');
    const ips = this.subnet(eni.subnetId).take(count, 'putOn');
    eni.addresses.push(...ips.map((ip) => ({ ip, primary: false, public: over.public ?? false })));
    return ips;
  }

  /** Puts this address on an interface. */
  put(eniId: EniId, ip: Ipv4): void {
    const eni = this.eni(eniId, 'put');
    this.subnet(eni.subnetId).used.add(ip);
    eni.addresses.push({ ip, primary: false, public: false });
  }

  /** Takes this address for something that is no interface. */
  reserve(subnetId: string, ip: Ipv4): void {
    this.subnet(subnetId).used.add(ip);
  }

  /** As behind the controller's back, too. */
  dropAssociation(id: string): void {
    const branch = this.enis.get(this.trunkAssociations.get(id)!.branchId);
    this.trunkAssociations.delete(id);
    if (branch) branch.status = 'available';
  }

  protected subnet(id: string): FakeSubnet {
    return this.subnets.get(id)!;
  }

  protected eni(id: EniId, action: string): EniDescription {
    const eni = this.enis.get(id);
    if (eni) return eni;
    throw new CloudError(
      action,
      'InvalidNetworkInterfaceID.NotFound',
      `The networkInterface ID '${id}' does not exist`,
    );
  }

  protected make(request: CreateEni): EniDescription {
    const { subnetId, prefixCount = 0 } = request;
    const subnet = this.subnet(subnetId);
    const ipv4Prefixes = subnet.takePrefixes(prefixCount, 'CreateNetworkInterface');
    let ips: Ipv4[];
    try {
      ips = request.ips
        ? subnet.claim(request.ips)
        : subnet.take(request.secondaryCount + 1, 'CreateNetworkInterface');
    } catch (error) {
      subnet.release(ipv4Prefixes.flatMap(inPrefix));
      throw error;
    }
    const number = this.#next++;
    const eni: EniDescription = {
      id: `eni-${number.toString(16).padStart(17, '0')}` as EniId,
      mac: localMac(Uint8Array.of(2, 0, 0, 0, number >> 8, number & 255)),
      subnetId: request.subnetId,
      vpcId: 'vpc-0fake',
      zone: 'us-west-2a',
      description: request.description,
      interfaceType: request.interfaceType ?? 'interface',
      status: 'available',
      groupIds: [...request.groupIds],
      addresses: ips.map((ip, i) => ({ ip, primary: i === 0, public: false })),
      ipv6Addresses: takeSixes(subnet, request.ipv6s),
      ipv4Prefixes,
      ipv6Prefixes: takeSix(subnet, request.ipv6PrefixCount ?? 0, 'CreateNetworkInterface'),
      attachment: null,
      requesterId: '',
      tags: { ...request.tags },
    };
    this.enis.set(eni.id, eni);
    return eni;
  }

  protected drop(eni: EniDescription): void {
    this.enis.delete(eni.id);
    for (const one of this.trunkAssociations.values())
      if (one.trunkId === eni.id || one.branchId === eni.id) this.dropAssociation(one.id);
    const subnet = this.subnet(eni.subnetId);
    subnet.release(addressesOf(eni));
    for (const cidr of eni.ipv6Prefixes) subnet.used6.delete(formatCidr(cidr));
    for (const ip of eni.ipv6Addresses) subnet.used6.delete(formatIp(ip));
  }
}

const addressesOf = (eni: EniDescription): Ipv4[] => [
  ...eni.addresses.map((one) => one.ip),
  ...eni.ipv4Prefixes.flatMap(inPrefix),
];
