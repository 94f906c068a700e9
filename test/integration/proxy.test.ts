// EC2 and STS through a proxy, as in a network without another way out: HTTPS_PROXY and NO_PROXY as programs know them,
// and never for the metadata service or what else is beside the node.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setDefaultCACertificates } from 'node:tls';
import { defaultCredentials, fixedCredentials } from '../../src/cloud/credentials.ts';
import { createEc2Cloud } from '../../src/cloud/ec2.ts';
import { createImds } from '../../src/cloud/imds.ts';
import { Pki } from '../../src/lab/cluster/api/pki.ts';

const DOMAIN = 'podway.test';
const REGION = 'us-west-2';
const EMPTY = '<DescribeNetworkInterfacesResponse><networkInterfaceSet/></DescribeNetworkInterfacesResponse>';
const ASSUMED = `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials>
  <AccessKeyId>AKIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
  <Expiration>2031-01-01T00:00:00Z</Expiration>
  </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;

const listen = (server: Server): Promise<number> =>
  new Promise((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port)),
  );

/** AWS behind a proxy: only the proxy can resolve its names and reach it. */
async function network() {
  const dir = mkdtempSync(join(tmpdir(), 'podway-proxy-'));
  const names = [`ec2.${REGION}.${DOMAIN}`, `sts.${REGION}.${DOMAIN}`, '127.0.0.1'];
  const { key, cert, ca } = (await Pki.open(join(dir, 'pki'), names, Date.now())).tls;
  setDefaultCACertificates([ca]);
  const hosts: string[] = [];
  const aws = createSecureServer({ key, cert }, (request: IncomingMessage, response) => {
    hosts.push(request.headers.host ?? '');
    response.end(request.headers.host?.startsWith('sts.') ? ASSUMED : EMPTY);
  });
  const awsPort = await listen(aws);
  const asked: string[] = [];
  const proxy = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.writeHead(502).end();
  });
  proxy.on('connect', (request, socket, head) => {
    asked.push(`CONNECT ${request.url}`);
    const out = connect(awsPort, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      out.write(head);
      out.pipe(socket);
      socket.pipe(out);
    });
    for (const one of [out, socket]) one.on('error', () => one.destroy());
  });
  const proxyPort = await listen(proxy);
  const before = { ...process.env };
  return {
    dir,
    hosts,
    asked,
    awsPort,
    use(noProxy = '') {
      process.env['HTTPS_PROXY'] = `http://127.0.0.1:${proxyPort}`;
      process.env['NO_PROXY'] = noProxy;
    },
    async [Symbol.asyncDispose]() {
      for (const name of ['HTTPS_PROXY', 'NO_PROXY']) delete process.env[name];
      Object.assign(process.env, before);
      rmSync(dir, { recursive: true });
      for (const server of [aws, proxy]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
}

const keys = fixedCredentials({ accessKeyId: 'AKIA', secretAccessKey: 's' });
const describe = (options: { endpoint?: string; timeoutMs?: number } = {}) =>
  createEc2Cloud({
    region: REGION,
    domain: DOMAIN,
    credentials: keys,
    clock: { now: Date.now, sleep: async () => {} },
    ...options,
  }).describeNetworkInterfaces({ kind: 'instance', instanceId: 'i-0' });

test('EC2 and STS are reached through the proxy; one connection serves many calls', async () => {
  await using there = await network();
  there.use();
  assert.deepEqual(await describe(), []);
  assert.deepEqual(await describe(), []);
  assert.deepEqual(there.asked, [`CONNECT ec2.${REGION}.${DOMAIN}:443`]);
  assert.equal(there.hosts[0], `ec2.${REGION}.${DOMAIN}`);
  const tokenFile = join(there.dir, 'token');
  writeFileSync(tokenFile, 'token');
  const env = { AWS_WEB_IDENTITY_TOKEN_FILE: tokenFile, AWS_ROLE_ARN: 'arn:aws:iam::1:role/x' };
  const found = await defaultCredentials({ env, region: REGION, domain: DOMAIN }).get();
  assert.equal(found.accessKeyId, 'AKIA');
  assert.equal(there.asked[1], `CONNECT sts.${REGION}.${DOMAIN}:443`);
});

test('NO_PROXY names what is reached without it', async () => {
  await using there = await network();
  there.use(`example.org,.${DOMAIN}`);
  await assert.rejects(describe(), { code: 'CLOUD_UNREACHABLE', message: /ENOTFOUND|EAI_AGAIN/ });
  assert.deepEqual(there.asked, []);
});

test('what is beside the node is never asked through the proxy', async () => {
  await using there = await network();
  there.use();
  assert.deepEqual(await describe({ endpoint: `https://127.0.0.1:${there.awsPort}` }), []);
  const imds = createServer((_request, response) => response.end('text'));
  const port = await listen(imds);
  assert.equal(await createImds({ endpoint: `http://127.0.0.1:${port}` }).get('meta-data/mac'), 'text');
  imds.closeAllConnections();
  imds.close();
  const linkLocal = { AWS_CONTAINER_CREDENTIALS_FULL_URI: 'https://169.254.170.23/v1/credentials' };
  await assert.rejects(defaultCredentials({ env: linkLocal }).get(), { code: 'CLOUD_UNREACHABLE' });
  assert.deepEqual(there.asked, []);
});

test('a proxy that is not there is told by its address', async () => {
  await using there = await network();
  there.use();
  process.env['HTTPS_PROXY'] = 'http://127.0.0.1:1';
  await assert.rejects(describe(), { code: 'CLOUD_UNREACHABLE', message: /127\.0\.0\.1:1/ });
});
