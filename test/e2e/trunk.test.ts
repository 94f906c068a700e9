// Branch interfaces made by hand in a plain instance, as a user's own CNI would use them: programs on the instance's links
// tag and untag, EC2's actions make trunk, branches and groups, and `db` is reached as the branches' groups say.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import * as sdk from '@aws-sdk/client-ec2';
import { parseCidr, parseIp } from '../../src/base/ip.ts';
import { parseMac } from '../../src/base/mac.ts';
import { setProgram } from '../../src/kernel/bpf/hooks.ts';
import { popByIndex, pushTo } from '../../src/kernel/bpf/programs.ts';
import { openNetns } from '../../src/kernel/netns.ts';
import { RtNetlink } from '../../src/kernel/rtnetlink.ts';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { eventually } from '../support/wait.ts';
import { execute, skip } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('trunk');
let ec2: sdk.EC2Client;
type Branch = { id: string; vlan: number; ip: string; mac: string };
let shape: { vpcId: string; subnetId: string; plain: string; dbIp: string; dbGroup: string };

const ask = <T>(command: unknown): Promise<T> =>
  ec2.send(command as sdk.DescribeVpcsCommand) as unknown as Promise<T>;

before(async () => {
  if (skip) return;
  await lab.up('--nodes', '1', '--demo');
  ec2 = await lab.ec2();
  const { Reservations } = await ask<sdk.DescribeInstancesResult>(new sdk.DescribeInstancesCommand({}));
  const db = Reservations!
    .flatMap((each) => each.Instances!)
    .find((each) => each.Tags?.some((tag) => tag.Key === 'Name' && tag.Value === 'db'))!;
  // In the zone of `db`, so that both are in one subnet.
  const { Instances } = await ask<sdk.Reservation>(
    new sdk.RunInstancesCommand({
      ImageId: 'ami-0123456789abcdef0',
      InstanceType: 'm5.large',
      MinCount: 1,
      MaxCount: 1,
      SubnetId: db.SubnetId,
      SecurityGroupIds: db.SecurityGroups!.map((group) => group.GroupId!),
      TagSpecifications: [{ ResourceType: 'instance', Tags: [{ Key: 'Name', Value: 'plain' }] }],
    }),
  );
  shape = {
    vpcId: db.VpcId!,
    subnetId: db.SubnetId!,
    plain: Instances![0]!.InstanceId!,
    dbIp: db.PrivateIpAddress!,
    dbGroup: db.SecurityGroups![0]!.GroupId!,
  };
});
after(async () => {
  ec2?.destroy();
  if (!skip) await lab.down();
});

const group = async (GroupName: string): Promise<string> =>
  (
    await ask<sdk.CreateSecurityGroupResult>(
      new sdk.CreateSecurityGroupCommand({ GroupName, Description: GroupName, VpcId: shape.vpcId }),
    )
  ).GroupId!;

async function newInterface(more: Partial<sdk.CreateNetworkInterfaceRequest>): Promise<sdk.NetworkInterface> {
  const made = await ask<sdk.CreateNetworkInterfaceResult>(
    new sdk.CreateNetworkInterfaceCommand({ SubnetId: shape.subnetId, ...more }),
  );
  return made.NetworkInterface!;
}

async function branch(trunk: string, vlan: number, groupId: string): Promise<Branch> {
  const eni = await newInterface({ Groups: [groupId] });
  await ask(
    new sdk.AssociateTrunkInterfaceCommand({
      BranchInterfaceId: eni.NetworkInterfaceId,
      TrunkInterfaceId: trunk,
      VlanId: vlan,
    }),
  );
  return { id: eni.NetworkInterfaceId!, vlan, ip: eni.PrivateIpAddress!, mac: eni.MacAddress! };
}

const BASE = 0x500000;

/** A link for each branch in the instance's namespace, with programs on it and on the trunk. */
async function useBranches(branches: readonly Branch[]): Promise<void> {
  const { instances } = await lab.status();
  using ns = openNetns(instances.find((one) => one.name === 'plain')!.netnsPath);
  using rt = RtNetlink.open(ns);
  rt.apply([{ op: 'link-set', name: 'eth1', up: true }]);
  const trunk = rt.link('eth1')!.index;
  for (const { vlan, ip, mac } of branches) {
    const index = BASE + vlan;
    const table = 0x100 + vlan;
    const gateway = parseIp('169.254.1.1');
    rt.apply([
      { op: 'veth-add', name: `br${vlan}`, index, mac: parseMac(mac), peer: { name: `end${vlan}` } },
      { op: 'link-set', name: `end${vlan}`, up: true },
      { op: 'link-set', index, up: true },
      { op: 'addr-add', index, ip: parseIp(ip), length: 32 },
      { op: 'rule-add', family: 4, priority: 100, from: parseCidr(`${ip}/32`), table },
      { op: 'route-replace', dst: parseCidr('0.0.0.0/0'), table, oif: index, gateway, onlink: true },
      // The router answers for its address alone; its hardware address is the same in each subnet.
      { op: 'neigh-replace', index, ip: gateway, mac: parseMac('02:50:64:00:00:01'), state: 'permanent' },
    ]);
    setProgram(ns, index, 'egress', pushTo(vlan, trunk));
  }
  setProgram(ns, trunk, 'ingress', popByIndex(BASE));
}

const reaches = async (ip: string, to: string): Promise<boolean> =>
  (await lab.podway('lab', 'exec', 'plain', '--', 'ping', '-nc1', '-W1', '-I', ip, to)).code === 0;

/** One lost packet, or a machine that is busy for a second, is no verdict. */
const reachesOnce = (ip: string, to: string, what: string) => eventually(what, () => reaches(ip, to));

test('each tag reaches db as its branch, judged by the branch’s own groups', { skip }, async () => {
  const [allowed, denied] = [await group('allowed'), await group('denied')];
  await ask(
    new sdk.AuthorizeSecurityGroupIngressCommand({
      GroupId: shape.dbGroup,
      IpPermissions: [
        { IpProtocol: 'icmp', FromPort: -1, ToPort: -1, UserIdGroupPairs: [{ GroupId: allowed }] },
      ],
    }),
  );
  const trunk = (await newInterface({ InterfaceType: 'trunk' })).NetworkInterfaceId!;
  await ask(
    new sdk.AttachNetworkInterfaceCommand({
      NetworkInterfaceId: trunk,
      InstanceId: shape.plain,
      DeviceIndex: 1,
    }),
  );
  const [one, two] = [await branch(trunk, 11, allowed), await branch(trunk, 12, denied)];
  await useBranches([one, two, { ...one, vlan: 13, ip: '10.0.0.250', mac: '02:00:00:00:00:13' }]);
  await reachesOnce(one.ip, shape.dbIp, 'a member of the group that db lets in');
  assert.equal(await reaches(two.ip, shape.dbIp), false, 'another group');
  assert.equal(await reaches('10.0.0.250', shape.dbIp), false, 'a tag that no branch has');
  const counted = await lab.ok(
    'lab',
    'exec',
    'vpc',
    '--',
    'nft',
    'list',
    'counter',
    'bridge',
    'podway-fabric',
    'unknown_tags',
  );
  assert.match(counted, /packets [1-9]/);
  const { instances } = await lab.status();
  const [own] = instances.find((each) => each.name === 'plain')!.ips;
  await reachesOnce(own!, shape.dbIp, 'what bears no tag');

  // Nobody of the lab need live for it, and the next daemon finds it as it is.
  const { pid } = JSON.parse(readFileSync(labPaths(lab.name).pid, 'utf8')) as { pid: number };
  process.kill(pid, 'SIGKILL');
  const netns = instances.find((each) => each.name === 'plain')!.netns;
  const ping = ['ip', 'netns', 'exec', netns, 'ping', '-nc1', '-W1', '-I', one.ip, shape.dbIp];
  await eventually('while the lab’s daemon is dead', async () => (await execute(ping)).code === 0);
  await lab.up('--nodes', '1', '--demo');
  await reachesOnce(one.ip, shape.dbIp, 'after the start');
  assert.equal(await reaches(two.ip, shape.dbIp), false);

  // Groups change live, and an association that ends takes the way away.
  await ask(
    new sdk.ModifyNetworkInterfaceAttributeCommand({ NetworkInterfaceId: two.id, Groups: [allowed] }),
  );
  await eventually('the other branch reaches db in the group', () => reaches(two.ip, shape.dbIp));
  const { InterfaceAssociations } = await ask<sdk.DescribeTrunkInterfaceAssociationsResult>(
    new sdk.DescribeTrunkInterfaceAssociationsCommand({}),
  );
  const AssociationId = InterfaceAssociations!.find((each) => each.VlanId === 11)!.AssociationId!;
  await ask(new sdk.DisassociateTrunkInterfaceCommand({ AssociationId }));
  assert.equal(await reaches(one.ip, shape.dbIp), false);
});
