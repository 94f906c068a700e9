// What the lab's own EC2 costs where a subnet is large: a /16 with 1,000 interfaces of 40 addresses, in one process and
// without the fabric. What it takes to answer bounds every measurement that has the lab as its cloud.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openVpc } from '../src/lab/vpc/index.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const ENIS = 1_000;
const ADDRESSES = 40;
const ROUNDS = 300;

export async function bench(): Promise<BenchResult[]> {
  const dir = mkdtempSync(join(tmpdir(), 'podway-bench-ec2-'));
  const vpc = openVpc({ dir, region: 'us-west-2', zones: ['us-west-2a'] });
  try {
    const VpcId = (await vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16' })).Vpc!.VpcId!;
    const SubnetId = (await vpc.act('CreateSubnet', { VpcId, CidrBlock: '10.0.0.0/16' })).Subnet!.SubnetId!;
    const create = async (more: object) =>
      (await vpc.act('CreateNetworkInterface', { SubnetId, ...more })).NetworkInterface!.NetworkInterfaceId!;
    const enis: string[] = [];
    for (let i = 0; i < ENIS; i++) enis.push(await create({ SecondaryPrivateIpAddressCount: ADDRESSES - 1 }));
    const calls: [what: string, call: (eni: string) => Promise<unknown>][] = [
      [
        'AssignPrivateIpAddresses, 5 addresses',
        (NetworkInterfaceId) =>
          vpc.act('AssignPrivateIpAddresses', { NetworkInterfaceId, SecondaryPrivateIpAddressCount: 5 }),
      ],
      [
        'UnassignPrivateIpAddresses, 5 addresses',
        (NetworkInterfaceId) =>
          vpc.act('UnassignPrivateIpAddresses', {
            NetworkInterfaceId,
            PrivateIpAddresses: vpc.state().networkInterfaces[NetworkInterfaceId]!.privateIps.slice(-5),
          }),
      ],
      ['CreateNetworkInterface, 15 addresses', () => create({ SecondaryPrivateIpAddressCount: 14 })],
      [
        'DescribeNetworkInterfaces, one by id',
        (id) => vpc.act('DescribeNetworkInterfaces', { NetworkInterfaceIds: [id] }),
      ],
      ['DescribeSubnets', () => vpc.act('DescribeSubnets', {})],
    ];
    const numbers: Record<string, unknown> = {};
    const rows: BenchResult['rows'] = [];
    for (const [what, call] of calls) {
      const times: number[] = [];
      for (const eni of enis.slice(0, ROUNDS)) {
        const began = performance.now();
        await call(eni);
        times.push(performance.now() - began);
      }
      const figures = summarise(times);
      numbers[what] = figures;
      rows.push([what, `${round(figures.p50, 2)} ms`, `${round(figures.p99, 2)} ms`, 'under 5 ms']);
    }
    return [
      {
        title: `The lab's EC2: a /16 with ${ENIS} interfaces of ${ADDRESSES} addresses, one call at a time`,
        head: ['call', 'p50', 'p99', 'aim'],
        rows,
        numbers,
      },
    ];
  } finally {
    vpc.close();
    rmSync(dir, { recursive: true, force: true });
  }
}
