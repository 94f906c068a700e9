// The SecurityGroupPolicies of a lab.yaml, with names of groups for their ids: made objects of the lab's Kubernetes API
// once the VPC is there. Throws LabError BAD_SHAPE with the line.
import { MAX_GROUPS, type SecurityGroupPolicy } from '../../kube/vpc-resources.ts';
import type { VpcState } from '../vpc/model.ts';
import type { GroupPolicyShape, InstanceShape, Shape, VpcShape } from './shape.ts';
import type { Reader } from './yaml.ts';
import { MAX_LIST, NAME, unique } from './yaml-subnets.ts';

const NAMESPACE = 'default';

/** Of `demo: security-groups`: two pods, each with the group of its name, and the port of the instance `db`. */
export const DEMO_PODS = ['shop', 'guest'] as const;
export const DEMO_PORT = 5432;

export function readGroupPolicies(
  reader: Reader,
  vpcs: readonly VpcShape[],
): Pick<Shape, 'securityGroupPolicies'> {
  const securityGroupPolicies = reader.list(MAX_LIST).map((one) => readOne(one, vpcs));
  unique(
    reader,
    securityGroupPolicies.map(({ name }) => name),
    'SecurityGroupPolicy',
  );
  return securityGroupPolicies.length > 0 ? { securityGroupPolicies } : {};
}

function readOne(reader: Reader, vpcs: readonly VpcShape[]): GroupPolicyShape {
  const keys = reader.map(['name', 'podLabels', 'securityGroups']);
  const podLabels = Object.fromEntries(keys.podLabels.entries().map(([key, value]) => [key, value.text()]));
  if (Object.keys(podLabels).length === 0) throw keys.podLabels.fail('is empty: it would select every pod');
  const groups = keys.securityGroups.list(MAX_GROUPS);
  if (groups.length === 0) throw keys.securityGroups.fail('is missing: a policy gives at least one group');
  const securityGroups = groups.map((group) => {
    const name = group.text(NAME);
    if (!vpcs.some((vpc) => vpc.securityGroups.some((each) => each.name === name)))
      throw group.fail(`is "${name}", which no VPC has`);
    return name;
  });
  return { name: keys.name.text(NAME), podLabels, securityGroups };
}

/** What the demo is about must be there: it is written for examples/security-groups.yaml. */
export function readDemo(
  reader: Reader,
  vpcs: readonly VpcShape[],
  instances: readonly InstanceShape[],
): Pick<Shape, 'demo'> {
  if (reader.absent) return {};
  const demo = reader.oneOf(['security-groups'] as const);
  if (!instances.some(({ name, serve }) => name === 'db' && serve === DEMO_PORT))
    throw reader.fail(`is ${demo}, which needs an instance db with serve: ${DEMO_PORT}`);
  for (const name of ['db', ...DEMO_PODS])
    if (!vpcs.some((vpc) => vpc.securityGroups.some((each) => each.name === name)))
      throw reader.fail(`is ${demo}, which needs a security group ${name}`);
  return { demo };
}

/**
 * The objects, with the ids that the VPC gave; a group that somebody deleted is left out, a policy without groups too.
 */
export function groupPolicyObjects(shape: Shape, state: VpcState): SecurityGroupPolicy[] {
  const vpc = Object.values(state.vpcs).find(({ tags }) => tags['Name'] === shape.vpcs[0]!.name);
  return (shape.securityGroupPolicies ?? []).flatMap(({ name, podLabels, securityGroups }) => {
    const groupIds = Object.values(state.securityGroups)
      .filter((group) => group.vpcId === vpc?.id && securityGroups.includes(group.name))
      .map(({ id }) => id);
    if (groupIds.length === 0) return [];
    return [
      {
        apiVersion: 'vpcresources.k8s.aws/v1beta1',
        kind: 'SecurityGroupPolicy',
        metadata: { name, namespace: NAMESPACE },
        spec: { podSelector: { matchLabels: podLabels }, securityGroups: { groupIds } },
      },
    ];
  });
}
