// What RunInstances and ModifyInstanceMetadataOptions check alike of an instance's metadata service.
import { invalidValue } from '../errors.ts';

const MAX_HOPS = 64;

export function checkHopLimit(hops: number): void {
  if (!Number.isInteger(hops) || hops < 1 || hops > MAX_HOPS) {
    throw invalidValue(
      `Value (${hops}) for parameter HttpPutResponseHopLimit is invalid. Must be from 1 to ${MAX_HOPS}.`,
    );
  }
}

/** The value if EC2 knows it, `undefined` if none was given. */
export function oneOf<T extends string>(
  value: string | undefined,
  values: readonly T[],
  name: string,
): T | undefined {
  if (value === undefined) return undefined;
  const found = values.find((v) => v === value);
  if (found === undefined) throw invalidValue(`Value (${value}) for parameter ${name} is invalid.`);
  return found;
}

/** The instance's member for HttpProtocolIpv6, when it is given. */
export function ipv6Endpoint(value: string | undefined): { httpProtocolIpv6?: 'enabled' | 'disabled' } {
  const httpProtocolIpv6 = oneOf(value, ['enabled', 'disabled'], 'HttpProtocolIpv6');
  return httpProtocolIpv6 === undefined ? {} : { httpProtocolIpv6 };
}
