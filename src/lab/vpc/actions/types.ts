// Every action that has a meaning, with the SDK's own types of its input and answer: one line per action.
import type * as ec2 from '@aws-sdk/client-ec2';
import type { Context } from '../context.ts';

export type ActionTypes = {
  AllocateAddress: [ec2.AllocateAddressRequest, ec2.AllocateAddressResult];
  AssignIpv6Addresses: [ec2.AssignIpv6AddressesRequest, ec2.AssignIpv6AddressesResult];
  AssignPrivateIpAddresses: [ec2.AssignPrivateIpAddressesRequest, ec2.AssignPrivateIpAddressesResult];
  AssociateAddress: [ec2.AssociateAddressRequest, ec2.AssociateAddressResult];
  AssociateRouteTable: [ec2.AssociateRouteTableRequest, ec2.AssociateRouteTableResult];
  AssociateSubnetCidrBlock: [ec2.AssociateSubnetCidrBlockRequest, ec2.AssociateSubnetCidrBlockResult];
  AssociateTrunkInterface: [ec2.AssociateTrunkInterfaceRequest, ec2.AssociateTrunkInterfaceResult];
  AssociateVpcCidrBlock: [ec2.AssociateVpcCidrBlockRequest, ec2.AssociateVpcCidrBlockResult];
  AttachInternetGateway: [ec2.AttachInternetGatewayRequest, Nothing];
  AttachNetworkInterface: [ec2.AttachNetworkInterfaceRequest, ec2.AttachNetworkInterfaceResult];
  AuthorizeSecurityGroupEgress: [
    ec2.AuthorizeSecurityGroupEgressRequest,
    ec2.AuthorizeSecurityGroupEgressResult,
  ];
  AuthorizeSecurityGroupIngress: [
    ec2.AuthorizeSecurityGroupIngressRequest,
    ec2.AuthorizeSecurityGroupIngressResult,
  ];
  CreateEgressOnlyInternetGateway: [
    ec2.CreateEgressOnlyInternetGatewayRequest,
    ec2.CreateEgressOnlyInternetGatewayResult,
  ];
  CreateInternetGateway: [ec2.CreateInternetGatewayRequest, ec2.CreateInternetGatewayResult];
  CreateNatGateway: [ec2.CreateNatGatewayRequest, ec2.CreateNatGatewayResult];
  CreateNetworkInterface: [ec2.CreateNetworkInterfaceRequest, ec2.CreateNetworkInterfaceResult];
  CreateNetworkInterfacePermission: [
    ec2.CreateNetworkInterfacePermissionRequest,
    ec2.CreateNetworkInterfacePermissionResult,
  ];
  CreateRoute: [ec2.CreateRouteRequest, ec2.CreateRouteResult];
  CreateRouteTable: [ec2.CreateRouteTableRequest, ec2.CreateRouteTableResult];
  CreateSecurityGroup: [ec2.CreateSecurityGroupRequest, ec2.CreateSecurityGroupResult];
  CreateSubnet: [ec2.CreateSubnetRequest, ec2.CreateSubnetResult];
  CreateSubnetCidrReservation: [
    ec2.CreateSubnetCidrReservationRequest,
    ec2.CreateSubnetCidrReservationResult,
  ];
  CreateTags: [ec2.CreateTagsRequest, Nothing];
  CreateVpc: [ec2.CreateVpcRequest, ec2.CreateVpcResult];
  DeleteEgressOnlyInternetGateway: [
    ec2.DeleteEgressOnlyInternetGatewayRequest,
    ec2.DeleteEgressOnlyInternetGatewayResult,
  ];
  DeleteInternetGateway: [ec2.DeleteInternetGatewayRequest, Nothing];
  DeleteNatGateway: [ec2.DeleteNatGatewayRequest, ec2.DeleteNatGatewayResult];
  DeleteNetworkInterface: [ec2.DeleteNetworkInterfaceRequest, Nothing];
  DeleteNetworkInterfacePermission: [
    ec2.DeleteNetworkInterfacePermissionRequest,
    ec2.DeleteNetworkInterfacePermissionResult,
  ];
  DeleteRoute: [ec2.DeleteRouteRequest, Nothing];
  DeleteRouteTable: [ec2.DeleteRouteTableRequest, Nothing];
  DeleteSecurityGroup: [ec2.DeleteSecurityGroupRequest, ec2.DeleteSecurityGroupResult];
  DeleteSubnet: [ec2.DeleteSubnetRequest, Nothing];
  DeleteSubnetCidrReservation: [
    ec2.DeleteSubnetCidrReservationRequest,
    ec2.DeleteSubnetCidrReservationResult,
  ];
  DeleteTags: [ec2.DeleteTagsRequest, Nothing];
  DeleteVpc: [ec2.DeleteVpcRequest, Nothing];
  DescribeAccountAttributes: [ec2.DescribeAccountAttributesRequest, ec2.DescribeAccountAttributesResult];
  DescribeAddresses: [ec2.DescribeAddressesRequest, ec2.DescribeAddressesResult];
  DescribeAvailabilityZones: [ec2.DescribeAvailabilityZonesRequest, ec2.DescribeAvailabilityZonesResult];
  DescribeEgressOnlyInternetGateways: [
    ec2.DescribeEgressOnlyInternetGatewaysRequest,
    ec2.DescribeEgressOnlyInternetGatewaysResult,
  ];
  DescribeInstanceAttribute: [ec2.DescribeInstanceAttributeRequest, ec2.InstanceAttribute];
  DescribeInstanceStatus: [ec2.DescribeInstanceStatusRequest, ec2.DescribeInstanceStatusResult];
  DescribeInstanceTypes: [ec2.DescribeInstanceTypesRequest, ec2.DescribeInstanceTypesResult];
  DescribeInstances: [ec2.DescribeInstancesRequest, ec2.DescribeInstancesResult];
  DescribeInternetGateways: [ec2.DescribeInternetGatewaysRequest, ec2.DescribeInternetGatewaysResult];
  DescribeNatGateways: [ec2.DescribeNatGatewaysRequest, ec2.DescribeNatGatewaysResult];
  DescribeNetworkInterfaceAttribute: [
    ec2.DescribeNetworkInterfaceAttributeRequest,
    ec2.DescribeNetworkInterfaceAttributeResult,
  ];
  DescribeNetworkInterfacePermissions: [
    ec2.DescribeNetworkInterfacePermissionsRequest,
    ec2.DescribeNetworkInterfacePermissionsResult,
  ];
  DescribeNetworkInterfaces: [ec2.DescribeNetworkInterfacesRequest, ec2.DescribeNetworkInterfacesResult];
  DescribeRegions: [ec2.DescribeRegionsRequest, ec2.DescribeRegionsResult];
  DescribeRouteTables: [ec2.DescribeRouteTablesRequest, ec2.DescribeRouteTablesResult];
  DescribeSecurityGroupRules: [ec2.DescribeSecurityGroupRulesRequest, ec2.DescribeSecurityGroupRulesResult];
  DescribeSecurityGroups: [ec2.DescribeSecurityGroupsRequest, ec2.DescribeSecurityGroupsResult];
  DescribeSubnets: [ec2.DescribeSubnetsRequest, ec2.DescribeSubnetsResult];
  DescribeTags: [ec2.DescribeTagsRequest, ec2.DescribeTagsResult];
  DescribeTrunkInterfaceAssociations: [
    ec2.DescribeTrunkInterfaceAssociationsRequest,
    ec2.DescribeTrunkInterfaceAssociationsResult,
  ];
  DescribeVpcAttribute: [ec2.DescribeVpcAttributeRequest, ec2.DescribeVpcAttributeResult];
  DescribeImages: [ec2.DescribeImagesRequest, ec2.DescribeImagesResult];
  DescribeInstanceTypeOfferings: [
    ec2.DescribeInstanceTypeOfferingsRequest,
    ec2.DescribeInstanceTypeOfferingsResult,
  ];
  DescribeKeyPairs: [ec2.DescribeKeyPairsRequest, ec2.DescribeKeyPairsResult];
  DescribeNetworkAcls: [ec2.DescribeNetworkAclsRequest, ec2.DescribeNetworkAclsResult];
  DescribeVolumes: [ec2.DescribeVolumesRequest, ec2.DescribeVolumesResult];
  DescribeVpcs: [ec2.DescribeVpcsRequest, ec2.DescribeVpcsResult];
  DetachInternetGateway: [ec2.DetachInternetGatewayRequest, Nothing];
  DetachNetworkInterface: [ec2.DetachNetworkInterfaceRequest, Nothing];
  DisassociateAddress: [ec2.DisassociateAddressRequest, Nothing];
  DisassociateRouteTable: [ec2.DisassociateRouteTableRequest, Nothing];
  DisassociateSubnetCidrBlock: [
    ec2.DisassociateSubnetCidrBlockRequest,
    ec2.DisassociateSubnetCidrBlockResult,
  ];
  DisassociateTrunkInterface: [ec2.DisassociateTrunkInterfaceRequest, ec2.DisassociateTrunkInterfaceResult];
  DisassociateVpcCidrBlock: [ec2.DisassociateVpcCidrBlockRequest, ec2.DisassociateVpcCidrBlockResult];
  GetSubnetCidrReservations: [ec2.GetSubnetCidrReservationsRequest, ec2.GetSubnetCidrReservationsResult];
  ModifyInstanceAttribute: [ec2.ModifyInstanceAttributeRequest, Nothing];
  ModifyInstanceMetadataOptions: [
    ec2.ModifyInstanceMetadataOptionsRequest,
    ec2.ModifyInstanceMetadataOptionsResult,
  ];
  ModifyNetworkInterfaceAttribute: [ec2.ModifyNetworkInterfaceAttributeRequest, Nothing];
  ModifySecurityGroupRules: [ec2.ModifySecurityGroupRulesRequest, ec2.ModifySecurityGroupRulesResult];
  ModifySubnetAttribute: [ec2.ModifySubnetAttributeRequest, Nothing];
  ModifyVpcAttribute: [ec2.ModifyVpcAttributeRequest, Nothing];
  RebootInstances: [ec2.RebootInstancesRequest, Nothing];
  ReleaseAddress: [ec2.ReleaseAddressRequest, Nothing];
  ReplaceRoute: [ec2.ReplaceRouteRequest, Nothing];
  ReplaceRouteTableAssociation: [
    ec2.ReplaceRouteTableAssociationRequest,
    ec2.ReplaceRouteTableAssociationResult,
  ];
  ResetNetworkInterfaceAttribute: [ec2.ResetNetworkInterfaceAttributeRequest, Nothing];
  RevokeSecurityGroupEgress: [ec2.RevokeSecurityGroupEgressRequest, ec2.RevokeSecurityGroupEgressResult];
  RevokeSecurityGroupIngress: [ec2.RevokeSecurityGroupIngressRequest, ec2.RevokeSecurityGroupIngressResult];
  RunInstances: [ec2.RunInstancesRequest & LabLaunch, ec2.Reservation];
  StartInstances: [ec2.StartInstancesRequest, ec2.StartInstancesResult];
  StopInstances: [ec2.StopInstancesRequest, ec2.StopInstancesResult];
  TerminateInstances: [ec2.TerminateInstancesRequest, ec2.TerminateInstancesResult];
  UnassignIpv6Addresses: [ec2.UnassignIpv6AddressesRequest, ec2.UnassignIpv6AddressesResult];
  UnassignPrivateIpAddresses: [ec2.UnassignPrivateIpAddressesRequest, Nothing];
  UpdateSecurityGroupRuleDescriptionsEgress: [
    ec2.UpdateSecurityGroupRuleDescriptionsEgressRequest,
    ec2.UpdateSecurityGroupRuleDescriptionsEgressResult,
  ];
  UpdateSecurityGroupRuleDescriptionsIngress: [
    ec2.UpdateSecurityGroupRuleDescriptionsIngressRequest,
    ec2.UpdateSecurityGroupRuleDescriptionsIngressResult,
  ];
};
type Nothing = Record<string, never>;
/** What only in-process callers can say: the wire has no name for it. */
export type LabLaunch = { LabAgent?: 'podway' | 'none' };

export type ActionName = keyof ActionTypes;
export type Input<A extends ActionName> = ActionTypes[A][0];
export type Answer<A extends ActionName> = ActionTypes[A][1];
/** A meaning: changes the draft, returns the answer, throws Ec2Error. No clock, no I/O. */
export type Meaning<A extends ActionName> = (ctx: Context, input: Input<A>) => Answer<A>;
export type Meanings<A extends ActionName> = { [K in A]: Meaning<K> };
