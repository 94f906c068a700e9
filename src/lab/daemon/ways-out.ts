// How pods of a node get out of the VPC, and whose address the internet host then sees: from the VPC's state, for the
// connectivity test. Pure.
import { tableOf } from '../fabric/routes.ts';
import { LAB_DOMAIN } from '../resolver/names.ts';
import { INTERNET_HOST } from '../shape/shape.ts';
import type { Route, Subnet, VpcState } from '../vpc/model.ts';
import type { NodeView } from './protocol.ts';

export type WaysOut = {
  /** Whose IPv4 address is seen: the NAT gateway's where the subnet leads to one, else the node's; undefined for none. */
  seenOf(node: NodeView): string | undefined;
  /** Whether the node's subnet has an IPv6 way to the internet. */
  leadsOut6(node: NodeView): boolean;
  /** How pods of IPv6 alone reach the internet host's IPv4, and whose address it sees; undefined when they do not. */
  toIpv4(node: NodeView): { address: string; seen: string } | undefined;
};

export function waysOut(state: VpcState, egress4: 'none' | 'node'): WaysOut {
  const subnetOf = ({ instanceId }: NodeView): Subnet | undefined =>
    state.subnets[state.instances[instanceId]?.subnetId ?? ''];
  const routesOf = (node: NodeView): Route[] => {
    const subnet = subnetOf(node);
    return (subnet && tableOf(state, subnet)?.routes) ?? [];
  };
  const natOf = (node: NodeView, destination: string) => {
    const target = routesOf(node).find((route) => route.destination === destination)?.target;
    return target?.kind === 'nat-gateway' ? state.natGateways[target.id] : undefined;
  };
  const publicIpOf = (gateway: ReturnType<typeof natOf>): string | undefined =>
    gateway?.state === 'available' ? gateway.publicIp : undefined;
  return {
    seenOf(node) {
      const gateway = natOf(node, '0.0.0.0/0');
      return gateway ? publicIpOf(gateway) : node.publicIps[0];
    },
    leadsOut6: (node) =>
      routesOf(node).some(
        ({ destination, target }) =>
          destination === '::/0' && target.kind !== 'network-interface' && target.kind !== 'nat-gateway',
      ),
    // By name through NAT64 where the subnet has DNS64 and a way to a NAT gateway, else with the node's address.
    toIpv4(node) {
      const gateway = natOf(node, '64:ff9b::/96');
      if (gateway && subnetOf(node)?.enableDns64) {
        const seen = publicIpOf(gateway);
        return seen === undefined ? undefined : { address: `ipv4.internet.${LAB_DOMAIN}`, seen };
      }
      const [seen] = node.publicIps;
      return egress4 === 'node' && seen !== undefined ? { address: INTERNET_HOST, seen } : undefined;
    },
  };
}
