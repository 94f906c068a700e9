// The one action of STS that the endpoint answers: who the caller is. AWS_ENDPOINT_URL sends every service's calls to
// the lab, and tools ask this one first. STS has an XML form and codes of its own, on the same signatures.
import type { Caller } from '../context.ts';
import { Ec2Error } from '../errors.ts';
import { escapeXml } from './xml.ts';

const NAMESPACE = 'https://sts.amazonaws.com/doc/2011-06-15/';
const ACTION = 'GetCallerIdentity';

export function answerSts(action: string, caller: Caller, accountId: string, requestId: string): string {
  if (action !== ACTION)
    throw new Ec2Error('UnsupportedOperation', `The lab's sts answers ${ACTION} alone, not ${action}.`);
  const element = (name: string, text: string) => `<${name}>${escapeXml(text)}</${name}>`;
  const result =
    element('Arn', caller.arn) + element('UserId', caller.userId) + element('Account', accountId);
  return `<${ACTION}Response xmlns="${NAMESPACE}"><${ACTION}Result>${result}</${ACTION}Result><ResponseMetadata><RequestId>${requestId}</RequestId></ResponseMetadata></${ACTION}Response>`;
}

/** What EC2 calls AuthFailure has other names at STS. */
export function stsError(error: Ec2Error): Ec2Error {
  if (error.code === 'AuthFailure')
    return new Ec2Error('InvalidClientTokenId', 'The security token included in the request is invalid.');
  if (error.code === 'RequestExpired') return new Ec2Error('ExpiredToken', error.message);
  return error;
}
