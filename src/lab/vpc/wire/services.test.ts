// One endpoint for every service that AWS_ENDPOINT_URL sends there: STS says who one is, others are told by name that
// they are not here, each in the form that its clients read.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Sha256 } from '@aws-crypto/sha256-js';
import { HttpRequest } from '@smithy/protocol-http';
import { SignatureV4 } from '@smithy/signature-v4';
import { listen, REGION, roleOf, smallShape, testVpc } from '../testing.ts';

type Credentials = { accessKeyId: string; secretAccessKey: string; sessionToken?: string };
type Call = {
  service: string;
  body: string;
  region?: string;
  type?: string;
  target?: string;
  credentials: Credentials;
};

async function call(url: string, { service, body, region = REGION, type, target, credentials }: Call) {
  const { hostname, port, host } = new URL(url);
  const request = new HttpRequest({
    method: 'POST',
    hostname,
    port: Number(port),
    path: '/',
    headers: {
      host,
      'content-type': type ?? 'application/x-www-form-urlencoded',
      ...(target ? { 'x-amz-target': target } : {}),
    },
    body,
  });
  const signed = await new SignatureV4({ credentials, region, service, sha256: Sha256 }).sign(request);
  const answer = await fetch(url, { method: 'POST', headers: signed.headers, body });
  return { status: answer.status, text: await answer.text(), headers: answer.headers };
}

const WHO = 'Action=GetCallerIdentity&Version=2011-06-15';

test('GetCallerIdentity answers the key and the role, and STS has its own words for strangers', async () => {
  await using lab = testVpc();
  await using server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const credentials = lab.vpc.keys();
  const sts = (more: Partial<Call> = {}) =>
    call(server.url, { service: 'sts', body: WHO, credentials, ...more });
  const own = await sts();
  assert.equal(own.status, 200, own.text);
  assert.match(own.text, /<Account>123456789012<\/Account>/);
  assert.match(own.text, /<Arn>arn:aws:iam::123456789012:user\/podway<\/Arn><UserId>AIDA[A-Z2-7]{16}</);
  assert.equal((await sts({ region: 'us-east-1' })).status, 200, 'the global endpoint');

  const { instanceId } = await smallShape(lab.vpc);
  const role = await roleOf(lab.vpc, instanceId);
  lab.vpc.settings.roleActions = [];
  const node = await sts({ credentials: role });
  assert.match(
    node.text,
    new RegExp(`<Arn>arn:aws:sts::123456789012:assumed-role/podway-node/${instanceId}</Arn>`),
  );

  const failures: [Partial<Call>, number, RegExp][] = [
    [{ credentials: { ...credentials, secretAccessKey: 'wrong' } }, 403, /<Code>SignatureDoesNotMatch</],
    [{ credentials: { ...credentials, accessKeyId: 'AKIANOBODY' } }, 403, /<Code>InvalidClientTokenId</],
    [{ region: 'eu-west-1' }, 403, /<Code>SignatureDoesNotMatch</],
    [
      { body: 'Action=AssumeRole&Version=2011-06-15' },
      400,
      /UnsupportedOperation.*GetCallerIdentity alone, not AssumeRole/,
    ],
  ];
  for (const [more, status, pattern] of failures) {
    const refused = await sts(more);
    assert.equal(refused.status, status, refused.text);
    assert.match(refused.text, pattern);
    assert.match(refused.text, /^<\?xml.*\n<ErrorResponse><Error><Type>Sender</);
  }
});

test('a service that is not here is told by its name, in the form of its clients', async () => {
  await using lab = testVpc();
  await using server = await listen((request, response) => void lab.vpc.ec2Handler(request, response));
  const credentials = lab.vpc.keys();
  const iam = await call(server.url, { service: 'iam', body: 'Action=ListRoles', credentials });
  assert.equal(iam.status, 400);
  assert.match(
    iam.text,
    /<ErrorResponse>.*<Code>UnsupportedOperation<.*The lab has no service &apos;iam&apos;/s,
  );
  const ssm = await call(server.url, {
    service: 'ssm',
    body: '{}',
    type: 'application/x-amz-json-1.1',
    target: 'AmazonSSM.GetParameter',
    credentials,
  });
  assert.equal(ssm.headers.get('x-amzn-errortype'), 'UnsupportedOperation');
  const said = JSON.parse(ssm.text) as { __type: string; message: string };
  assert.equal(said.__type, 'UnsupportedOperation');
  assert.match(said.message, /The lab has no service 'ssm'.*AWS_ENDPOINT_URL_EC2/);
  const eks = await fetch(`${server.url}/clusters`, {
    headers: {
      authorization: `AWS4-HMAC-SHA256 Credential=A/20260101/${REGION}/eks/aws4_request, Signature=0`,
    },
  });
  assert.match(((await eks.json()) as { message: string }).message, /no service 'eks'/);
  const s3 = await fetch(`${server.url}/bucket/key`, {
    method: 'PUT',
    headers: {
      authorization: `AWS4-HMAC-SHA256 Credential=A/20260101/${REGION}/s3/aws4_request, Signature=0`,
    },
    body: 'data',
  });
  assert.match(await s3.text(), /no service &apos;s3&apos;/);
  const nobody = await fetch(`${server.url}/?Action=DescribeVpcs`);
  assert.match(await nobody.text(), /<Response><Errors><Error><Code>AuthFailure</);
});
