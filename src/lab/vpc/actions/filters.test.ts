// Every filter that EC2 documents is known, for each Describe action of the lab: the names are read from the
// documentation that the SDK ships. What the lab cannot answer truly is refused by name, and is listed here.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fails, smallShape, testVpc } from '../testing.ts';
import { loadActionSchemas } from '../wire/schema.ts';
import { meanings } from './index.ts';

const types = fileURLToPath(new URL('../dist-types/models/', import.meta.resolve('@aws-sdk/client-ec2')));
const documentation = globSync(`${types}models_*.d.ts`)
  .map((file) => readFileSync(file, 'utf8'))
  .join('\n')
  .replace(/^\s*\* ?/gm, '');

/** The names in the list of filters of an action's request. */
function documented(action: string): string[] {
  const start = documentation.indexOf(`export interface ${action}Request {`);
  assert.ok(start >= 0, `the SDK documents no ${action}Request`);
  const end = documentation.indexOf('Filters?:', start);
  const comment = documentation.slice(documentation.lastIndexOf('/**', end), end);
  return [...comment.matchAll(/<li>\s*<p>\s*<code>([^<]+)<\/code>/g)].map((match) =>
    match[1]!.replaceAll('&lt;', '<').replaceAll('&gt;', '>'),
  );
}

/** Values of `scan-result.highest-finding-severity-label`, which the documentation lists as filters are. */
const NO_FILTERS = new Set(['informational', 'low', 'medium', 'high', 'critical']);
const lookUp = await loadActionSchemas();
const actions = Object.keys(meanings).filter((action) =>
  lookUp(action)!
    .input.members()
    .some((member) => member.name === 'Filters'),
);

test('all documented filters of all actions are known, and an unknown one is refused', async () => {
  await using lab = testVpc();
  const { subnetId } = await smallShape(lab.vpc);
  const needed: Record<string, object> = { GetSubnetCidrReservations: { SubnetId: subnetId } };
  const caller = { kind: 'admin', arn: 'arn', userId: 'AIDA' } as const;
  const ask = (action: string, name: string) =>
    lab.vpc.actByName(action, { ...needed[action], Filters: [{ Name: name, Values: ['nothing'] }] }, caller);
  const unknown: string[] = [];
  let count = 0;
  for (const action of actions) {
    const names = documented(action).filter((name) => !NO_FILTERS.has(name));
    assert.ok(names.length >= 2, `${action} documents ${names.length} filters`);
    for (const name of names) {
      count++;
      const filter = /^tag(:<key>)?$/.test(name) ? 'tag:some' : name;
      // Ids of groups are read as such before they filter.
      if (action === 'DescribeSecurityGroupRules' && filter === 'group-id') continue;
      await ask(action, filter).catch((error: { code: string }) => {
        assert.equal(error.code, 'UnsupportedOperation', `${action} ${filter}: ${String(error)}`);
        unknown.push(`${action} ${filter}`);
      });
    }
    await fails(ask(action, 'bogus'), 'InvalidParameterValue', /The filter 'bogus' is invalid/);
  }
  assert.ok(count > 450, `only ${count} filters were documented`);
  const actionsWithout = new Set(unknown.map((line) => line.split(' ')[0]));
  assert.deepEqual([...actionsWithout], ['DescribeInstanceTypes']);
  assert.ok(unknown.length < 45 && unknown.includes('DescribeInstanceTypes ebs-info.nvme-support'));
});

test("filters on an instance's interfaces, addresses, reasons and volumes", async () => {
  await using lab = testVpc();
  const { vpc } = lab;
  const { instanceId, subnetId } = await smallShape(vpc);
  const eni = Object.values(vpc.state().networkInterfaces)[0]!;
  await vpc.act('AssignPrivateIpAddresses', {
    NetworkInterfaceId: eni.id,
    PrivateIpAddresses: ['10.0.0.77'],
  });
  const found = async (Name: string, ...Values: string[]) =>
    (await vpc.act('DescribeInstances', { Filters: [{ Name, Values }] })).Reservations!.length;
  assert.equal(await found('network-interface.private-ip-address', '10.0.0.77'), 1);
  assert.equal(await found('network-interface.private-ip-address', '10.0.0.78'), 0);
  assert.equal(await found('network-interface.addresses.primary', 'true'), 1);
  assert.equal(await found('network-interface.association.public-ip', '*'), 0);
  assert.equal(await found('tenancy', 'default'), 1);
  assert.equal(await found('block-device-mapping.volume-id', '*'), 0);
  assert.equal(await found('state-reason-code', '*'), 0);
  await vpc.act('StopInstances', { InstanceIds: [instanceId] });
  assert.equal(await found('state-reason-code', 'Client.UserInitiatedShutdown'), 1);
  assert.equal(await found('reason', 'User initiated (*'), 1);

  const { GroupId } = await vpc.act('CreateSecurityGroup', {
    GroupName: 'web',
    Description: 'd',
    VpcId: vpc.state().subnets[subnetId]!.vpcId,
  });
  await vpc.act('AuthorizeSecurityGroupIngress', {
    GroupId,
    IpPermissions: [
      { IpProtocol: '-1', UserIdGroupPairs: [{ GroupId }], Ipv6Ranges: [{ CidrIpv6: '2001:db8::/32' }] },
    ],
  });
  const groups = async (Name: string, Value: string) =>
    (await vpc.act('DescribeSecurityGroups', { Filters: [{ Name, Values: [Value] }] })).SecurityGroups!.map(
      (group) => group.GroupName,
    );
  assert.deepEqual(await groups('ip-permission.group-name', 'web'), ['web']);
  assert.deepEqual(await groups('ip-permission.ipv6-cidr', '2001:db8::/32'), ['web']);
  assert.deepEqual(await groups('ip-permission.cidr', '2001:db8::/32'), []);
  assert.equal((await groups('ip-permission.user-id', '123456789012')).length, 2);
  assert.deepEqual(await groups('egress.ip-permission.group-name', 'web'), []);
});
