// Subnet CIDR reservations: ranges that EC2 gives out as prefixes alone, or to nobody who does not name them. What is
// held in a range stays held, when the reservation is made and when it goes. Source: Amazon VPC User Guide, "Subnet CIDR
// reservations". Fails with InvalidParameterValue (range, size, overlap), InvalidSubnetCidrReservationID.NotFound.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Cidr, cidrCovers, cidrsOverlap, familyOf, formatCidr, parseCidr } from '../../../base/ip.ts';
import { type Context, need, newId, wordsOf } from '../context.ts';
import { invalidValue, required } from '../errors.ts';
import { ipv6CidrsOf, PREFIX_LENGTH } from '../ipv6.ts';
import type { SubnetCidrReservation } from '../model.ts';
import { reservationsOf } from '../occupancy.ts';
import { select } from '../select.ts';
import { tagsOnCreate, tagsWhenAny } from './tags.ts';
import type { Meanings } from './types.ts';

/** A reservation for prefixes has at least one. */
const LONGEST_FOR_PREFIXES = { 4: 28, 6: PREFIX_LENGTH } as const;

const reservationAnswer = (ctx: Context, row: SubnetCidrReservation): ec2.SubnetCidrReservation => ({
  SubnetCidrReservationId: row.id,
  SubnetId: row.subnetId,
  Cidr: row.cidr,
  ReservationType: row.type,
  OwnerId: ctx.draft.state.accountId,
  ...(row.description === '' ? {} : { Description: row.description }),
  ...tagsWhenAny(row.tags),
});

function readType(text: string): SubnetCidrReservation['type'] {
  if (text === 'prefix' || text === 'explicit') return text;
  throw invalidValue(`Value (${text}) for parameter reservationType is invalid. Use prefix or explicit.`);
}

function readRange(text: string): Cidr {
  try {
    return parseCidr(text);
  } catch {
    throw invalidValue(`Value (${text}) for parameter cidr is invalid. This is not a valid CIDR block.`);
  }
}

const ofFamily = (rows: readonly SubnetCidrReservation[], family: 4 | 6) =>
  rows.filter((row) => row.cidr.includes(':') === (family === 6));

export const reservationActions: Meanings<
  'CreateSubnetCidrReservation' | 'GetSubnetCidrReservations' | 'DeleteSubnetCidrReservation'
> = {
  CreateSubnetCidrReservation: (ctx, input) => {
    const subnet = need(ctx, 'subnets', required(input.SubnetId, 'subnetId'));
    const type = readType(required(input.ReservationType, 'reservationType'));
    const block = readRange(required(input.Cidr, 'cidr'));
    const cidr = formatCidr(block);
    const family = familyOf(block.ip);
    const own = family === 6 ? ipv6CidrsOf(subnet)[0] : subnet.cidr;
    if (!own)
      throw invalidValue(
        family === 4
          ? `The subnet ${subnet.id} is IPv6-only and has no IPv4 CIDR`
          : `Reservation CIDR ${cidr} is not within ${subnet.id}, which has no IPv6 CIDR`,
      );
    if (!cidrCovers(parseCidr(own), block))
      throw invalidValue(`Reservation CIDR ${cidr} is not within the CIDR ${own} of ${subnet.id}`);
    const longest = LONGEST_FOR_PREFIXES[family];
    if (type === 'prefix' && block.length > longest) {
      throw invalidValue(
        `Reservation CIDR ${cidr} is too small for reservation type prefix: a prefix is a /${longest}`,
      );
    }
    const other = reservationsOf(ctx.draft.state, subnet.id, family).find((row) =>
      cidrsOverlap(parseCidr(row.cidr), block),
    );
    if (other)
      throw invalidValue(
        `Reservation CIDR ${cidr} has overlap with existing reserved CIDR block (${other.id}, ${other.cidr})`,
      );
    const row: SubnetCidrReservation = {
      id: newId(ctx, 'scr'),
      subnetId: subnet.id,
      cidr,
      type,
      description: input.Description ?? '',
      tags: tagsOnCreate(input.TagSpecifications, 'subnet-cidr-reservation'),
    };
    ctx.draft.put('subnetCidrReservations', row.id, row);
    return { SubnetCidrReservation: reservationAnswer(ctx, row) };
  },

  GetSubnetCidrReservations: (ctx, input) => {
    const subnet = need(ctx, 'subnets', required(input.SubnetId, 'subnetId'));
    const { items, nextToken } = select<SubnetCidrReservation>(
      {
        items: reservationsOf(ctx.draft.state, subnet.id),
        idOf: (row) => row.id,
        tagsOf: (row) => row.tags,
        words: wordsOf('subnetCidrReservations'),
        filters: {
          reservationType: (row) => row.type,
          'subnet-id': (row) => row.subnetId,
        },
      },
      input,
    );
    return {
      SubnetIpv4CidrReservations: ofFamily(items, 4).map((row) => reservationAnswer(ctx, row)),
      SubnetIpv6CidrReservations: ofFamily(items, 6).map((row) => reservationAnswer(ctx, row)),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  DeleteSubnetCidrReservation: (ctx, input) => {
    const id = required(input.SubnetCidrReservationId, 'subnetCidrReservationId');
    const row = need(ctx, 'subnetCidrReservations', id);
    ctx.draft.remove('subnetCidrReservations', row.id);
    return { DeletedSubnetCidrReservation: reservationAnswer(ctx, row) };
  },
};
