// The rows of examples/ec2-addressing.jsonl, ec2-ipv6.jsonl and ec2-trunk.jsonl against a lab: each call that address
// management and branch interfaces need, and each way that it is refused. By the stock SDK, and by the same example's boto3 script where that is installed.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import * as sdk from '@aws-sdk/client-ec2';
import { type Cidr, cidrCovers, cidrsOverlap, formatIp, type Ipv6, parseCidr } from '../../src/base/ip.ts';
import { eventually } from '../support/wait.ts';
import { execute, PODWAY, ROOT, skip, told } from './command.ts';
import { Lab } from './lab.ts';

/** A call and what must come back, or a command of podway, or a heading. */
type Row = {
  group?: string;
  what?: string;
  call?: string;
  podway?: string[];
  with?: object;
  error?: string;
  says?: string;
  gives?: Record<string, unknown>;
  keep?: Record<string, string>;
  wait?: boolean;
};
const FILES = ['ec2-addressing.jsonl', 'ec2-ipv6.jsonl', 'ec2-trunk.jsonl'];
const rowsOf = (file: string): Row[] =>
  readFileSync(join(ROOT, 'examples', file), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Row);
const NO_ANSWER = '(no answer)';

const lab = new Lab('addr');
let ec2: sdk.EC2Client;
const kept = new Map<string, unknown>();

before(async () => {
  if (skip) return;
  await lab.up('--nodes', '1');
  ec2 = await lab.ec2();
});
after(async () => {
  ec2?.destroy();
  if (!skip) await lab.down();
});

const fill = <T>(value: T): T =>
  JSON.parse(
    JSON.stringify(value).replace(/\$\{(\w+)\}/g, (_, name: string) => {
      assert.ok(kept.has(name), `no earlier row gave ${name}`);
      return String(kept.get(name));
    }),
  ) as T;

/** What stands at `a.0.b`; `*` is each item of a list. */
function at(answer: unknown, path: string): unknown {
  const [step, ...rest] = path.split('.') as [string, ...string[]];
  const next = (value: unknown) => (rest.length ? at(value, rest.join('.')) : value);
  if (answer === undefined || answer === null) return undefined;
  if (step === '*') return (answer as unknown[]).map(next);
  return next((answer as Record<string, unknown>)[step]);
}

function fits(value: unknown, wanted: unknown): boolean {
  if (typeof wanted === 'string' && wanted.startsWith('~'))
    return typeof value === 'string' && new RegExp(wanted.slice(1)).test(value);
  if (typeof wanted !== 'object' || wanted === null || Array.isArray(wanted))
    return JSON.stringify(value) === JSON.stringify(wanted);
  const rule = wanted as { absent?: true; count?: number; in?: string; outside?: string[] };
  if (rule.absent) return value === undefined;
  if (rule.count !== undefined) return Array.isArray(value) && value.length === rule.count;
  const block = (text: string): Cidr =>
    parseCidr(text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`);
  const blocks = [value].flat().map((each) => block(String(each)));
  const inside = block(rule.in ?? '0.0.0.0/0');
  const outside = (rule.outside ?? []).map(block);
  return blocks.every((each) => cidrCovers(inside, each) && !outside.some((one) => cidrsOverlap(one, each)));
}

/** A member that the two SDKs name otherwise; the rows have boto3's name. */
function inSdk({ call, with: given = {} }: Row): object {
  if (call !== 'DescribeNatGateways') return given;
  const { Filters, ...rest } = given as { Filters?: object };
  return { ...rest, Filter: Filters };
}

async function ask(row: Row): Promise<{ answer?: object; code?: string; message: string }> {
  const Command = (sdk as unknown as Record<string, new (input: object) => sdk.DescribeVpcsCommand>)[
    `${row.call}Command`
  ]!;
  try {
    return { answer: await ec2.send(new Command(inSdk(row))), message: '' };
  } catch (error) {
    if (error instanceof sdk.EC2ServiceException) return { code: error.name, message: error.message };
    return { code: NO_ANSWER, message: String(error) };
  }
}

async function check(row: Row): Promise<void> {
  const { answer, code, message } = await ask(row);
  assert.equal(code, row.error, message);
  assert.ok(message.includes(fill(row.says ?? '')), `says ${message}, not ${row.says}`);
  for (const [path, wanted] of Object.entries(row.gives ?? {})) {
    const found = at(answer, path);
    assert.ok(fits(found, fill(wanted)), `${path} is ${JSON.stringify(found)?.slice(0, 300)}`);
  }
  for (const [name, path] of Object.entries(row.keep ?? {})) {
    const [whole = '', part] = path.split('/');
    const found = at(answer, whole);
    kept.set(name, part === undefined ? found : partOf(String(found), part));
  }
}

/** Of a block, by `LENGTH+N`: its block of that length at place N, or its address. */
function partOf(text: string, part: string): string {
  const [length, place] = part.split('+') as [string, string];
  const ip = ((parseCidr(text).ip as bigint) + (BigInt(place) << BigInt(128 - Number(length)))) as Ipv6;
  return Number(length) === 128 ? formatIp(ip) : `${formatIp(ip)}/${length}`;
}

/** In time, where a row allows for it. */
async function checkInTime(row: Row): Promise<void> {
  const { with: given } = fill({ with: row.with ?? {} });
  const whole = { ...row, with: given };
  if (!row.wait) return check(whole);
  await eventually(row.what!, async () => {
    await check(whole);
    return true;
  });
}

async function deviationsOf(rows: readonly Row[]): Promise<string[]> {
  const deviations: string[] = [];
  for (const row of rows) {
    try {
      if (row.podway) await lab.ok(...row.podway);
      else await checkInTime(row);
    } catch (error) {
      deviations.push(`${row.call ?? 'podway'}, ${row.what}: ${(error as Error).message}`);
    }
  }
  return deviations;
}

for (const file of FILES) {
  const rows = rowsOf(file);
  for (const [index, { group }] of rows.entries()) {
    if (group === undefined) continue;
    const end = rows.findIndex((row, i) => i > index && row.group !== undefined);
    test(`by the SDK, ${file}: ${group}`, { skip }, async () => {
      assert.deepEqual(await deviationsOf(rows.slice(index + 1, end < 0 ? undefined : end)), []);
    });
  }
}

test('by boto3: the same, and a deviation is exit code 1', { skip }, async (t) => {
  const python = await execute(['python3', '-c', 'import boto3']).catch(() => undefined);
  if (python?.code !== 0) return t.skip('boto3 is not installed');
  const script = `${ROOT}/examples/ec2-addressing.py`;
  const env = { ...(await lab.env()), AWS_SESSION_TOKEN: undefined, AWS_PROFILE: undefined, PODWAY };
  for (const file of FILES) {
    const command = ['python3', script, file];
    const ran = await execute(command, env);
    assert.equal(ran.code, 0, told(command, ran));
    assert.match(ran.stdout, /^\d+ expectations, 0 deviations$/m);
  }
  const command = ['python3', script];
  const wrong = await execute(command, { ...env, AWS_SECRET_ACCESS_KEY: 'wrong' });
  assert.equal(wrong.code, 1, told(command, wrong));
  assert.match(wrong.stdout, /^FAIL CreateVpc .*AuthFailure/m);
});
