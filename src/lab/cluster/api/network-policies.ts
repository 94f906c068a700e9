// What the API server refuses of a NetworkPolicy: as the agents read it, but for fields that this version does not know.
import { decodeNetworkPolicy } from '../../../policy/decode.ts';
import { isUnknownField } from '../../../policy/fields.ts';
import type { StatusCause } from './errors.ts';
import type { Any } from './kinds.ts';

export const checkNetworkPolicy = (object: Any): StatusCause[] =>
  decodeNetworkPolicy(object)
    .problems.filter((problem) => !isUnknownField(problem))
    .map(({ field, value, because }) => ({
      reason: 'FieldValueInvalid',
      message: `Invalid value: ${value}: ${because}`,
      field,
    }));
