// What the account and the region are: zones, regions, attributes.
import type { Context } from '../context.ts';
import { invalidValue, oneWay } from '../errors.ts';
import { absent, select } from '../select.ts';
import type { Meanings } from './types.ts';

/** `us-west-2b` is the second zone of `us-west-2`: `usw2-az2`. */
export function zoneId(state: { region: string; zones: string[] }, zone: string): string {
  const words = state.region.split('-');
  const area = words
    .slice(1, -1)
    .map((word) => (/^(north|south)(east|west)$/.test(word) ? `${word[0]}${word[5]}` : word[0]));
  return `${words[0]}${area.join('')}${words.at(-1)}-az${state.zones.indexOf(zone) + 1}`;
}

/** The zone's name from its name or id, when the lab has it. */
export function zoneOf(ctx: Context, name: string | undefined, id: string | undefined): string {
  const { state } = ctx.draft;
  oneWay({ availabilityZone: name, availabilityZoneId: id }, 'availabilityZone', 'availabilityZoneId');
  const zone = name ?? state.zones.find((z) => zoneId(state, z) === id);
  if (zone === undefined || !state.zones.includes(zone)) {
    throw invalidValue(
      `Value (${name ?? id}) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: ${state.zones.join(', ')}.`,
    );
  }
  return zone;
}

const ATTRIBUTES: Record<string, string[]> = {
  'supported-platforms': ['VPC'],
  'vpc-max-security-groups-per-interface': ['5'],
  'max-elastic-ips': ['5'],
  'max-instances': ['20'],
  'vpc-max-elastic-ips': ['5'],
};

export const accountActions: Meanings<
  'DescribeAccountAttributes' | 'DescribeAvailabilityZones' | 'DescribeRegions'
> = {
  DescribeAccountAttributes: (ctx, input) => {
    const defaultVpc = Object.values(ctx.draft.state.vpcs).find((vpc) => vpc.isDefault);
    const all = { ...ATTRIBUTES, 'default-vpc': [defaultVpc?.id ?? 'none'] };
    for (const name of input.AttributeNames ?? []) {
      if (!Object.hasOwn(all, name))
        throw invalidValue(`Value (${name}) for parameter attributeName is invalid.`);
    }
    const names = input.AttributeNames?.length ? input.AttributeNames : Object.keys(all);
    return {
      AccountAttributes: names.map((name) => ({
        AttributeName: name,
        AttributeValues: (all[name as keyof typeof all] ?? []).map((value) => ({ AttributeValue: value })),
      })),
    };
  },

  DescribeAvailabilityZones: (ctx, input) => {
    const { state } = ctx.draft;
    const wanted = [...(input.ZoneNames ?? []), ...(input.ZoneIds ?? [])];
    for (const name of wanted) {
      if (!state.zones.some((zone) => zone === name || zoneId(state, zone) === name)) {
        throw invalidValue(`Invalid availability zone: [${name}]`);
      }
    }
    const { items } = select<string>(
      {
        items: state.zones.filter(
          (z) => wanted.length === 0 || wanted.includes(z) || wanted.includes(zoneId(state, z)),
        ),
        idOf: (zone) => zone,
        filters: {
          'zone-name': (zone) => zone,
          'zone-id': (zone) => zoneId(state, zone),
          'zone-type': () => 'availability-zone',
          'region-name': () => state.region,
          state: () => 'available',
          'opt-in-status': () => 'opt-in-not-required',
          'group-name': () => state.region,
          ...absent('group-long-name', 'message', 'parent-zone-id', 'parent-zone-name'),
        },
      },
      { Filters: input.Filters },
    );
    return {
      AvailabilityZones: items.map((zone) => ({
        ZoneName: zone,
        ZoneId: zoneId(state, zone),
        ZoneType: 'availability-zone',
        RegionName: state.region,
        State: 'available',
        OptInStatus: 'opt-in-not-required',
        GroupName: state.region,
        NetworkBorderGroup: state.region,
        Messages: [],
      })),
    };
  },

  DescribeRegions: (ctx, input) => {
    const { region } = ctx.draft.state;
    for (const name of input.RegionNames ?? []) {
      if (name !== region) throw invalidValue(`Invalid region: ${name} (the lab has ${region})`);
    }
    const { items } = select<string>(
      {
        items: [region],
        idOf: (r) => r,
        filters: {
          'region-name': (r) => r,
          endpoint: (r) => `ec2.${r}.amazonaws.com`,
          'opt-in-status': () => 'opt-in-not-required',
        },
      },
      { Filters: input.Filters },
    );
    return {
      Regions: items.map((name) => ({
        RegionName: name,
        Endpoint: `ec2.${name}.amazonaws.com`,
        OptInStatus: 'opt-in-not-required',
      })),
    };
  },
};
