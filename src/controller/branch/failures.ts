// What keeps a pod from its branch, as one of our causes with EC2's words. Pure.
import type { Cause } from '../../base/causes.ts';
import { asPodwayError } from '../../base/errors.ts';
import { CloudError } from '../../cloud/port.ts';

export type Failure = { code: Cause; text: string };

export function failureOf(error: unknown): Failure {
  const text = error instanceof Error ? error.message : String(error);
  if (!(error instanceof CloudError)) return { code: asPodwayError(error).code, text };
  const { ec2Code, action, code } = error;
  if (/^Invalid(Group|SecurityGroup)/.test(ec2Code) || /different networks/.test(text)) {
    const isOther = /in VPC|different networks/.test(text);
    return { code: isOther ? 'GROUP_OTHER_VPC' : 'GROUP_NOT_FOUND', text };
  }
  if (ec2Code === 'SecurityGroupsPerInterfaceLimitExceeded') return { code: 'GROUP_LIMIT', text };
  if (action === 'AssociateTrunkInterface') {
    if (ec2Code === 'AttachmentLimitExceeded') return { code: 'BRANCH_LIMIT', text };
    if (code === 'INTERNAL') return { code: 'BRANCH_ASSOCIATION_FAILED', text };
  }
  return { code, text };
}

/** Where EC2's refusal of a probe means that trunks are not to be had here. */
export const isDenied = (error: unknown): boolean =>
  error instanceof CloudError &&
  (error.code === 'CLOUD_DENIED' ||
    /^(InvalidAction|UnsupportedOperation|OperationNotPermitted)$/.test(error.ec2Code));
