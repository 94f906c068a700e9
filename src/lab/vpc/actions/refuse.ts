// Parameters that the wire knows and the lab has no meaning for: named and refused, never silently dropped.
import { Ec2Error } from '../errors.ts';

/** Throws UnsupportedOperation when one of `names` was given a value that asks for something. */
export function refuse<T extends object>(
  action: string,
  input: T,
  names: readonly (keyof T & string)[],
): void {
  for (const name of names) {
    const value = input[name];
    const asks = Array.isArray(value)
      ? value.length > 0
      : value !== undefined && value !== 0 && value !== false;
    if (asks)
      throw new Ec2Error('UnsupportedOperation', `${action} with ${name} has no meaning in this VPC.`);
  }
}
