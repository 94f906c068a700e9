// EC2's view in a dump: the surveyed subnets as JSON with addresses as text, and back. Pure.
import { formatCidr, formatIp, parseCidr, parseIpv4 } from '../../base/ip.ts';
import type { SurveyedSubnet } from '../../cloud/survey.ts';

export const subnetsJson = (subnets: readonly SurveyedSubnet[]) =>
  subnets.map(({ cidr, reservations, interfaces, ...subnet }) => ({
    ...subnet,
    cidr: formatCidr(cidr),
    reservations: reservations?.map(({ cidr: block, kind }) => ({ cidr: formatCidr(block), kind })) ?? null,
    interfaces: interfaces.map(({ primary, secondary, prefixes, ...eni }) => ({
      ...eni,
      primary: formatIp(primary),
      secondary: secondary.map(({ ip, public: isPublic }) => ({ ip: formatIp(ip), public: isPublic })),
      prefixes: prefixes.map((prefix) => formatCidr(prefix)),
    })),
  }));
export type SubnetJson = ReturnType<typeof subnetsJson>[number];

export const subnetsOf = (subnets: readonly SubnetJson[]): SurveyedSubnet[] =>
  subnets.map(({ cidr, reservations, interfaces, ...subnet }) => ({
    ...subnet,
    cidr: parseCidr(cidr),
    reservations: reservations?.map(({ cidr: block, kind }) => ({ cidr: parseCidr(block), kind })) ?? null,
    interfaces: interfaces.map(({ primary, secondary, prefixes, ...eni }) => ({
      ...eni,
      primary: parseIpv4(primary),
      secondary: secondary.map(({ ip, public: isPublic }) => ({ ip: parseIpv4(ip), public: isPublic })),
      prefixes: prefixes.map((text) => parseCidr(text)),
    })),
  }));
