// EC2 as the cluster's controller sees it: instances, their ENIs and subnets, many at a time, and the one change that it
// makes. Reads are by filter and page, as those of a node. Fails as query.ts does, with CloudError.
import type { Ec2Options } from './ec2.ts';
import { readEni, readSubnet } from './ec2.ts';
import { serviceEndpoint } from './endpoint.ts';
import type { EniDescription, EniId, SubnetDescription } from './port.ts';
import { callPaged, createQueryClient, type QueryValue } from './query.ts';
import { itemsAt, textAt } from './xml.ts';

/** EC2's states; one that it does not know any more is not among the answers. */
export type InstanceState = 'pending' | 'running' | 'shutting-down' | 'terminated' | 'stopping' | 'stopped';

export type FleetCloud = {
  /** Those that EC2 knows: an instance is forgotten an hour after its end. */
  instanceStates(ids: readonly string[], signal?: AbortSignal): Promise<Map<string, InstanceState>>;
  /** Interfaces that bear one of these values in the tag. */
  taggedEnis(key: string, values: readonly string[], signal?: AbortSignal): Promise<EniDescription[]>;
  /** Those that there are. */
  subnets(ids: readonly string[], signal?: AbortSignal): Promise<SubnetDescription[]>;
  /** EC2 refuses one that is attached. */
  deleteEni(id: EniId, signal?: AbortSignal): Promise<void>;
};

/** EC2 takes 200 values in a filter. */
const MOST_VALUES = 200;
const PAGE = 1000;

export function createFleetCloud(options: Ec2Options): FleetCloud {
  const endpoint = options.endpoint ?? serviceEndpoint('ec2', options.region, options.domain);
  const client = createQueryClient({ ...options, endpoint });

  async function byFilter<T>(
    action: string,
    name: string,
    values: readonly string[],
    list: string,
    read: Parameters<typeof callPaged<T>>[3],
    signal?: AbortSignal,
  ): Promise<T[]> {
    const found: T[] = [];
    for (let from = 0; from < values.length; from += MOST_VALUES) {
      const Value: QueryValue = values.slice(from, from + MOST_VALUES);
      const params = { Filter: [{ Name: name, Value }], MaxResults: PAGE };
      found.push(...(await callPaged(client, { action, params, repeatable: true, signal }, list, read)));
    }
    return found;
  }

  return {
    async instanceStates(ids, signal) {
      const reservations = await byFilter(
        'DescribeInstances',
        'instance-id',
        ids,
        'reservationSet',
        (item) =>
          itemsAt(item, 'instancesSet').map(
            (one) =>
              [textAt(one, 'instanceId'), textAt(one, 'instanceState', 'name') as InstanceState] as const,
          ),
        signal,
      );
      return new Map(reservations.flat());
    },
    taggedEnis: (key, values, signal) =>
      byFilter('DescribeNetworkInterfaces', `tag:${key}`, values, 'networkInterfaceSet', readEni, signal),
    subnets: (ids, signal) => byFilter('DescribeSubnets', 'subnet-id', ids, 'subnetSet', readSubnet, signal),
    async deleteEni(id, signal) {
      const params = { NetworkInterfaceId: id };
      await client.call({ action: 'DeleteNetworkInterface', params, repeatable: true, signal });
    },
  };
}
