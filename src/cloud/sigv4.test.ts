import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Sha256 } from '@aws-crypto/sha256-js';
import { SignatureV4 } from '@smithy/signature-v4';
import fc from 'fast-check';
import { signPost } from './sigv4.ts';

test('signs as the SDK does, whatever the body, the keys, the endpoint and the time', async () => {
  const text = fc
    .string({ minLength: 1, maxLength: 40, unit: 'grapheme-ascii' })
    .map((one) => one.trim() || 'x');
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        body: fc.string({ unit: 'grapheme' }),
        secretAccessKey: text,
        sessionToken: fc.option(fc.base64String({ minLength: 1 }), { nil: undefined }),
        host: fc.constantFrom('ec2.us-west-2.amazonaws.com', '127.0.0.1:4242', '169.254.169.10'),
        date: fc.date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true }),
        region: fc.constantFrom('us-west-2', 'cn-north-1'),
      }),
      async ({ body, secretAccessKey, sessionToken, host, date, region }) => {
        const contentType = 'application/x-www-form-urlencoded; charset=utf-8';
        const credentials = {
          accessKeyId: 'AKID',
          secretAccessKey,
          ...(sessionToken ? { sessionToken } : {}),
        };
        const sdk = new SignatureV4({ service: 'ec2', region, credentials, sha256: Sha256 });
        const headers = { host, 'content-type': contentType };
        const [hostname, port] = host.split(':');
        const request = { method: 'POST', protocol: 'http:', hostname: hostname!, path: '/', headers, body };
        const theirs = await sdk.sign(
          { ...request, ...(port ? { port: Number(port) } : {}) },
          { signingDate: date },
        );
        const ours = signPost({ service: 'ec2', region, credentials, host, contentType, body, date });
        assert.equal(ours['authorization'], theirs.headers['authorization']);
        assert.equal(ours['x-amz-date'], theirs.headers['x-amz-date']);
      },
    ),
    { numRuns: 100 },
  );
});
