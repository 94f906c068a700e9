// All meanings in one table, by action.
import { accountActions } from './account.ts';
import { attachmentActions } from './attachments.ts';
import { egressOnlyActions } from './egress-only.ts';
import { elasticIpActions } from './elastic-ips.ts';
import { gatewayActions } from './gateways.ts';
import { ruleActions } from './group-rules.ts';
import { groupActions } from './groups.ts';
import { imageActions } from './images.ts';
import { instanceAttributeActions } from './instance-attributes.ts';
import { instanceTypeActions } from './instance-types.ts';
import { instanceActions } from './instances.ts';
import { interfacePermissionActions } from './interface-permissions.ts';
import { interfaceActions } from './interfaces.ts';
import { inventoryActions } from './inventory.ts';
import { ipv6AddressActions } from './ipv6-addresses.ts';
import { launchActions } from './launch.ts';
import { natGatewayActions } from './nat-gateways.ts';
import { networkAclActions } from './network-acls.ts';
import { privateAddressActions } from './private-addresses.ts';
import { reservationActions } from './reservations.ts';
import { routeActions } from './routes.ts';
import { subnetActions } from './subnets.ts';
import { tagActions } from './tags.ts';
import { trunkActions } from './trunks.ts';
import type { ActionName, Meanings } from './types.ts';
import { vpcActions } from './vpcs.ts';

export const meanings: Meanings<ActionName> = {
  ...accountActions,
  ...attachmentActions,
  ...egressOnlyActions,
  ...elasticIpActions,
  ...gatewayActions,
  ...groupActions,
  ...instanceActions,
  ...interfaceActions,
  ...interfacePermissionActions,
  ...ipv6AddressActions,
  ...launchActions,
  ...natGatewayActions,
  ...privateAddressActions,
  ...reservationActions,
  ...routeActions,
  ...subnetActions,
  ...tagActions,
  ...trunkActions,
  ...imageActions,
  ...instanceAttributeActions,
  ...instanceTypeActions,
  ...inventoryActions,
  ...networkAclActions,
  ...ruleActions,
  ...vpcActions,
};

export const hasMeaning = (action: string): action is ActionName => Object.hasOwn(meanings, action);
