// A modelled EC2 for a simulation: subnets, instances, interfaces, what their types allow, the account's request buckets,
// and the time that each call takes. As strict as EC2: an address is held once, limits hold, what is attached stays.
// It tells the meter each call and each address that is taken or given back. Interfaces are values of their own; answers
// are copies.
import { hostCidr, type Ipv4 } from '../../base/ip.ts';
import { localMac } from '../../base/mac.ts';
import type { InstanceLimits } from '../../cloud/limits.ts';
import { CloudError, type CreateEni, type EniDescription, type EniId } from '../../cloud/port.ts';
import type { SimClock } from '../clock.ts';
import type { Meter } from '../meter.ts';
import type { Subnet } from './subnet.ts';
import { type Gate, Times } from './times.ts';

export const ZONE = 'us-west-2a';
export const VPC = 'vpc-0simulated';
export const GROUP = 'sg-0nodes';

export type Instance = { readonly id: string; readonly enis: Map<EniId, EniDescription> };

export type ModelOptions = {
  clock: SimClock;
  meter: Meter;
  seed: number;
  subnets: readonly Subnet[];
  limits: InstanceLimits;
  gate: Gate;
};

export class ModelEc2 {
  readonly enis = new Map<EniId, EniDescription>();
  /** From when on the instance metadata service lists an attached ENI with its addresses. */
  readonly listedAt = new Map<EniId, number>();
  readonly o: ModelOptions;
  readonly #instances = new Map<string, Instance>();
  readonly #subnets: ReadonlyMap<string, Subnet>;
  readonly #times: Times;
  readonly #byToken = new Map<string, EniId>();
  /** One for each action: a fleet that is throttled is so millions of times, and each error would record its stack. */
  readonly #throttled = new Map<string, CloudError>();
  #numbered = 0;

  constructor(options: ModelOptions) {
    this.o = options;
    this.#times = new Times(options.seed);
    this.#subnets = new Map(options.subnets.map((subnet) => [subnet.id, subnet]));
  }

  /** Boots an instance with its primary interface. */
  run(subnetId: string): Instance {
    const instance: Instance = { id: `i-${this.#number()}`, enis: new Map() };
    this.#instances.set(instance.id, instance);
    const request = {
      subnetId,
      groupIds: [GROUP],
      description: '',
      secondaryCount: 0,
      tags: {},
      clientToken: '',
    };
    const eni = this.make(request);
    this.#attach(eni, instance, 0, 'attached');
    eni.attachment!.deleteOnTermination = true;
    return instance;
  }

  /** Ends an instance: its interfaces go with it. */
  terminate(id: string): void {
    const instance = this.instance(id, 'TerminateInstances');
    this.#instances.delete(id);
    for (const eni of instance.enis.values()) this.drop(eni);
  }

  isRunning = (id: string): boolean => this.#instances.has(id);

  /** Takes the time of a call, counts it, throttles it; then `effect` happens. */
  async call<T>(action: string, effect: () => T, signal?: AbortSignal): Promise<T> {
    const { clock, meter, gate } = this.o;
    meter.noteCall(action);
    const isTaken = gate.ask(action, clock.now());
    await clock.sleep(this.#times.answer(action), signal);
    if (isTaken()) {
      try {
        return effect();
      } catch (error) {
        meter.noteRefused(action);
        throw error;
      }
    }
    meter.noteRefused(action);
    meter.throttled++;
    throw this.#throttledError(action);
  }

  eni(id: EniId, action: string): EniDescription {
    const eni = this.enis.get(id);
    if (eni) return eni;
    const text = `The networkInterface ID '${id}' does not exist`;
    throw new CloudError(action, 'InvalidNetworkInterfaceID.NotFound', text);
  }

  instance(id: string, action: string): Instance {
    const instance = this.#instances.get(id);
    if (instance) return instance;
    throw new CloudError(action, 'InvalidInstanceID.NotFound', `The instance ID '${id}' does not exist`);
  }

  subnet(id: string, action: string): Subnet {
    const subnet = this.#subnets.get(id);
    if (subnet) return subnet;
    throw new CloudError(action, 'InvalidSubnetID.NotFound', `The subnet ID '${id}' does not exist`);
  }

  make(request: CreateEni): EniDescription {
    const action = 'CreateNetworkInterface';
    const earlier = request.clientToken === '' ? undefined : this.#byToken.get(request.clientToken);
    if (earlier) return this.eni(earlier, action);
    const { secondaryCount, prefixCount = 0 } = request;
    this.#checkRoom(action, 1 + secondaryCount + prefixCount);
    const subnet = this.subnet(request.subnetId, action);
    const number = ++this.#numbered;
    const eni: EniDescription = {
      id: `eni-${number.toString(16).padStart(17, '0')}` as EniId,
      mac: localMac(Uint8Array.of(2, 0, number >>> 24, number >>> 16, number >>> 8, number)),
      subnetId: subnet.id,
      vpcId: VPC,
      zone: ZONE,
      description: request.description,
      interfaceType: 'interface',
      status: 'available',
      groupIds: [...request.groupIds],
      addresses: [],
      ipv6Addresses: [],
      ipv4Prefixes: [],
      ipv6Prefixes: [],
      attachment: null,
      requesterId: '',
      tags: { ...request.tags },
    };
    this.#checkPrefixes(action, subnet, prefixCount);
    this.#checkFree(action, subnet, 1 + secondaryCount + 16 * prefixCount);
    for (let i = 0; i < prefixCount; i++) eni.ipv4Prefixes.push(subnet.takeBlock()!);
    for (let i = 0; i <= secondaryCount; i++)
      eni.addresses.push({ ip: subnet.takeAny()!, primary: i === 0, public: false });
    this.enis.set(eni.id, eni);
    if (request.clientToken !== '') this.#byToken.set(request.clientToken, eni.id);
    this.o.meter.noteTaken(secondaryCount + 16 * prefixCount, 1);
    return eni;
  }

  /** Attaches; the attachment is `attaching` for some seconds. */
  attach(eniId: EniId, instanceId: string, deviceIndex: number): string {
    const action = 'AttachNetworkInterface';
    const eni = this.eni(eniId, action);
    const instance = this.instance(instanceId, action);
    const { limits, clock } = this.o;
    if (eni.attachment) throw new CloudError(action, 'InvalidNetworkInterface.InUse', `${eniId} is in use`);
    if (instance.enis.size >= limits.enis)
      throw new CloudError(action, 'AttachmentLimitExceeded', `${instance.enis.size} of ${limits.enis}`);
    if ([...instance.enis.values()].some((one) => one.attachment!.deviceIndex === deviceIndex))
      throw new CloudError(action, 'InvalidParameterValue', `device index ${deviceIndex} is in use`);
    const attachment = this.#attach(eni, instance, deviceIndex, 'attaching');
    clock.in(this.#times.attach(), () => {
      if (attachment.status !== 'attaching') return;
      attachment.status = 'attached';
      this.listedAt.set(eniId, clock.now() + this.#times.metadata());
    });
    return attachment.id;
  }

  detach(attachmentId: string): void {
    const action = 'DetachNetworkInterface';
    const eni = this.enis.get(`eni-${attachmentId.slice('eni-attach-'.length)}` as EniId);
    if (!eni?.attachment)
      throw new CloudError(action, 'InvalidAttachmentID.NotFound', `${attachmentId} does not exist`);
    const { attachment } = eni;
    attachment.status = 'detaching';
    this.o.clock.in(this.#times.detach(), () => {
      if (eni.attachment !== attachment) return;
      this.#instances.get(attachment.instanceId)?.enis.delete(eni.id);
      eni.attachment = null;
      eni.status = 'available';
    });
  }

  remove(eniId: EniId): void {
    const action = 'DeleteNetworkInterface';
    const eni = this.eni(eniId, action);
    if (eni.attachment)
      throw new CloudError(
        action,
        'InvalidParameterValue',
        `Network interface '${eniId}' is currently in use.`,
      );
    this.drop(eni);
  }

  drop(eni: EniDescription): void {
    if (!this.enis.delete(eni.id)) return;
    this.listedAt.delete(eni.id);
    const subnet = this.#subnets.get(eni.subnetId)!;
    for (const { ip } of eni.addresses) subnet.release(hostCidr(ip));
    for (const prefix of eni.ipv4Prefixes) subnet.release(prefix);
    this.o.meter.noteTaken(-(eni.addresses.length - 1) - 16 * eni.ipv4Prefixes.length, -1);
  }

  assign(eniId: EniId, count: number): Ipv4[] {
    const action = 'AssignPrivateIpAddresses';
    const eni = this.eni(eniId, action);
    this.#checkRoom(action, slotsOf(eni) + count);
    const subnet = this.subnet(eni.subnetId, action);
    this.#checkFree(action, subnet, count);
    const ips = Array.from({ length: count }, () => subnet.takeAny()!);
    eni.addresses.push(...ips.map((ip) => ({ ip, primary: false, public: false })));
    this.o.meter.noteTaken(count, 0);
    return ips;
  }

  assignThese(eniId: EniId, ips: readonly Ipv4[]): void {
    const action = 'AssignPrivateIpAddresses';
    const eni = this.eni(eniId, action);
    const subnet = this.subnet(eni.subnetId, action);
    if (ips.some((ip) => !subnet.isFree(ip)))
      throw new CloudError(action, 'InvalidParameterValue', 'some of the addresses are assigned already');
    this.#checkRoom(action, slotsOf(eni) + ips.length);
    for (const ip of ips) subnet.take(ip);
    eni.addresses.push(...ips.map((ip) => ({ ip, primary: false, public: false })));
    this.o.meter.noteTaken(ips.length, 0);
  }

  assignBlocks(eniId: EniId, count: number) {
    const action = 'AssignPrivateIpAddresses';
    const eni = this.eni(eniId, action);
    this.#checkRoom(action, slotsOf(eni) + count);
    const subnet = this.subnet(eni.subnetId, action);
    this.#checkPrefixes(action, subnet, count);
    const blocks = Array.from({ length: count }, () => subnet.takeBlock()!);
    eni.ipv4Prefixes.push(...blocks);
    this.o.meter.noteTaken(16 * count, 0);
    return blocks;
  }

  unassign(eniId: EniId, ips: ReadonlySet<Ipv4>, prefixes: ReadonlySet<Ipv4>): void {
    const action = 'UnassignPrivateIpAddresses';
    const eni = this.eni(eniId, action);
    const subnet = this.subnet(eni.subnetId, action);
    const kept = eni.addresses.filter((one) => one.primary || !ips.has(one.ip));
    const keptBlocks = eni.ipv4Prefixes.filter((one) => !prefixes.has(one.ip as Ipv4));
    if (
      kept.length + ips.size !== eni.addresses.length ||
      keptBlocks.length + prefixes.size !== eni.ipv4Prefixes.length
    )
      throw new CloudError(
        action,
        'InvalidParameterValue',
        `Some networkInterface addresses are not on ${eniId}`,
      );
    eni.addresses = kept;
    eni.ipv4Prefixes = keptBlocks;
    for (const ip of ips) subnet.release(hostCidr(ip));
    for (const ip of prefixes) subnet.release({ ip, length: 28 });
    this.o.meter.noteTaken(-ips.size - 16 * prefixes.size, 0);
  }

  #attach(eni: EniDescription, instance: Instance, deviceIndex: number, status: 'attaching' | 'attached') {
    eni.status = 'in-use';
    eni.attachment = {
      id: `eni-attach-${eni.id.slice(4)}`,
      instanceId: instance.id,
      deviceIndex,
      networkCard: 0,
      status,
      deleteOnTermination: false,
    };
    instance.enis.set(eni.id, eni);
    return eni.attachment;
  }

  #throttledError(action: string): CloudError {
    let error = this.#throttled.get(action);
    if (!error) {
      error = new CloudError(action, 'RequestLimitExceeded', 'Request limit exceeded.');
      this.#throttled.set(action, error);
    }
    return error;
  }

  #number(): string {
    return (++this.#numbered).toString(16).padStart(17, '0');
  }

  #checkRoom(action: string, slots: number): void {
    const { ipv4PerEni } = this.o.limits;
    if (slots > ipv4PerEni)
      throw new CloudError(
        action,
        'PrivateIpAddressLimitExceeded',
        `${slots} of ${ipv4PerEni} per interface`,
      );
  }

  #checkFree(action: string, subnet: Subnet, count: number): void {
    if (subnet.free >= count) return;
    const text = `${subnet.id} has ${subnet.free} free addresses of ${count}`;
    throw new CloudError(action, 'InsufficientFreeAddressesInSubnet', text);
  }

  #checkPrefixes(action: string, subnet: Subnet, count: number): void {
    if (count === 0) return;
    const whole = subnet.wholeBlocks;
    if (whole >= count) return;
    throw new CloudError(
      action,
      'InsufficientCidrBlocks',
      `${subnet.id} has ${whole} whole /28s of ${count}`,
    );
  }
}

const slotsOf = (eni: EniDescription): number => eni.addresses.length + eni.ipv4Prefixes.length;
