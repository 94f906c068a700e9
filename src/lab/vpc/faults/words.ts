// What EC2 says with the errors that faults are made of.
import { Ec2Error } from '../errors.ts';

const WORDS: Readonly<Record<string, string>> = {
  InternalError: 'An internal error has occurred',
  InternalFailure: 'The request processing has failed because of an unknown error, exception or failure.',
  Unavailable: 'The service is unavailable. Please try again shortly.',
  ServiceUnavailable: 'The request has failed due to a temporary failure of the server.',
  RequestLimitExceeded: 'Request limit exceeded.',
  UnauthorizedOperation: 'You are not authorized to perform this operation.',
  InsufficientFreeAddressesInSubnet:
    'The specified subnet does not have enough free addresses to satisfy the request.',
  InsufficientCidrBlocks:
    'The specified subnet does not have enough free cidr blocks to satisfy the request.',
};

export const injected = (code: string, faultId: string): Ec2Error =>
  new Ec2Error(code, WORDS[code] ?? `The request failed with ${code} (fault ${faultId} of the lab).`);
