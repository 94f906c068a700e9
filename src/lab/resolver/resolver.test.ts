// What the resolver answers, as messages: names of instances, of the lab, DNS64 by subnet, and what is no question.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  addInstance,
  bench,
  edit,
  eniId,
  giveIpv6,
  SUBNET_A,
  skipReason,
  smallVpc,
  VPC,
} from '../fabric/testing.ts';
import type { VpcState } from '../vpc/model.ts';
import { A, AAAA, ANY, answerOf, readQuestion } from './message.ts';
import { lookUp } from './names.ts';
import { answerTo, DNS_PORT, Resolver } from './resolver.ts';

function state(): VpcState {
  const made = smallVpc();
  giveIpv6(made);
  addInstance(made, 'a', 0x0a, { ips: ['10.0.0.10', '10.0.0.20'] });
  made.networkInterfaces[eniId(0x0a)]!.ipv6Addresses = ['2600:1f14:1:101::a'];
  addInstance(made, 'b', 0x0b, { ips: ['10.0.0.11'] });
  made.publicAddresses['198.18.0.7'] = {
    publicIp: '198.18.0.7',
    networkInterfaceId: eniId(0x0b),
    privateIp: '10.0.0.11',
    tags: {},
  };
  made.vpcs[VPC]!.enableDnsHostnames = true;
  return made;
}
const withDns64 = edit(state(), (copy) => {
  copy.subnets[SUBNET_A]!.enableDns64 = true;
});

function ask(name: string, type: number, of = state()): string[] | string {
  const found = lookUp(of, of.subnets[SUBNET_A]!, name, type);
  return found?.rcode === 'ok' ? found.addresses.map(String) : (found?.rcode ?? 'silence');
}
const bytes = (name: string, type: number): Uint8Array => {
  const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
  return Uint8Array.from([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, type, 0, 1]);
};
const texts = (name: string, type: number, of: VpcState, from: string): string | undefined => {
  const answer = answerTo(of, bytes(name, type), from);
  return answer && Buffer.from(answer).toString('hex');
};

test('names of instances, public names and the names of the lab', () => {
  const ten = [String(0x0a00000a)];
  assert.deepEqual(ask('ip-10-0-0-10.us-west-2.compute.internal', A), ten);
  assert.deepEqual(ask('ip-10-0-0-10.us-west-2.compute.internal', AAAA), []);
  assert.deepEqual(ask('ip-10-0-0-99.us-west-2.compute.internal', A), 'no-name');
  assert.deepEqual(ask('a.podway.test', A), ten);
  assert.equal(ask('a.podway.test', AAAA).length, 1);
  assert.equal(ask('a.podway.test', ANY).length, 2);
  assert.deepEqual(ask('a.podway.test', 16), [], 'a name without records of that type');
  assert.deepEqual(ask('ec2-198-18-0-7.us-west-2.compute.amazonaws.com', A), [String(0x0a00000b)]);
  assert.equal(ask('internet.podway.test', ANY).length, 2);
  assert.deepEqual(ask('ipv6.internet.podway.test', A), []);
  for (const name of ['example.com', 'podway.test', '', 'nobody.podway.test'])
    assert.equal(ask(name, A), 'no-name', name);
  const silent = edit(state(), (copy) => {
    copy.vpcs[VPC]!.enableDnsSupport = false;
  });
  assert.equal(ask('a.podway.test', A, silent), 'silence');
});

test('DNS64 makes addresses for names of IPv4 alone, in subnets that have it', () => {
  const made = [String((0x64ff9bn << 96n) | 0xcb00710an)];
  assert.deepEqual(ask('ipv4.internet.podway.test', AAAA), []);
  assert.deepEqual(ask('ipv4.internet.podway.test', AAAA, withDns64), made);
  assert.deepEqual(ask('ipv4only.arpa', AAAA, withDns64).length, 2);
  assert.deepEqual(ask('a.podway.test', AAAA, withDns64), ask('a.podway.test', AAAA), 'it has its own');
  assert.equal(ask('example.com', AAAA, withDns64), 'no-name');
});

test('an answer repeats its question, whose sender must hold an address', () => {
  const answer = texts('A.podway.TEST', A, state(), '10.0.0.20')!;
  assert.match(answer, /^00078180000100010000000001410670/);
  assert.match(answer, /c00c000100010000003c00040a00000a$/);
  assert.equal(texts('a.podway.test', A, state(), '10.0.0.99'), undefined);
  assert.match(texts('a.podway.test', A, state(), '2600:1f14:1:101::a')!, /^00078180/);
  assert.match(texts('x.test', A, state(), '10.0.0.10')!, /^00078183/, 'no such name');
});

test('what is no question is refused or left, and never more than 512 bytes go out', () => {
  assert.equal(readQuestion(new Uint8Array(11)), undefined);
  const answer = bytes('a', A);
  answer[2] = 0x80;
  assert.equal(readQuestion(answer), undefined);
  const update = bytes('a', A);
  update[2] = 0x28;
  assert.deepEqual(readQuestion(update), { id: 7, refusal: 'not-implemented' });
  assert.deepEqual(readQuestion(bytes('a', A).subarray(0, 15)), { id: 7, refusal: 'form-error' });
  const question = readQuestion(bytes('a', A));
  assert.ok(question && 'name' in question);
  const long = answerOf(question, 'ok', Array<never>(99).fill(1 as never));
  assert.ok(long.length <= 512);
  assert.equal(long[2]! & 2, 2, 'it says that it is cut');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 80 }), (message) => {
      const made = answerTo(withDns64, message, '10.0.0.10');
      assert.ok(made === undefined || made.length <= 512);
    }),
    { numRuns: 2000 },
  );
});

test('it is asked by each of its addresses, from every subnet', { skip: skipReason }, async () => {
  await using lab = bench();
  await lab.fabric.apply(state());
  let now = state();
  const resolver = new Resolver(
    () => now,
    (address) => lab.fabric.bindUdp(address, DNS_PORT),
  );
  try {
    await resolver.listen(lab.fabric.resolvers());
    assert.deepEqual(lab.fabric.resolvers(), ['169.254.169.253', '10.0.0.2', 'fd00:ec2::253']);
    const dig = (where: string, server: string) =>
      lab.sh(
        where,
        `${process.execPath} -e '
        const client = new (require("node:dns").promises.Resolver)({ timeout: 1000, tries: 2 });
        client.setServers(["${server.includes(':') ? `[${server}]` : server}"]);
        client.resolve6("ipv4.internet.podway.test").then((all) => console.log(all.join()), (error) => console.log(error.code));
      '`,
      );
    for (const server of lab.fabric.resolvers())
      assert.equal((await dig('a', server)).trim(), 'ENODATA', server);
    now = withDns64;
    for (const server of lab.fabric.resolvers())
      assert.equal((await dig('a', server)).trim(), '64:ff9b::cb00:710a', server);
    await lab.fabric.repair();
    assert.equal((await dig('b', '10.0.0.2')).trim(), '64:ff9b::cb00:710a', 'after a fresh look');
    assert.match(await dig('internet', '169.254.169.253'), /ETIMEOUT|ECONNREFUSED/, 'nobody outside');
  } finally {
    resolver.close();
  }
});
