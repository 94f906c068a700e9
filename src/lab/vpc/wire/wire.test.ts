// The wire against the stock SDK, for every action that EC2 has: what the SDK writes we read, what we write it reads.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as sdk from '@aws-sdk/client-ec2';
import { HttpResponse } from '@smithy/protocol-http';
import fc from 'fast-check';
import { Ec2Error } from '../errors.ts';
import { decodeQuery } from './query.ts';
import { loadActionSchemas, type Shape, type StructShape } from './schema.ts';
import { encodeAnswer, encodeError, escapeXml } from './xml.ts';

const MAX_DEPTH = 3;
const actions = Object.keys(sdk)
  .filter((name) => name.endsWith('Command') && !name.startsWith('$'))
  .map((name) => name.slice(0, -'Command'.length));

// XML forbids most control characters, and a parser may trim text: values here start and end with a visible one.
const text = fc.stringMatching(/^[!-~]([ -~éß€😀]{0,20}[!-~])?$/u);

function sampleOf(shape: Shape, depth: number): fc.Arbitrary<unknown> {
  switch (shape.kind) {
    case 'string':
      return text;
    case 'number':
      return fc.integer({ min: -1000, max: 1_000_000 });
    case 'boolean':
      return fc.boolean();
    case 'timestamp':
      return fc.date({ min: new Date('2000-01-01'), max: new Date('2100-01-01'), noInvalidDate: true });
    case 'blob':
      return fc.uint8Array({ minLength: 1, maxLength: 20 });
    case 'list':
      return fc.array(sampleOf(shape.item(), depth + 1), { minLength: 1, maxLength: 3 });
    case 'struct':
      return structOf(shape, depth);
  }
}

/** A structure with all its members down to a depth, then none, so that recursive ones end. */
function structOf(shape: StructShape, depth: number): fc.Arbitrary<Record<string, unknown>> {
  const fields: Record<string, fc.Arbitrary<unknown>> = {};
  for (const member of shape.members()) {
    const inner = member.shape();
    const plain = inner.kind !== 'struct' && inner.kind !== 'list';
    if (plain || depth < MAX_DEPTH) fields[member.name] = sampleOf(inner, depth + 1);
  }
  return fc.record(fields);
}

/** A client whose requests end in `handle`. */
function clientTo(handle: (body: string) => string): sdk.EC2Client {
  return new sdk.EC2Client({
    region: 'us-west-2',
    credentials: { accessKeyId: 'AKIA', secretAccessKey: 'secret' },
    endpoint: 'http://127.0.0.1',
    maxAttempts: 1,
    // ResponseMetadata and the like are not of interest here: only what goes out and comes in.
    requestHandler: {
      handle: async (request: { body: string }) => ({
        response: new HttpResponse({
          statusCode: 200,
          headers: {},
          body: Buffer.from(handle(request.body)),
        }),
      }),
    },
    streamCollector: async (body: Uint8Array) => body,
  } as sdk.EC2ClientConfig);
}

/** Empty structures and lists do not travel. */
function pruned(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(pruned);
  if (value === null || typeof value !== 'object' || value instanceof Date || value instanceof Uint8Array)
    return value;
  const entries = Object.entries(value)
    .map(([key, inner]) => [key, pruned(inner)] as const)
    .filter(([, inner]) => inner !== undefined && !isEmpty(inner));
  return Object.fromEntries(entries);
}
const isEmpty = (value: unknown): boolean =>
  Array.isArray(value)
    ? value.every(isEmpty)
    : typeof value === 'object' &&
      value !== null &&
      !(value instanceof Date) &&
      !(value instanceof Uint8Array) &&
      Object.keys(value).length === 0;

test('every action of the SDK has a schema, and only those', async () => {
  const lookUp = await loadActionSchemas();
  assert.ok(actions.length > 700);
  for (const action of actions) assert.equal(lookUp(action)?.name, action);
  for (const name of ['NoSuchAction', 'Vpc', 'toString', '__proto__', ''])
    assert.equal(lookUp(name), undefined);
});

test('a request of any action decodes to what the SDK was given', async () => {
  const lookUp = await loadActionSchemas();
  let seen: unknown;
  let action = '';
  const client = clientTo((body) => {
    seen = decodeQuery(lookUp(action)!.input, new URLSearchParams(body));
    return `<${action}Response/>`;
  });
  for (action of actions) {
    const [input] = fc.sample(structOf(lookUp(action)!.input, 0), { numRuns: 1, seed: 7 });
    const Command = (sdk as unknown as Record<string, new (input: object) => never>)[`${action}Command`]!;
    // Some middlewares of the SDK presign or rewrite their own action's input.
    if (action === 'CopySnapshot') continue;
    await client.send(new Command(structuredClone(input!)));
    assert.deepEqual(pruned(seen), pruned(input), action);
  }
});

test('an answer of any action reads in the SDK as it was given', async () => {
  const lookUp = await loadActionSchemas();
  let answer: Record<string, unknown> = {};
  let action = '';
  const client = clientTo(() => encodeAnswer(action, lookUp(action)!.output, answer, 'req-1'));
  for (action of actions) {
    if (action === 'CopySnapshot') continue;
    const schema = lookUp(action)!;
    const [sampled] = fc.sample(structOf(schema.output, 0), { numRuns: 1, seed: 11 });
    answer = sampled!;
    const [input] = fc.sample(structOf(schema.input, 2), { numRuns: 1, seed: 1 });
    const Command = (sdk as unknown as Record<string, new (input: object) => never>)[`${action}Command`]!;
    const { $metadata: _, ...seen } = (await client.send(new Command(input!))) as unknown as Record<
      string,
      unknown
    >;
    assert.deepEqual(pruned(seen), pruned(answer), action);
  }
});

test('a request that the schema does not allow is refused with the reason', async () => {
  const lookUp = await loadActionSchemas();
  const decode = (action: string, query: string) =>
    decodeQuery(lookUp(action)!.input, new URLSearchParams(query));
  const cases: [string, string, string, RegExp][] = [
    ['CreateSubnet', 'CidrBlock=10.0.0.0/24', 'MissingParameter', /VpcId/],
    ['DescribeVpcs', 'Nonsense=1', 'UnknownParameter', /Nonsense/],
    ['DescribeVpcs', 'Filter.1.Nonsense=1', 'UnknownParameter', /Filter\.1\.Nonsense/],
    ['DescribeVpcs', 'MaxResults=many', 'InvalidParameterValue', /many.*MaxResults/],
    ['DescribeVpcs', 'DryRun=maybe', 'InvalidParameterValue', /maybe.*DryRun/],
    ['DescribeVpcs', 'Filter.x.Name=1', 'UnknownParameter', /Filter\.x/],
    ['DescribeVpcs', 'VpcId.1.2.3=1', 'MalformedQueryString', /VpcId\.1/],
    ['DescribeVpcs', `${'a.'.repeat(50)}=1`, 'MalformedQueryString', /too deep/],
    ['DescribeVpcs', 'x=1&'.repeat(20_001), 'MalformedQueryString', /20000/],
  ];
  for (const [action, query, code, message] of cases) {
    assert.throws(
      () => decode(action, query),
      (error) => error instanceof Ec2Error && error.code === code && message.test(error.message),
      `${action} ${query.slice(0, 40)}`,
    );
  }
  // Sparse and shuffled indices are a list in the order of their numbers.
  assert.deepEqual(decode('DescribeVpcs', 'VpcId.9=b&VpcId.2=a&VpcId.100000000=c'), {
    VpcIds: ['a', 'b', 'c'],
  });
});

test('decoding random queries never fails but with an Ec2Error', async () => {
  const lookUp = await loadActionSchemas();
  const { input } = lookUp('RunInstances')!;
  const names = input.members().map((member) => member.queryName);
  const step = fc.oneof(
    fc.constantFrom(...names, '1', '2', 'Name', 'Value', 'Key', 'Tag'),
    fc.string({ maxLength: 5 }),
  );
  const key = fc.array(step, { minLength: 1, maxLength: 5 }).map((steps) => steps.join('.'));
  fc.assert(
    fc.property(fc.array(fc.tuple(key, fc.string({ maxLength: 8 })), { maxLength: 8 }), (pairs) => {
      try {
        decodeQuery(input, new URLSearchParams(pairs));
      } catch (error) {
        if (!(error instanceof Ec2Error)) throw error;
      }
    }),
    { numRuns: 500 },
  );
});

test('text that XML cannot hold is left out, and an answer with a member unknown to the schema throws', async () => {
  assert.equal(escapeXml('a\u0000b\u001fc\ud800d<&>"\'é\r\n'), 'abc\ufffdd&lt;&amp;&gt;&quot;&apos;é&#13;\n');
  assert.match(encodeError('Code', 'a <b>', 'r'), /<Message>a &lt;b&gt;<\/Message>.*<RequestID>r</);
  const { output } = (await loadActionSchemas())('DescribeVpcs')!;
  assert.throws(() => encodeAnswer('DescribeVpcs', output, { Vpcz: [] }, 'r'), /no member Vpcz/);
  assert.throws(() => encodeAnswer('DescribeVpcs', output, { Vpcs: [{ VpcId: 1 }] }, 'r'), /not a string/);
});
