import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { type Clock, systemClock } from '../base/clock.ts';
import { fixedCredentials } from './credentials.ts';
import { CloudError } from './port.ts';
import { callPaged, createQueryClient, encodeQuery, type QueryOptions } from './query.ts';
import { textAt } from './xml.ts';

type Answer = { status: number; body: string; headers?: Record<string, string> } | 'hang' | 'reset';
const ok = (action: string, inner = ''): Answer => ({
  status: 200,
  body: `<?xml version="1.0"?>\n<${action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>${inner}</${action}Response>`,
});
const refusal = (code: string, status = 400, headers: Record<string, string> = {}): Answer => ({
  status,
  headers,
  body: `<Response><Errors><Error><Code>${code}</Code><Message>no &amp; no</Message></Error></Errors><RequestID>r-1</RequestID></Response>`,
});

/** Answers in order, the last one for ever; keeps what was asked. */
async function endpoint(...answers: Answer[]) {
  const asked: { headers: IncomingMessage['headers']; form: URLSearchParams }[] = [];
  const server = createServer((request: IncomingMessage, response: ServerResponse) => {
    let body = '';
    request.on('data', (chunk) => {
      body += chunk;
    });
    request.on('end', () => {
      asked.push({ headers: request.headers, form: new URLSearchParams(body) });
      const answer = answers[Math.min(asked.length, answers.length) - 1]!;
      if (answer === 'hang') return;
      if (answer === 'reset') return void request.socket.destroy();
      response.writeHead(answer.status, { 'content-type': 'text/xml', ...answer.headers }).end(answer.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    asked,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Waits take no time; how long they would have been is kept. */
const hasty = (): Clock & { waits: number[] } => {
  const waits: number[] = [];
  return { waits, now: systemClock.now, sleep: async (ms) => void waits.push(ms) };
};
const clientAt = (url: string, more: Partial<QueryOptions> = {}) =>
  createQueryClient({
    endpoint: url,
    region: 'us-west-2',
    credentials: fixedCredentials({ accessKeyId: 'AKID', secretAccessKey: 'secret', sessionToken: 'token' }),
    clock: hasty(),
    ...more,
  });
const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => 'ok',
    (error: unknown) =>
      error instanceof CloudError ? `${error.ec2Code} ${error.code} ${error.uncertain}` : String(error),
  );
const describe = {
  action: 'DescribeThings',
  params: { Id: ['a', 'b'], Filter: [{ Name: 'n', Value: ['v'] }] },
  repeatable: true,
};
const change = { action: 'ChangeThings', params: {}, repeatable: false };

test('a call is a signed form post of the Query protocol', async () => {
  await using ec2 = await endpoint(ok('DescribeThings', '<name>x &lt;y&gt; &#228;</name>'));
  const answer = await clientAt(ec2.url).call(describe);
  assert.equal(textAt(answer, 'name'), 'x <y> ä');
  const { headers, form } = ec2.asked[0]!;
  assert.deepEqual(Object.fromEntries(form), {
    Action: 'DescribeThings',
    Version: '2016-11-15',
    'Id.1': 'a',
    'Id.2': 'b',
    'Filter.1.Name': 'n',
    'Filter.1.Value.1': 'v',
  });
  assert.match(
    headers['authorization']!,
    /^AWS4-HMAC-SHA256 Credential=AKID\/\d{8}\/us-west-2\/ec2\/aws4_request/,
  );
  assert.equal(headers['x-amz-security-token'], 'token');
});

test('absent parameters are left out, lists count from 1', () => {
  assert.equal(encodeQuery({ A: undefined, B: [1, { C: true }] }), 'B.1=1&B.2.C=true');
});

test('a subnet without room for prefixes is told from a bad parameter, whichever code EC2 takes', () => {
  const cause = (code: string, text: string) => new CloudError('AssignPrivateIpAddresses', code, text).code;
  const full = "There aren't sufficient free Ipv4 addresses or prefixes";
  assert.equal(cause('InvalidParameterValue', full), 'SUBNET_FRAGMENTED');
  assert.equal(cause('InsufficientCidrBlocks', ''), 'SUBNET_FRAGMENTED');
  assert.equal(cause('InvalidParameterValue', 'Address 10.0.0.9 is in use'), 'INTERNAL');
});

test('throttling is tried again once, after a longer wait: the rest is for who asked', async () => {
  const clock = hasty();
  const results: string[] = [];
  await using ec2 = await endpoint(refusal('RequestLimitExceeded', 503));
  const client = clientAt(ec2.url, { clock, onCall: ({ result }) => results.push(result) });
  assert.equal(await codeOf(client.call(change)), 'RequestLimitExceeded CLOUD_THROTTLED false');
  assert.equal(ec2.asked.length, 2);
  assert.deepEqual(results, Array(2).fill('RequestLimitExceeded'));
  clock.waits.forEach((ms, i) => {
    assert.ok(ms >= 250 * 2 ** i && ms <= 750 * 2 ** i, `${ms}`);
  });
});

test('what may have happened is repeated only when that does no harm', async () => {
  await using resets = await endpoint('reset', ok('DescribeThings'));
  await clientAt(resets.url).call(describe);
  assert.equal(resets.asked.length, 2);
  await using once = await endpoint('reset', ok('ChangeThings'));
  assert.equal(await codeOf(clientAt(once.url).call(change)), 'Network CLOUD_UNREACHABLE true');
  assert.equal(once.asked.length, 1);
});

test('a repeat that is throttled leaves in doubt what the try before it did', async () => {
  await using ec2 = await endpoint('reset', ...Array(4).fill(refusal('RequestLimitExceeded', 503)));
  const call = clientAt(ec2.url, { clock: hasty() }).call({ ...change, repeatable: true });
  assert.equal(await codeOf(call), 'RequestLimitExceeded CLOUD_THROTTLED true');
  await using refused = await endpoint('reset', ...Array(4).fill(refusal('UnauthorizedOperation', 403)));
  const other = clientAt(refused.url, { clock: hasty() }).call({ ...change, repeatable: true });
  assert.equal(await codeOf(other), 'UnauthorizedOperation CLOUD_DENIED true');
});

test('a port where nobody listens is safe to try again, and is CLOUD_UNREACHABLE in the end', async () => {
  const clock = hasty();
  const gone = await endpoint(ok('ChangeThings'));
  await gone[Symbol.asyncDispose]();
  assert.equal(await codeOf(clientAt(gone.url, { clock }).call(change)), 'Network CLOUD_UNREACHABLE false');
  assert.equal(clock.waits.length, 3);
});

test('no answer in time; an abort ends the call at once', async () => {
  await using ec2 = await endpoint('hang');
  assert.equal(
    await codeOf(clientAt(ec2.url, { timeoutMs: 30 }).call(change)),
    'Timeout CLOUD_UNREACHABLE true',
  );
  const abort = new AbortController();
  const call = clientAt(ec2.url).call({ ...describe, signal: abort.signal });
  setTimeout(() => abort.abort(new Error('enough')), 20);
  assert.equal(await codeOf(call), 'Error: enough');
});

test('refusals keep the code and the text of EC2 and are not repeated', async () => {
  for (const [code, cause] of [
    ['UnauthorizedOperation', 'CLOUD_DENIED'],
    ['InsufficientFreeAddressesInSubnet', 'SUBNET_EXHAUSTED'],
    ['PrivateIpAddressLimitExceeded', 'ADDRESS_LIMIT'],
    ['AttachmentLimitExceeded', 'ENI_LIMIT'],
    ['InvalidNetworkInterfaceID.NotFound', 'INTERNAL'],
  ]) {
    await using ec2 = await endpoint(refusal(code!));
    const error = await clientAt(ec2.url)
      .call(change)
      .catch((e) => e as CloudError);
    assert.ok(error instanceof CloudError);
    assert.equal(error.code, cause);
    assert.equal(error.message, `ChangeThings: ${code}: no & no (request r-1)`);
    assert.equal(ec2.asked.length, 1);
  }
});

test('refused keys are asked for anew, once', async () => {
  let forgotten = 0;
  const credentials = {
    get: async () => ({ accessKeyId: `AKID${forgotten}`, secretAccessKey: 's' }),
    forget: () => void forgotten++,
  };
  await using ec2 = await endpoint(refusal('ExpiredToken'), ok('DescribeThings'));
  await clientAt(ec2.url, { credentials }).call(describe);
  assert.match(ec2.asked[1]!.headers['authorization']!, /AKID1/);
  await using never = await endpoint(refusal('AuthFailure', 401));
  assert.equal(
    await codeOf(clientAt(never.url, { credentials }).call(describe)),
    'AuthFailure CLOUD_DENIED false',
  );
  assert.equal(never.asked.length, 2);
});

test('a clock that is wrong is put right by the date of the refusal', async () => {
  const theirs = new Date('2031-01-02T03:04:05Z');
  const late = refusal('RequestExpired', 400, { date: theirs.toUTCString() });
  await using ec2 = await endpoint(late, ok('DescribeThings'));
  await clientAt(ec2.url).call(describe);
  assert.match(ec2.asked[1]!.headers['x-amz-date'] as string, /^20310102T0304/);
});

test('an answer that is not that of the action counts as no answer', async () => {
  for (const body of ['<html>proxy</html>', 'oops', '<DescribeThingsResponse><a>']) {
    await using ec2 = await endpoint({ status: 200, body });
    assert.equal(await codeOf(clientAt(ec2.url).call(change)), 'Unavailable CLOUD_UNREACHABLE true');
  }
});

test('pages are followed to the last', async () => {
  const page = (ids: string[], token: string) =>
    ok(
      'DescribeThings',
      `<set>${ids.map((id) => `<item><id>${id}</id></item>`).join('')}</set><nextToken>${token}</nextToken>`,
    );
  await using ec2 = await endpoint(page(['a', 'b'], 'more'), page(['c'], ''));
  const ids = await callPaged(clientAt(ec2.url), describe, 'set', (item) => textAt(item, 'id'));
  assert.deepEqual(ids, ['a', 'b', 'c']);
  assert.equal(ec2.asked[1]!.form.get('NextToken'), 'more');
});
