import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../../base/ip.ts';
import { whyNoVpc } from './reserved.ts';
import { fails, testVpc } from './testing.ts';

const IMPOSSIBLE = [
  '0.0.0.0/16',
  '127.8.0.0/16',
  '169.254.0.0/24',
  '224.0.0.0/16',
  '240.0.0.0/16',
  '255.255.255.0/24',
];
const THE_LABS = ['198.18.0.0/16', '198.19.255.0/24', '203.0.113.0/24', '203.0.0.0/16'];

test('EC2 refuses a VPC of addresses that no host has, and one of the lab itself', async () => {
  await using lab = testVpc();
  const { Vpc } = await lab.vpc.act('CreateVpc', { CidrBlock: '10.0.0.0/16' });
  for (const CidrBlock of [...IMPOSSIBLE, ...THE_LABS]) {
    await fails(
      lab.vpc.act('CreateVpc', { CidrBlock }),
      'InvalidVpc.Range',
      /CIDR '[\d./]+' is invalid: it is /,
    );
    await fails(lab.vpc.act('AssociateVpcCidrBlock', { VpcId: Vpc!.VpcId, CidrBlock }), 'InvalidVpc.Range');
  }
});

test('what lies beside a reserved range is not reserved', () => {
  for (const cidr of [
    '1.0.0.0/16',
    '126.255.0.0/16',
    '128.0.0.0/16',
    '169.253.0.0/16',
    '198.17.0.0/16',
    '198.20.0.0/16',
    '203.0.114.0/24',
    '223.255.0.0/16',
    '100.64.0.0/16',
  ])
    assert.equal(whyNoVpc(parseCidr(cidr)), undefined, cidr);
});
