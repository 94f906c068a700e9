// Keys for a service account's role: the token that Kubernetes keeps in a file is exchanged at STS. The call is a
// Query call like EC2's, but unsigned: the token is the proof. Ours because the SDK's way to it costs 27 MiB.
// Fails with CloudError: STS's own code (CLOUD_DENIED), or `Network`, `Timeout` when STS did not answer.
// Source: docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
import { readFileSync } from 'node:fs';
import { exchange, HttpFailure } from './http.ts';
import type { RoleCredentials } from './imds.ts';
import { CloudError } from './port.ts';
import { encodeQuery } from './query.ts';
import { at, parseXml, textAt } from './xml.ts';

const ACTION = 'AssumeRoleWithWebIdentity';
const VERSION = '2011-06-15';
const TIMEOUT = 10_000;

type WebIdentity = { roleArn: string; tokenFile: string; sessionName: string; endpoint: string };

export async function webIdentityCredentials(
  identity: WebIdentity,
  signal?: AbortSignal,
): Promise<RoleCredentials> {
  // Read each time: Kubernetes replaces it before it ends.
  const token = readFileSync(identity.tokenFile, 'utf8').trim();
  const answer = await exchange({
    method: 'POST',
    url: new URL('/', identity.endpoint),
    headers: { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' },
    body: encodeQuery({
      Action: ACTION,
      Version: VERSION,
      RoleArn: identity.roleArn,
      RoleSessionName: identity.sessionName,
      WebIdentityToken: token,
    }),
    timeoutMs: TIMEOUT,
    signal,
  }).catch((error) => {
    if (!(error instanceof HttpFailure)) throw error;
    throw new CloudError(ACTION, error.timedOut ? 'Timeout' : 'Network', error.message, false, {
      cause: error,
    });
  });
  return readAnswer(identity, answer.status, answer.body);
}

function readAnswer(identity: WebIdentity, status: number, body: string): RoleCredentials {
  const refused = (code: string, text: string) =>
    new CloudError(ACTION, code, `${identity.roleArn} at ${identity.endpoint}: ${text}`);
  let root: ReturnType<typeof parseXml>;
  try {
    root = parseXml(body);
  } catch (error) {
    throw refused('Unavailable', `status ${status}, and the answer is not XML: ${(error as Error).message}`);
  }
  if (status !== 200) {
    const error = at(root, 'Error');
    throw refused(textAt(error, 'Code') || `Http${status}`, textAt(error, 'Message') || `status ${status}`);
  }
  const found = at(root, `${ACTION}Result`, 'Credentials');
  const accessKeyId = textAt(found, 'AccessKeyId');
  const secretAccessKey = textAt(found, 'SecretAccessKey');
  if (accessKeyId === '' || secretAccessKey === '') throw refused('Unavailable', 'the answer has no keys');
  return {
    accessKeyId,
    secretAccessKey,
    sessionToken: textAt(found, 'SessionToken'),
    expiration: new Date(textAt(found, 'Expiration')),
  };
}
