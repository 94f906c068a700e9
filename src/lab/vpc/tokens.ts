// Client tokens: the same request with the same token gives the same answer again and does nothing.
// Kept for a day, at most so many, the oldest going first. Fails with IdempotentParameterMismatch.
import { createHash } from 'node:crypto';
import type { Caller } from './context.ts';
import { Ec2Error } from './errors.ts';
import type { StoredToken } from './store.ts';

const KEPT_MS = 24 * 3_600_000;
const MAX_TOKENS = 10_000;

/** JSON that brings Dates back as Dates. */
const pack = (value: object): string =>
  JSON.stringify(value, function (this: Record<string, unknown>, key, plain: unknown) {
    const real = this[key];
    return real instanceof Date ? { $date: real.getTime() } : plain;
  });
const unpack = (text: string): object =>
  JSON.parse(text, (_key, value: unknown) =>
    typeof value === 'object' && value !== null && '$date' in value ? new Date(value.$date as number) : value,
  ) as object;

export class TokenBook {
  readonly #tokens: Map<string, StoredToken>;

  constructor(stored: readonly StoredToken[]) {
    this.#tokens = new Map(stored.map((token) => [token.key, token]));
  }

  /** Runs `make`, or returns the stored answer of the first call; `token` is the record to store. */
  answer(
    action: string,
    input: object,
    caller: Caller,
    now: number,
    make: () => object,
  ): { answer: object; token?: StoredToken } {
    const clientToken = (input as { ClientToken?: string }).ClientToken;
    if (!clientToken || (input as { DryRun?: boolean }).DryRun) return { answer: make() };
    if (clientToken.length > 64 || !/^[\x21-\x7e]+$/.test(clientToken)) {
      throw new Ec2Error(
        'InvalidParameterValue',
        'The client token must be 1 to 64 printable ASCII characters',
      );
    }
    const key = `${action}/${caller.userId}/${clientToken}`;
    const request = createHash('sha256').update(JSON.stringify(input)).digest('hex');
    const known = this.#tokens.get(key);
    if (known && known.at + KEPT_MS > now) {
      if (known.request !== request) {
        throw new Ec2Error(
          'IdempotentParameterMismatch',
          'The request uses the same client token as a previous, but non-identical request.',
        );
      }
      return { answer: unpack(known.answer) };
    }
    const answer = make();
    return { answer, token: { key, request, answer: pack(answer), at: now } };
  }

  /** Keeps a token; returns the keys that are dropped for age or number. */
  keep(token: StoredToken): string[] {
    this.#tokens.delete(token.key);
    this.#tokens.set(token.key, token);
    const dropped: string[] = [];
    for (const [key, { at }] of this.#tokens) {
      if (at + KEPT_MS > token.at && this.#tokens.size <= MAX_TOKENS) break;
      this.#tokens.delete(key);
      dropped.push(key);
    }
    return dropped;
  }
}
