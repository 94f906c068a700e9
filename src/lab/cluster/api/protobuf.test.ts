import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ApiError } from './errors.ts';
import { decodeProtobuf } from './protobuf.ts';

// What kubectl v1.36 sends for: create deployment d --image=x:1 --replicas=2 --port=80 -n kube-public
const deployment =
  'azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50ErQBCiYKAWQSABoLa3ViZS1wdWJsaWMiACoAMgA4AEIAWggKA2FwcBIBZBJ8CAISCgoICgNhcHASAWQaZAoaCgASABoAIgAqADIAOABCAFoICgNhcHASAWQSRhIoCgF4EgN4OjEqADIKCgAQABhQIgAqAEIAagByAIABAIgBAJABAKIBABoAMgBCAEoAUgBYAGAAaACCAQCKAQCaAQDCAQAiAgoAKAA4ABoMCAAQABgAIAAoADgAGgAiAA==';
// create service nodeport s --tcp=80:http --node-port=31000
const service =
  'azhzAAoNCgJ2MRIHU2VydmljZRJnChsKAXMSABoAIgAqADIAOABCAFoICgNhcHASAXMSRAogCgc4MC1odHRwEgNUQ1AYUCIKCAEQABoEaHR0cCiY8gESCAoDYXBwEgFzGgAiCE5vZGVQb3J0OgBCAFIAWgBgAGgAGgIKABoAIgA=';
// create quota q --hard=cpu=1
const quota = 'azhzAAoTCgJ2MRINUmVzb3VyY2VRdW90YRIjChEKAXESABoAIgAqADIAOABCABIMCgoKA2NwdRIDCgExGgAaACIA';

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
