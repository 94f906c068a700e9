// The ENIConfigs of a lab.yaml: named subnets and security groups of one VPC, made objects of the lab's Kubernetes API
// once the VPC is there. Throws LabError BAD_SHAPE with the line.
import type { EniConfig } from '../../kube/networks.ts';
import type { VpcState } from '../vpc/model.ts';
import { findSubnet } from './build.ts';
import type { EniConfigShape, Shape, VpcShape } from './shape.ts';
import type { Reader } from './yaml.ts';
import { MAX_LIST, NAME, unique } from './yaml-subnets.ts';

export function readEniConfigs(reader: Reader, vpcs: readonly VpcShape[]): Pick<Shape, 'eniConfigs'> {
  const eniConfigs = reader.list(MAX_LIST).map((one) => readOne(one, vpcs));
  unique(
    reader,
    eniConfigs.map(({ name }) => name),
    'ENIConfig',
  );
  return eniConfigs.length > 0 ? { eniConfigs } : {};
}

function readOne(reader: Reader, vpcs: readonly VpcShape[]): EniConfigShape {
  const keys = reader.map(['name', 'subnet', 'securityGroups']);
  const subnet = keys.subnet.text(NAME);
  const vpc = vpcs.find((each) => each.subnets.some(({ name }) => name === subnet));
  if (!vpc) throw keys.subnet.fail(`is "${subnet}", which is no subnet of this file`);
  const securityGroups = keys.securityGroups.list(MAX_LIST).map((group) => {
    const name = group.text(NAME);
    if (!vpc.securityGroups.some((each) => each.name === name))
      throw group.fail(`is "${name}", which is no security group of VPC ${vpc.name}`);
    return name;
  });
  return { name: keys.name.text(NAME), subnet, securityGroups };
}

/** The objects, with the ids that the VPC gave; a subnet or group that somebody deleted is left out. */
export function eniConfigObjects(shape: Shape, state: VpcState): EniConfig[] {
  return (shape.eniConfigs ?? []).flatMap(({ name, subnet: subnetName, securityGroups }) => {
    const subnet = findSubnet(state, subnetName);
    if (!subnet) return [];
    const ids = Object.values(state.securityGroups)
      .filter(({ vpcId, tags }) => vpcId === subnet.vpcId && securityGroups.includes(tags['Name'] ?? ''))
      .map(({ id }) => id);
    return [
      {
        apiVersion: 'crd.k8s.amazonaws.com/v1alpha1',
        kind: 'ENIConfig',
        metadata: { name },
        spec: { subnet: subnet.id, securityGroups: ids },
      },
    ];
  });
}
