// Subnets without room, on real packets. One without whole /28s serves single addresses until it has some again, and a
// full one serves the next address that is freed. Each has a lab, side by side: both wait much.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import {
  CreateNetworkInterfaceCommand,
  DeleteNetworkInterfaceCommand,
  DescribeSubnetsCommand,
  type EC2Client,
  UnassignPrivateIpAddressesCommand,
} from '@aws-sdk/client-ec2';
import { CoreV1Api } from '@kubernetes/client-node';
import type { SubnetReport } from '../../src/cli/subnets.ts';
import type { DefragPlan } from '../../src/ipam/views/defrag.ts';
import type { PodView } from '../../src/lab/daemon/protocol.ts';
import { eventually } from '../support/wait.ts';
import { blocksOf, isIn } from './blocks.ts';
import { ROOT, skip } from './command.ts';
import { assertAnswer, Lab } from './lab.ts';

type DefragAnswer = { subnets: (DefragPlan & { id: string })[]; commands: string[] };

/** A subnet without whole /28s is left alone for at most a minute at first. */
const WHOLE_MS = 150_000;

const holes = new Lab('holes', [
  ...['-f', join(ROOT, 'examples/fragmented.yaml')],
  ...['--set', 'addressing=auto', '--set', 'cooldown=1s', '--set', 'idleRelease=2s', '--set', 'warm=2'],
]);
const small = new Lab('small', [
  ...['-f', join(ROOT, 'examples/small-subnet.yaml'), '--set', 'warm=0', '--set', 'cooldown=1s'],
]);
const ipOf = (pod: PodView): string => pod.ips[0]!;

/** The lab for as long as `use` goes on, with its EC2. */
async function within(lab: Lab, use: (by: EC2Client) => Promise<void>): Promise<void> {
  let by: EC2Client | undefined;
  try {
    await lab.up();
    by = await lab.ec2();
    await use(by);
  } finally {
    by?.destroy();
    await lab.down();
  }
}

describe('subnets without room', { skip, concurrency: true }, () => {
  it('a fragmented subnet: single addresses, and prefixes once it has whole /28s again', () =>
    within(holes, async (by) => {
      const first = await holes.run('first', '--node', 'node-1');
      const before = await blocksOf(holes, by, 'node-1');
      assert.deepEqual(before.prefixes, []);
      assert.ok(before.singles.includes(ipOf(first)));
      const elsewhere = await holes.run('elsewhere', '--node', 'node-2');
      const reserved = await blocksOf(holes, by, 'node-2');
      assert.ok(
        isIn(ipOf(elsewhere), reserved.prefixes),
        'the subnet with a reservation for prefixes has them',
      );
      const SubnetId = (await holes.status()).vpcs[0]!.subnets.find(({ name }) => name === 'holes-a')!.id;
      const inTheWay = ['defrag', 'plan', '--subnet', SubnetId];
      const { subnets, commands } = await holes.json<DefragAnswer>('ipam', ...inTheWay);
      const [plan] = subnets;
      assert.deepEqual(
        [plan!.id, plan!.freePrefixes, plan!.freePrefixesAfter],
        [SubnetId, 0, plan!.steps.length],
      );
      // All are of one interface that is attached to nothing, and its own address is one of them.
      const [NetworkInterfaceId] = new Set(
        plan!.steps.flatMap((step) =>
          step.addresses.map((one) => ('interface' in one ? one.interface : one.node)),
        ),
      );
      assert.deepEqual(commands, [
        `aws ec2 delete-network-interface --network-interface-id ${NetworkInterfaceId}`,
      ]);
      await by.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId }));
      const taken = async () => (await blocksOf(holes, by, 'node-1')).prefixes.length;
      await eventually('the prefixes are there, some of them node-1’s already', async () => {
        const before = await taken();
        const [room] = await holes.json<SubnetReport[]>('ipam', 'subnets', '--subnet', SubnetId);
        return (await taken()) === before && room!.freePrefixes + before === plan!.freePrefixesAfter;
      });
      await eventually(
        'node-1 has a prefix again, and singles for running pods alone',
        async () => {
          const { singles, prefixes } = await blocksOf(holes, by, 'node-1');
          return prefixes.length > 0 && singles.join() === ipOf(first);
        },
        WHOLE_MS,
      );
      const second = await holes.run('second', '--node', 'node-1');
      assert.ok(isIn(ipOf(second), (await blocksOf(holes, by, 'node-1')).prefixes));
      assertAnswer(await holes.askFrom('second', 'tcp', ipOf(first), '8080'), `first ${ipOf(second)}`);
      await holes.agreed();
    }));

  it('a full /26: the waiting pod is told, others go on, and a freed address reaches it', (t) =>
    within(small, async (by) => {
      const SubnetId = (await small.status()).vpcs[0]!.subnets.find(({ name }) => name === 'full-a')!.id;
      const left = async () => {
        const { Subnets } = await by.send(new DescribeSubnetsCommand({ SubnetIds: [SubnetId] }));
        return Subnets![0]!.AvailableIpAddressCount!;
      };
      await eventually('the nodes rest', async () => (await left()) === 57);
      const count = (await left()) - 1;
      const { NetworkInterface } = await by.send(
        new CreateNetworkInterfaceCommand({ SubnetId, SecondaryPrivateIpAddressCount: count }),
      );
      assert.equal(await left(), 0);
      await small.ok('pod', 'run', 'waits', '--node', 'node-1', '--no-wait');
      const api = (await small.kube()).makeApiClient(CoreV1Api);
      const told = await eventually('an Event names the full subnet', async () => {
        const { items } = await api.listNamespacedEvent({ namespace: 'default' });
        return items.find(({ involvedObject, message }) =>
          involvedObject.name === 'waits' ? message?.includes('SUBNET_EXHAUSTED') : false,
        );
      });
      for (const part of [SubnetId, '10.70.0.0/26', '59 addresses', '0 free'])
        assert.ok(told.message!.includes(part), told.message!);
      assert.equal((await small.run('goes-on', '--node', 'node-3')).phase, 'Running');
      const PrivateIpAddresses = [NetworkInterface!.PrivateIpAddresses![1]!.PrivateIpAddress!];
      const NetworkInterfaceId = NetworkInterface!.NetworkInterfaceId!;
      await by.send(new UnassignPrivateIpAddressesCommand({ NetworkInterfaceId, PrivateIpAddresses }));
      const freedAt = Date.now();
      const pod = await eventually('the pod has the freed address', async () => {
        const found = (await small.pods()).find(({ name }) => name === 'waits');
        return found?.phase === 'Running' ? found : undefined;
      });
      t.diagnostic(`Running ${Date.now() - freedAt} ms after the address was freed`);
      assert.equal(ipOf(pod), PrivateIpAddresses[0]);
      await small.agreed();
    }));
});
