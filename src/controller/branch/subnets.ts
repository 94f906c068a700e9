// In which subnet a branch is made: those that the node's agent says new ENIs are for (NodeNetwork, ENIConfig or tags),
// else the node's own; only of the trunk's zone, as EC2 asks for. One that EC2 has called full is left alone for a
// while, if there is another. Descriptions are kept, since CIDRs stay. Fails with NO_SUBNET, CloudError.
import type { Clock } from '../../base/clock.ts';
import { PodwayError } from '../../base/errors.ts';
import { cidrContains, type Ip } from '../../base/ip.ts';
import type { Cloud, SubnetDescription } from '../../cloud/port.ts';
import type { PodwayNodeSpec } from '../../kube/index.ts';
import type { Trunk } from './trunks.ts';

/** How long a description holds, and how long a full subnet is left alone (ms). */
const HOLDS_MS = 600_000;
const FULL_MS = 60_000;

type NewEnis = PodwayNodeSpec['newEnis'];

export class Subnets {
  readonly #cloud: Pick<Cloud, 'describeSubnets' | 'describeVpcSubnets'>;
  readonly #clock: Clock;
  readonly #known = new Map<string, { subnet: SubnetDescription; at: number }>();
  readonly #fullUntil = new Map<string, number>();

  constructor(cloud: Pick<Cloud, 'describeSubnets' | 'describeVpcSubnets'>, clock: Clock) {
    this.#cloud = cloud;
    this.#clock = clock;
  }

  /** In order of choice, full ones last; at least one. */
  async choices(
    { subnetId, zone }: Pick<Trunk, 'subnetId' | 'zone'>,
    newEnis: NewEnis,
    signal: AbortSignal,
  ): Promise<SubnetDescription[]> {
    const ids = newEnis ? newEnis.subnets : [subnetId];
    const found = await this.#describe(ids, signal);
    const usable = found.filter(
      (one) => one.zone === zone && (wants6(newEnis) ? one.ipv6Cidr !== null : true),
    );
    if (usable.length === 0) {
      const need = wants6(newEnis) ? `of zone ${zone} with IPv6` : `of zone ${zone}`;
      const text = `none of the subnets for new ENIs (${ids.join(', ') || 'none'}) is ${need}, where the trunk is`;
      throw new PodwayError('NO_SUBNET', text, { object: subnetId });
    }
    const now = this.#clock.now();
    const isFull = ({ id }: SubnetDescription) => (this.#fullUntil.get(id) ?? 0) > now;
    return [...usable.filter((one) => !isFull(one)), ...usable.filter(isFull)];
  }

  async find(id: string, signal: AbortSignal): Promise<SubnetDescription> {
    return (await this.#describe([id], signal))[0]!;
  }

  /** The one of the trunk's zone that an address is of. */
  async around(
    ip: Ip,
    { vpcId, zone }: Pick<Trunk, 'vpcId' | 'zone'>,
    signal: AbortSignal,
  ): Promise<SubnetDescription | undefined> {
    const all = await this.#cloud.describeVpcSubnets(vpcId, zone, signal);
    return all.find(({ cidr, ipv6Cidr }) =>
      [cidr, ipv6Cidr].some((one) => one !== null && cidrContains(one, ip)),
    );
  }

  noteFull(id: string): void {
    this.#fullUntil.set(id, this.#clock.now() + FULL_MS);
  }

  async #describe(ids: readonly string[], signal: AbortSignal): Promise<SubnetDescription[]> {
    const now = this.#clock.now();
    const asked = ids.filter((id) => {
      const known = this.#known.get(id);
      return !known || now - known.at > HOLDS_MS;
    });
    if (asked.length > 0)
      for (const subnet of await this.#cloud.describeSubnets(asked, signal))
        this.#known.set(subnet.id, { subnet, at: now });
    return ids.flatMap((id) => this.#known.get(id)?.subnet ?? []);
  }
}

const wants6 = (newEnis: NewEnis): boolean => newEnis !== undefined && newEnis.families !== 'ipv4';

/** Single IPv6 addresses that a branch is made with. */
export const sixesOf = (newEnis: NewEnis): number => (wants6(newEnis) ? 1 : 0);
