// The part of the Cloud port that is of trunks: branch interfaces by VLAN id. AWS opens these calls to chosen accounts
// alone, hence the probe. Source: Amazon EC2 API Reference, AssociateTrunkInterface. Fails as query.ts does.
import { CloudError, type EniId, type TrunkAssociation, type TrunkCloud } from './port.ts';
import { callPaged, type QueryClient } from './query.ts';
import { textAt, type XmlElement } from './xml.ts';

const PAGE = 255;
/** Of no interface: a call that may not be made is refused before EC2 looks for it. */
const NOWHERE = 'eni-00000000000000000';

export function trunkCalls(client: QueryClient): TrunkCloud {
  return {
    async associateTrunk({ trunkId, branchId, vlanId, clientToken }, signal) {
      const answer = await client.call({
        action: 'AssociateTrunkInterface',
        params: {
          TrunkInterfaceId: trunkId,
          BranchInterfaceId: branchId,
          VlanId: vlanId,
          ClientToken: clientToken,
        },
        repeatable: true,
        signal,
      });
      const id = textAt(answer, 'interfaceAssociation', 'associationId');
      if (id === '')
        throw new CloudError(
          'AssociateTrunkInterface',
          'Unavailable',
          'the answer names no association',
          true,
        );
      return id;
    },
    async disassociateTrunk(associationId, signal) {
      const params = { AssociationId: associationId };
      await client.call({ action: 'DisassociateTrunkInterface', params, repeatable: true, signal });
    },
    describeTrunkAssociations(signal) {
      const action = 'DescribeTrunkInterfaceAssociations';
      const request = { action, params: { MaxResults: PAGE }, repeatable: true, signal };
      return callPaged(client, request, 'interfaceAssociationSet', readAssociation);
    },
    async probeTrunking(signal) {
      const action = 'AssociateTrunkInterface';
      const params = { TrunkInterfaceId: NOWHERE, BranchInterfaceId: NOWHERE, VlanId: 1, DryRun: true };
      try {
        await client.call({ action, params, repeatable: true, signal });
      } catch (error) {
        if (!(error instanceof CloudError) || isRefusal(error)) throw error;
        // DryRunOperation, or a word about an id that does not exist: the call itself is allowed.
        if (error.ec2Code !== 'DryRunOperation' && !/NotFound|Malformed/.test(error.ec2Code)) throw error;
      }
    },
  };
}

const isRefusal = (error: CloudError): boolean => error.code === 'CLOUD_DENIED';

const readAssociation = (item: XmlElement): TrunkAssociation => ({
  id: textAt(item, 'associationId'),
  trunkId: textAt(item, 'trunkInterfaceId') as EniId,
  branchId: textAt(item, 'branchInterfaceId') as EniId,
  vlanId: Number(textAt(item, 'vlanId')),
});
