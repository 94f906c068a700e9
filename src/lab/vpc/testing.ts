// For the tests of this folder: a VPC in a temporary folder, an endpoint on loopback, the stock SDK pointed at it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatCidr, type Ipv6, parseCidr } from '../../base/ip.ts';
import { openVpc, type VpcOptions, type VpcService } from './index.ts';

export type TestVpc = AsyncDisposable & { vpc: VpcService; dir: string; reopen(): VpcService };

export const REGION = 'us-west-2';
export const ZONES = ['us-west-2a', 'us-west-2b'];

/** A VPC of its own; its folder goes with it. */
export function testVpc(options: Partial<VpcOptions> = {}): TestVpc {
  const dir = mkdtempSync(join(tmpdir(), 'podway-vpc-'));
  const open = () =>
    openVpc({
      dir,
      region: REGION,
      zones: ZONES,
      log: { warn: console.error, error: console.error },
      ...options,
    });
  const test: TestVpc = {
    vpc: open(),
    dir,
    reopen() {
      test.vpc.close();
      test.vpc = open();
      return test.vpc;
    },
    async [Symbol.asyncDispose]() {
      test.vpc.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
  return test;
}

/** The /64 of that number within a VPC's /56, in the one spelling that EC2 answers with. */
export const subnetBlock = (block: string, number: number): string =>
  formatCidr({ ip: ((parseCidr(block).ip as bigint) | (BigInt(number) << 64n)) as Ipv6, length: 64 });

/** An HTTP server on loopback; its URL has no slash at the end. */
export async function listen(handler: RequestListener): Promise<AsyncDisposable & { url: string }> {
  const server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A VPC with one subnet in each of two zones and an m5.large in the first; ids by name. */
export async function smallShape(
  vpc: VpcService,
): Promise<{ vpcId: string; subnetId: string; otherSubnetId: string; instanceId: string }> {
  const vpcId = (await vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16' })).Vpc!.VpcId!;
  const subnet = async (CidrBlock: string, AvailabilityZone: string) =>
    (await vpc.act('CreateSubnet', { VpcId: vpcId, CidrBlock, AvailabilityZone })).Subnet!.SubnetId!;
  const subnetId = await subnet('10.0.0.0/24', ZONES[0]!);
  const otherSubnetId = await subnet('10.0.1.0/24', ZONES[1]!);
  const instanceId = await runInstance(vpc, { SubnetId: subnetId });
  return { vpcId, subnetId, otherSubnetId, instanceId };
}

type Launch = Parameters<typeof launchInput>[0];
const launchInput = (more: { SubnetId?: string; InstanceType?: 'm5.large' | 't3.small'; Name?: string }) => ({
  ImageId: 'ami-1',
  InstanceType: more.InstanceType ?? ('m5.large' as const),
  MinCount: 1,
  MaxCount: 1,
  SubnetId: more.SubnetId,
  ...(more.Name
    ? {
        TagSpecifications: [{ ResourceType: 'instance' as const, Tags: [{ Key: 'Name', Value: more.Name }] }],
      }
    : {}),
});
export const runInstance = async (vpc: VpcService, launch: Launch): Promise<string> =>
  (await vpc.act('RunInstances', launchInput(launch))).Instances![0]!.InstanceId!;

/** The call fails with EC2's code, and its message matches. */
export const fails = (promise: Promise<unknown>, code: string, message = /./) =>
  assert.rejects(promise, (error: { code?: string; message: string }) => {
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  });
export const newEni = async (vpc: VpcService, SubnetId: string, more: object = {}) =>
  (await vpc.act('CreateNetworkInterface', { SubnetId, ...more })).NetworkInterface!.NetworkInterfaceId!;
export const attach = (
  vpc: VpcService,
  NetworkInterfaceId: string,
  InstanceId: string,
  DeviceIndex: number,
) => vpc.act('AttachNetworkInterface', { NetworkInterfaceId, InstanceId, DeviceIndex });
export const primaryOf = (vpc: VpcService, instanceId: string) =>
  Object.values(vpc.state().networkInterfaces).find(
    (eni) => eni.attachment?.instanceId === instanceId && eni.attachment.deviceIndex === 0,
  )!;
export async function gatewayFor(vpc: VpcService, VpcId: string): Promise<string> {
  const id = (await vpc.act('CreateInternetGateway', {})).InternetGateway!.InternetGatewayId!;
  await vpc.act('AttachInternetGateway', { VpcId, InternetGatewayId: id });
  return id;
}

/** The credentials that the instance's metadata gives. */
export async function roleOf(vpc: VpcService, instanceId: string) {
  await vpc.act('ModifyInstanceMetadataOptions', { InstanceId: instanceId, HttpTokens: 'optional' });
  await using imds = await listen((request, response) => vpc.imdsHandler(request, response, { instanceId }));
  const url = `${imds.url}/latest/meta-data/iam/security-credentials/`;
  const role = await (await fetch(url)).text();
  const credentials = (await (await fetch(url + role)).json()) as Record<string, string>;
  return {
    accessKeyId: credentials['AccessKeyId']!,
    secretAccessKey: credentials['SecretAccessKey']!,
    sessionToken: credentials['Token']!,
  };
}
