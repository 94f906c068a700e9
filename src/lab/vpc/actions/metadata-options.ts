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
