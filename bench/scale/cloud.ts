// The lab's EC2 and instance metadata for many instances, without the fabric: what agents ask is the real Query API with AWS's
// request limits. An instance is known at the metadata service by the loopback address that it asks.
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openVpc, type VpcService } from '../../src/lab/vpc/index.ts';
import {
  answering,
  type CloudCount,
  type CloudOpened,
  type CloudQuestion,
  type Instance,
} from './protocol.ts';

const AT_ONCE = 100;
const PEAK_MS = 10_000;
const dir = mkdtempSync(join(tmpdir(), 'podway-scale-ec2-'));
let vpc: VpcService | undefined;
let countedAt = Date.now();

/** 127.1.0.1 and so on. */
const addressOf = (index: number): string => `127.1.${index >> 8}.${index & 255}`;

async function open(count: number): Promise<CloudOpened> {
  const made = openVpc({
    dir,
    region: 'us-west-2',
    zones: ['us-west-2a'],
    settings: { ec2Latency: 'realistic', ec2Throttle: 'aws' },
  });
  vpc = made;
  const VpcId = (await made.act('CreateVpc', { CidrBlock: '10.0.0.0/16' })).Vpc!.VpcId!;
  const SubnetId = (await made.act('CreateSubnet', { VpcId, CidrBlock: '10.0.0.0/16' })).Subnet!.SubnetId!;
  const ids: string[] = [];
  while (ids.length < count) {
    const many = Math.min(AT_ONCE, count - ids.length);
    const { Instances } = await made.act('RunInstances', {
      ...{ ImageId: 'ami-0', InstanceType: 'm5.large', MinCount: many, MaxCount: many },
      SubnetId,
    });
    ids.push(...Instances!.map(({ InstanceId }) => InstanceId!));
  }
  const instances = ids.map(
    (instanceId, index): Instance => ({ node: `sim-${index + 1}`, instanceId, imds: addressOf(index + 1) }),
  );
  const byAddress = new Map(instances.map(({ imds, instanceId }) => [imds, instanceId]));
  const imds = createServer((request, response) => {
    const instanceId = byAddress.get(request.socket.localAddress?.replace('::ffff:', '') ?? '');
    if (instanceId === undefined) return void request.socket.destroy();
    void made.imdsHandler(request, response, { instanceId, beforeAnswer: () => {} });
  });
  const ec2 = createServer((request, response) => void made.ec2Handler(request, response));
  const port = (server: typeof ec2, host: string): Promise<number> =>
    new Promise((resolve) => server.listen(0, host, () => resolve((server.address() as AddressInfo).port)));
  const imdsPort = await port(imds, '0.0.0.0');
  const ec2Port = await port(ec2, '127.0.0.1');
  const { accessKeyId, secretAccessKey } = made.keys();
  return {
    endpoint: `http://127.0.0.1:${ec2Port}`,
    instances: instances.map((one) => ({ ...one, imds: `http://${one.imds}:${imdsPort}` })),
    keys: { accessKeyId, secretAccessKey },
  };
}

function count(): CloudCount {
  const from = countedAt;
  countedAt = Date.now();
  const { calls } = vpc!.faults.report(from);
  const byAction: Record<string, number> = {};
  const windows: Record<number, number> = {};
  for (const { action, at } of calls) {
    byAction[action] = (byAction[action] ?? 0) + 1;
    const window = Math.floor((at - from) / PEAK_MS);
    windows[window] = (windows[window] ?? 0) + 1;
  }
  return {
    byAction,
    throttled: calls.filter(({ result }) => result === 'RequestLimitExceeded').length,
    peak: Math.max(0, ...Object.values(windows)) / (PEAK_MS / 1000),
    seconds: (countedAt - from) / 1000,
  };
}

answering(async (question: CloudQuestion) => {
  switch (question.kind) {
    case 'open':
      return open(question.nodes);
    case 'count':
      return count();
    case 'throttle':
      vpc!.faults.setSize('*', question.on ? undefined : { burst: 1_000_000, perSecond: 1_000_000 });
      return null;
    case 'close':
      vpc?.close();
      rmSync(dir, { recursive: true, force: true });
      return null;
  }
});
