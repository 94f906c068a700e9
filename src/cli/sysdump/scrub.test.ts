import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bareObject, scrubText } from './scrub.ts';

const SECRETS: [text: string, secret: string][] = [
  ['-----BEGIN RSA PRIVATE KEY-----\nMIIEow==\n-----END RSA PRIVATE KEY-----', 'MIIEow'],
  [JSON.stringify({ key: '-----BEGIN EC PRIVATE KEY-----\nMIIEow==\n' }), 'MIIEow'],
  ['caller AKIAIOSFODNN7EXAMPLE', 'AKIAIOSFODNN7EXAMPLE'],
  ['got eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2lnbmF0dXJl', 'eyJpc3MiOiJrdWJlIn0'],
  ['authorization: Bearer abcdefgh12345678', 'abcdefgh12345678'],
  ['https://user:pa55word@proxy.example:3128/', 'pa55word'],
  ['AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG', 'wJalrXUtnFEMI'],
  ['{"secretAccessKey": "wJalrXUtnFEMI/K7MDENG"}', 'wJalrXUtnFEMI'],
  ['{"msg":"{\\"sessionToken\\":\\"FwoGZXIvYXdz\\"}"}', 'FwoGZXIvYXdz'],
  ['GET /?X-Amz-Signature=5d672d79c15b13162d9279b0855cfba6', '5d672d79'],
  ['    client-key-data: LS0tLS1CRUdJTg==', 'LS0tLS1CRUdJTg'],
];

test('what looks like a secret goes, what is around it stays, and JSON stays JSON', () => {
  for (const [text, secret] of SECRETS) {
    const shown = scrubText(`before ${text} after`);
    assert.ok(!shown.includes(secret), shown);
    assert.match(shown, /^before .* after$/s);
    if (text.startsWith('{')) JSON.parse(scrubText(text));
  }
});

test('what Podway tells stays as it is', () => {
  const told = JSON.stringify({
    instance: 'i-0b8cb070536200a11',
    eni: 'eni-09b1b2235808c69b7',
    token: 'the token of IMDS was refused',
    containerId: 'cd4dfab8d13d4214037c5d070cc91bfcaff60e3f006e4d0c3423cccf695bd87c',
    link: 'https://10.0.0.1:6443/api',
  });
  assert.equal(scrubText(told), told);
});

test('values that are known to be secrets go, whatever they look like', () => {
  assert.equal(scrubText('x correct horse battery y', ['correct horse battery', 'x']), 'x (left out) y');
});

test('of a pod only what Podway reads stays', () => {
  const bare = bareObject({
    metadata: {
      name: 'web',
      labels: { app: 'web' },
      annotations: {
        'podway.dev/policy': 'audit',
        'kubectl.kubernetes.io/last-applied-configuration': 'S3CRET',
      },
      managedFields: ['S3CRET'],
    },
    spec: {
      nodeName: 'node-1',
      volumes: ['S3CRET'],
      containers: [
        {
          name: 'a',
          command: ['S3CRET'],
          args: ['S3CRET'],
          env: [{ name: 'P', value: 'S3CRET' }],
          ports: [1],
        },
      ],
      initContainers: [{ name: 'b', env: [{ name: 'P', value: 'S3CRET' }] }],
    },
    status: { podIP: '10.0.0.1' },
  } as never);
  const env = [{ name: 'P', value: '(left out)' }];
  assert.deepEqual(bare, {
    metadata: { name: 'web', labels: { app: 'web' }, annotations: { 'podway.dev/policy': 'audit' } },
    spec: {
      nodeName: 'node-1',
      containers: [{ name: 'a', ports: [1], env }],
      initContainers: [{ name: 'b', env }],
    },
    status: { podIP: '10.0.0.1' },
  });
});
