// What EC2 lists on a node's ENIs: single addresses and prefixes.
import { DescribeNetworkInterfacesCommand, type EC2Client } from '@aws-sdk/client-ec2';
import { cidrContains, parseCidr, parseIp } from '../../src/base/ip.ts';
import type { Lab } from './lab.ts';

export const instanceOf = async (from: Lab, node: string): Promise<string> =>
  (await from.status()).nodes.find(({ name }) => name === node)!.instanceId;

export async function blocksOf(
  from: Lab,
  by: EC2Client,
  node: string,
): Promise<{ singles: string[]; prefixes: string[] }> {
  const Filters = [{ Name: 'attachment.instance-id', Values: [await instanceOf(from, node)] }];
  const { NetworkInterfaces } = await by.send(new DescribeNetworkInterfacesCommand({ Filters }));
  return {
    singles: NetworkInterfaces!.flatMap((eni) =>
      eni.PrivateIpAddresses!.filter(({ Primary }) => !Primary).map((one) => one.PrivateIpAddress!),
    ),
    prefixes: NetworkInterfaces!.flatMap((eni) => (eni.Ipv4Prefixes ?? []).map((one) => one.Ipv4Prefix!)),
  };
}

export const isIn = (ip: string, prefixes: readonly string[]): boolean =>
  prefixes.some((prefix) => cidrContains(parseCidr(prefix), parseIp(ip)));
