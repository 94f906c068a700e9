// The exchanges against a local server, each compared with the SDK's own provider: the same request, the same keys.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { defaultProvider } from '@aws-sdk/credential-provider-node';
import { systemClock } from '../base/clock.ts';
import { containerUrl } from './container-credentials.ts';
import { defaultCredentials } from './credentials.ts';
import { serviceEndpoint } from './endpoint.ts';
import { createImds } from './imds.ts';

type Asked = { method: string; path: string; authorization: string | undefined; body: string };
type Env = Record<string, string>;

const EXPIRES = '2031-02-03T04:05:06Z';
const KEYS = {
  accessKeyId: 'ASIAEXAMPLE',
  secretAccessKey: 'se/cr+et&<x>',
  sessionToken: 'tok==en',
  expiration: new Date(EXPIRES),
};

/** A server that answers each path with its own text, and keeps what it was asked. */
async function server(
  answer: (asked: Asked) => { status?: number; type?: string; body: string } | undefined,
) {
  const asked: Asked[] = [];
  const listening = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      const { method = '', url: path = '', headers } = request;
      const one = { method, path, authorization: headers.authorization, body };
      asked.push(one);
      const said = answer(one) ?? { status: 404, body: '' };
      response
        .writeHead(said.status ?? 200, { 'content-type': said.type ?? 'application/json' })
        .end(said.body);
    });
  });
  await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
  const dir = mkdtempSync(join(tmpdir(), 'podway-credentials-'));
  return {
    asked,
    url: `http://127.0.0.1:${(listening.address() as AddressInfo).port}`,
    file(name: string, text: string) {
      writeFileSync(join(dir, name), text);
      return join(dir, name);
    },
    async [Symbol.asyncDispose]() {
      rmSync(dir, { recursive: true });
      listening.closeAllConnections();
      await new Promise((resolve) => listening.close(resolve));
    },
  };
}

/** What the SDK's chain gives with that environment and nothing of this machine. */
async function bySdk(env: Env) {
  const before = { ...process.env };
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
  Object.assign(process.env, { AWS_CONFIG_FILE: '/absent', AWS_SHARED_CREDENTIALS_FILE: '/absent' }, env);
  try {
    const { accessKeyId, secretAccessKey, sessionToken, expiration } = await defaultProvider()();
    return { accessKeyId, secretAccessKey, sessionToken, expiration };
  } finally {
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
    Object.assign(process.env, before);
  }
}

const xml = (inner: string) => ({ type: 'text/xml', body: inner });
const escaped = (text: string) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/>/g, '&gt;');
const assumed = xml(`<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>system:serviceaccount:kube-system:podway</SubjectFromWebIdentityToken>
    <Credentials>
      <AccessKeyId>${KEYS.accessKeyId}</AccessKeyId>
      <SecretAccessKey>${escaped(KEYS.secretAccessKey)}</SecretAccessKey>
      <SessionToken>${KEYS.sessionToken}</SessionToken>
      <Expiration>${EXPIRES}</Expiration>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>r-1</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>`);
const json = {
  body: JSON.stringify({
    Code: 'Success',
    AccessKeyId: KEYS.accessKeyId,
    SecretAccessKey: KEYS.secretAccessKey,
    Token: KEYS.sessionToken,
    Expiration: EXPIRES,
  }),
};

test('web identity: the call and the keys are those of the SDK', async () => {
  await using sts = await server(() => assumed);
  const env = {
    AWS_WEB_IDENTITY_TOKEN_FILE: sts.file('token', 'eyJ.a+b/c=.d'),
    AWS_ROLE_ARN: 'arn:aws:iam::111122223333:role/podway',
    AWS_ROLE_SESSION_NAME: 'node-1',
    AWS_ENDPOINT_URL_STS: sts.url,
    AWS_REGION: 'eu-central-1',
  };
  assert.deepEqual(await defaultCredentials({ env }).get(), KEYS);
  assert.deepEqual(await bySdk(env), KEYS);
  const [ours, theirs] = sts.asked;
  const form = (one: Asked | undefined) => Object.fromEntries([...new URLSearchParams(one!.body)].sort());
  assert.deepEqual(form(ours), form(theirs));
  assert.deepEqual(
    [ours!.method, ours!.path, ours!.authorization],
    [theirs!.method, theirs!.path, theirs!.authorization],
  );
});

test('web identity: the token is read anew for each exchange; a refusal keeps the code of STS', async () => {
  let refuse = false;
  const refusal = `<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code>
    <Message>No OpenIDConnect provider found</Message></Error><RequestId>r</RequestId></ErrorResponse>`;
  await using sts = await server(() => (refuse ? { status: 400, ...xml(refusal) } : assumed));
  const env = {
    AWS_WEB_IDENTITY_TOKEN_FILE: sts.file('token', 'first'),
    AWS_ROLE_ARN: 'arn:aws:iam::111122223333:role/podway',
    AWS_ENDPOINT_URL_STS: sts.url,
  };
  const source = defaultCredentials({ env });
  await source.get();
  sts.file('token', 'second\n');
  source.forget();
  await source.get();
  assert.deepEqual(
    sts.asked.map((one) => new URLSearchParams(one.body).get('WebIdentityToken')),
    ['first', 'second'],
  );
  refuse = true;
  source.forget();
  await assert.rejects(source.get(), {
    code: 'CLOUD_DENIED',
    ec2Code: 'InvalidIdentityToken',
    message: /role\/podway at http.*No OpenIDConnect provider found/,
  });
});

test('pod identity: the request and the keys are those of the SDK, with a token from a file', async () => {
  await using agent = await server((asked) => (asked.path === '/v1/credentials' ? json : undefined));
  const env = {
    AWS_CONTAINER_CREDENTIALS_FULL_URI: `${agent.url}/v1/credentials`,
    AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: agent.file('token', 'the-token'),
    AWS_CONTAINER_AUTHORIZATION_TOKEN: 'not this one',
  };
  assert.deepEqual(await defaultCredentials({ env }).get(), KEYS);
  assert.deepEqual(await bySdk(env), KEYS);
  assert.deepEqual(agent.asked[0], agent.asked[1]);
  assert.equal(agent.asked[0]!.authorization, 'the-token');
});

test('pod identity: what goes wrong is told with the address and the words of the agent', async () => {
  await using agent = await server(() => ({
    status: 403,
    body: '{"Code":"AccessDenied","Message":"pod has no association"}',
  }));
  const env = { AWS_CONTAINER_CREDENTIALS_FULL_URI: `${agent.url}/x` };
  await assert.rejects(defaultCredentials({ env }).get(), {
    code: 'CLOUD_DENIED',
    message: /\/x answered 403: AccessDenied: pod has no association/,
  });
});

test('a container agent is asked at its own address or over https, as by the SDK', () => {
  const full = (uri: string) => containerUrl({ AWS_CONTAINER_CREDENTIALS_FULL_URI: uri })?.href;
  assert.equal(full('http://169.254.170.23/v1/credentials'), 'http://169.254.170.23/v1/credentials');
  assert.equal(full('http://[fd00:ec2::23]/v1'), 'http://[fd00:ec2::23]/v1');
  assert.equal(full('https://keys.example/x'), 'https://keys.example/x');
  for (const bad of ['http://10.0.0.1/x', 'http://127.0.0.1.example/x', 'ftp://127.0.0.1/', 'x'])
    assert.throws(() => full(bad), { code: 'CLOUD_DENIED' }, bad);
  const env = { AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: '/v2/id', AWS_CONTAINER_CREDENTIALS_FULL_URI: 'x' };
  assert.equal(containerUrl(env)?.href, 'http://169.254.170.2/v2/id');
});

test('instance profile: the keys are those of the SDK', async () => {
  const path = '/latest/meta-data/iam/security-credentials/';
  await using imds = await server((asked) => {
    if (asked.path === '/latest/api/token') return { body: 'token' };
    if (asked.path === path) return { body: 'node-role' };
    return asked.path === `${path}node-role` ? json : undefined;
  });
  assert.deepEqual(
    await defaultCredentials({ env: {}, imds: createImds({ endpoint: imds.url }) }).get(),
    KEYS,
  );
  assert.deepEqual(await bySdk({ AWS_EC2_METADATA_SERVICE_ENDPOINT: imds.url }), KEYS);
});

test('a profile is the business of the SDK, whatever else is set', async () => {
  await using files = await server(() => undefined);
  const config = files.file('config', '[profile x]\naws_access_key_id=AKIAX\naws_secret_access_key=s\n');
  const env = { AWS_PROFILE: 'x', AWS_CONFIG_FILE: config, AWS_CONTAINER_CREDENTIALS_FULL_URI: 'x' };
  const before = { ...process.env };
  Object.assign(process.env, env);
  try {
    const keys = await defaultCredentials({ env }).get();
    assert.deepEqual([keys.accessKeyId, keys.secretAccessKey], ['AKIAX', 's']);
  } finally {
    for (const name of Object.keys(env)) delete process.env[name];
    Object.assign(process.env, before);
  }
});

test('keys are renewed in time, and kept to their end while nobody renews them', async () => {
  let now = systemClock.now();
  let broken = false;
  await using agent = await server(() => {
    if (broken) return { status: 500, body: '' };
    return { body: JSON.stringify({ ...JSON.parse(json.body), Expiration: new Date(now + 3_600_000) }) };
  });
  const env = { AWS_CONTAINER_CREDENTIALS_FULL_URI: agent.url };
  const source = defaultCredentials({ env, clock: { ...systemClock, now: () => now } });
  await source.get();
  now += 50 * 60_000;
  await source.get();
  assert.equal(agent.asked.length, 1);
  broken = true;
  now += 6 * 60_000;
  await source.get();
  assert.equal(agent.asked.length, 2);
  now += 4 * 60_000;
  await assert.rejects(source.get(), { code: 'CLOUD_UNREACHABLE' });
});

test('a service is at its region under the domain of the partition, unless the environment says otherwise', () => {
  assert.equal(
    serviceEndpoint('ec2', 'us-iso-east-1', 'c2s.ic.gov', {}),
    'https://ec2.us-iso-east-1.c2s.ic.gov',
  );
  assert.equal(
    serviceEndpoint('sts', 'cn-north-1', undefined, {}),
    'https://sts.cn-north-1.amazonaws.com.cn',
  );
  assert.equal(serviceEndpoint('ec2', 'eu-west-1', undefined, {}), 'https://ec2.eu-west-1.amazonaws.com');
  assert.equal(serviceEndpoint('sts', 'x', 'y', { AWS_ENDPOINT_URL: 'http://l' }), 'http://l');
  assert.equal(serviceEndpoint('ec2', 'x', 'y', { AWS_ENDPOINT_URL_EC2: 'http://e' }), 'http://e');
});
