import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ApiError } from './errors.ts';
import { decodeProtobuf, PROTOBUF } from './protobuf.ts';
import { startApi } from './testing.ts';

// What kubectl v1.36 sends for: create deployment d --image=x:1 --replicas=2 --port=80 -n kube-public
const deployment =
  'azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50ErQBCiYKAWQSABoLa3ViZS1wdWJsaWMiACoAMgA4AEIAWggKA2FwcBIBZBJ8CAISCgoICgNhcHASAWQaZAoaCgASABoAIgAqADIAOABCAFoICgNhcHASAWQSRhIoCgF4EgN4OjEqADIKCgAQABhQIgAqAEIAagByAIABAIgBAJABAKIBABoAMgBCAEoAUgBYAGAAaACCAQCKAQCaAQDCAQAiAgoAKAA4ABoMCAAQABgAIAAoADgAGgAiAA==';
// create service nodeport s --tcp=80:http --node-port=31000
const service =
  'azhzAAoNCgJ2MRIHU2VydmljZRJnChsKAXMSABoAIgAqADIAOABCAFoICgNhcHASAXMSRAogCgc4MC1odHRwEgNUQ1AYUCIKCAEQABoEaHR0cCiY8gESCAoDYXBwEgFzGgAiCE5vZGVQb3J0OgBCAFIAWgBgAGgAGgIKABoAIgA=';
// create quota q --hard=cpu=1
const quota = 'azhzAAoTCgJ2MRINUmVzb3VyY2VRdW90YRIjChEKAXESABoAIgAqADIAOABCABIMCgoKA2NwdRIDCgExGgAaACIA';
// A CustomResourceDefinition as apiextensions-apiserver v0.36 writes it, with each form that a schema may take.
const definition =
  'azhzAAozChdhcGlleHRlbnNpb25zLms4cy5pby92MRIYQ3VzdG9tUmVzb3VyY2VEZWZpbml0aW9uErgFCiUKFXBvb2xzLm5ldC5leGFtcGxlLmNvbRIAGgAiACoAMgA4AEIAEoAFCg9uZXQuZXhhbXBsZS5jb20aFQoFcG9vbHMSABoCcGwiBFBvb2wqACIHQ2x1c3RlcjrKBAoCdjEQARgBIpYECpMECgASACIAKgZvYmplY3QyADoAUABgAHoAkAEA6gG3AwoEc3BlYxKuAwoAEgAiACoGb2JqZWN0MgA6AFAAYAB6AJABALoBBHNpemXqAVkKBWNpZHJzElAKABIAIgAqBWFycmF5MgA6AFAAYAB6AJABAMIBKgooCgASACIAKgZzdHJpbmcyBGNpZHI6AFAAYAB6AJABAKgCALgCAMACAKgCALgCAMACAOoBLwoEZnJlZRInCgASACIAKgZvYmplY3QyADoAUABgAHoAkAEAqAIAsAIBuAIAwAIA6gFZCgZsYWJlbHMSTwoAEgAiACoGb2JqZWN0MgA6AFAAYAB6AJABAPIBKAgBEiQKABIAIgAqBnN0cmluZzIAOgBQAGAAegCQAQCoAgC4AgDAAgCoAgC4AgDAAgDqATwKBG1vZGUSNAoAEgAiACoGc3RyaW5nMgA6AFAAYAB6AJABAKIBBQoDImEiogEFCgMiYiKoAgC4AgDAAgDqATsKBHNpemUSMwoAEgAiACoHaW50ZWdlcjIAOgBCAwoBOFAAWQAAAAAAAPA/YAB6AJABAKgCALgCAMACAKgCALgCAMACAOICGQoNc2VsZi5zaXplID4gMBIEc2l6ZRoAKgDqATEKBnN0YXR1cxInCgASACIAKgZvYmplY3QyADoAUABgAHoAkAEAqAIAsAIBuAIAwAIAqAIAuAIAwAIAKgIKADIhCgRTaXplEgdpbnRlZ2VyGgAiACgAMgouc3BlYy5zaXplOABQABoMEggKABIAIgAqACAAGgAiAA==';

const decode = (text: string) => decodeProtobuf(Buffer.from(text, 'base64'));

test('the bodies of kubectl say what its JSON would', () => {
  assert.deepEqual(decode(deployment), {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'd', namespace: 'kube-public', labels: { app: 'd' } },
    spec: {
      replicas: 2,
      selector: { matchLabels: { app: 'd' } },
      template: {
        metadata: { labels: { app: 'd' } },
        spec: {
          containers: [{ name: 'x', image: 'x:1', ports: [{ containerPort: 80 }], resources: {} }],
        },
      },
      strategy: {},
    },
    status: {},
  });
  const { spec } = decode(service) as { spec: Record<string, unknown> };
  assert.deepEqual(spec, {
    ports: [{ name: '80-http', protocol: 'TCP', port: 80, targetPort: 'http', nodePort: 31000 }],
    selector: { app: 's' },
    type: 'NodePort',
  });
  assert.deepEqual((decode(quota) as { spec: unknown }).spec, { hard: { cpu: '1' } });
});

test('a definition of a Go client serves its kind', async () => {
  await using h = await startApi();
  const { code, json } = await h.raw('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
    body: Buffer.from(definition, 'base64'),
    headers: { 'content-type': PROTOBUF },
  });
  assert.equal(code, 201, JSON.stringify(json));
  const { spec } = json.spec.versions[0].schema.openAPIV3Schema.properties;
  assert.deepEqual(spec, {
    type: 'object',
    required: ['size'],
    properties: {
      size: { type: 'integer', minimum: 1, default: 8 },
      mode: { type: 'string', enum: ['a', 'b'] },
      labels: { type: 'object', additionalProperties: { type: 'string' } },
      cidrs: { type: 'array', items: { type: 'string', format: 'cidr' } },
      free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
    },
    'x-kubernetes-validations': [{ rule: 'self.size > 0', message: 'size' }],
  });
  const pool = { metadata: { name: 'a' }, spec: { labels: { x: 'y' } } };
  const made = await h.raw('POST', '/apis/net.example.com/v1/pools', { body: JSON.stringify(pool) });
  assert.deepEqual([made.code, made.json.spec.size], [201, 8]);
});

test('bytes that are no message are refused, whatever they are', () => {
  const bytes = Buffer.from(deployment, 'base64');
  assert.throws(() => decodeProtobuf(Buffer.from('{}')), { code: 400 });
  fc.assert(
    fc.property(
      fc.nat(bytes.length - 1),
      fc.integer({ min: 0, max: 255 }),
      fc.boolean(),
      (at, value, cut) => {
        const broken = Buffer.from(bytes);
        broken[at] = value;
        try {
          decodeProtobuf(cut ? broken.subarray(0, at) : broken);
        } catch (error) {
          assert.ok(error instanceof ApiError, String(error));
        }
      },
    ),
    { numRuns: 2000 },
  );
});
