// Reads this node's ENIs from the metadata service every half minute. That uses none of the account's EC2 allowance but
// may be stale, so a difference only asks for a describe; it never changes the pool itself. Describes lag too, so
// a lasting difference asks again, at most three times in four minutes. Failures are logged at debug only: the regular
// describe comes anyway.
import { type Cidr, formatCidr, formatIp, parseCidr } from '../../base/ip.ts';
import type { Mac } from '../../base/mac.ts';
import type { Imds } from '../../cloud/imds.ts';
import type { Core } from '../core.ts';
import type { Eni, PoolState } from '../state.ts';

/** Between two readings (ms), jittered by a tenth. */
const INTERVAL = 30_000;
/** The service may show our own change this long (ms) after EC2 confirmed it; until then the ENI is not compared. */
const METADATA_LAG = 10_000;

/** The same reading asks at most MOST_ASKED times; the second time after ASK_AGAIN ms, then after twice that. */
const MOST_ASKED = 3;
const ASK_AGAIN = 60_000;

export const MACS = 'meta-data/network/interfaces/macs/';

/** Addresses of IPv4 and prefixes by MAC, of the compared ENIs; of all other ENIs only the MAC is read. */
type Reading = { macs: string[]; addresses: Map<string, string[]> };

export class MetadataHint {
  readonly #core: Core;
  readonly #metadata: Pick<Imds, 'get'> | undefined;
  #nextAt: number;
  #reading = false;
  /** The last reading that asked for a describe, how often it asked, and when. */
  #asked = { text: '', times: 0, at: 0 };

  constructor(core: Core) {
    this.#core = core;
    this.#metadata = core.metadata;
    this.#nextAt = core.clock.now() + this.#pause();
  }

  dueAt(): number {
    return this.#metadata && !this.#reading ? this.#nextAt : Number.POSITIVE_INFINITY;
  }

  startDue(now: number): Promise<void> | null {
    if (!this.#metadata || this.#reading || now < this.#nextAt) return null;
    this.#reading = true;
    return this.#read(this.#metadata).finally(() => {
      this.#reading = false;
      this.#nextAt = this.#core.clock.now() + this.#pause();
    });
  }

  /** True when this reading should ask for a describe; counts that request. */
  #isDue(text: string): boolean {
    const now = this.#core.clock.now();
    const { times, at } = this.#asked;
    const isNew = text !== this.#asked.text;
    if (!isNew && (times >= MOST_ASKED || now < at + ASK_AGAIN * 2 ** (times - 1))) return false;
    this.#asked = { text, times: isNew ? 1 : times + 1, at: now };
    return true;
  }

  #pause = (): number => INTERVAL * (0.9 + this.#core.random() / 5);

  async #read(metadata: Pick<Imds, 'get'>): Promise<void> {
    const core = this.#core;
    const known = judgeable(core.state, core.clock.now());
    let reading: Reading;
    try {
      reading = await readInterfaces(metadata, known, core.signal);
    } catch (error) {
      core.log.debug({ error: String(error) }, 'the metadata service gives no hint');
      return;
    }
    // ENIs that we changed during the reading are not compared.
    const still = judgeable(core.state, core.clock.now()).filter((eni) => known.includes(eni));
    const text = JSON.stringify([reading.macs, [...reading.addresses]]);
    if (!differs(core.state, still, reading)) this.#asked = { text: '', times: 0, at: 0 };
    else if (this.#isDue(text)) {
      core.log.info({ macs: reading.macs }, 'the metadata service says otherwise than the pool; asking EC2');
      core.reconcileSoon();
    }
  }
}

const judgeable = (state: PoolState, now: number): Eni[] =>
  [...state.enis.values()].filter(
    (eni) => eni.phase !== 'leaving' && !state.busy.has(eni.id) && eni.settledAt + METADATA_LAG < now,
  );

async function readInterfaces(
  metadata: Pick<Imds, 'get'>,
  enis: readonly Eni[],
  signal: AbortSignal,
): Promise<Reading> {
  const listed = (await metadata.get(MACS, signal)) ?? '';
  const macs = listed
    .split(/\s+/)
    .map((one) => one.replace(/\/$/, ''))
    .filter((one) => one !== '')
    .sort();
  const addresses = new Map<string, string[]>();
  for (const eni of enis) {
    if (!macs.includes(eni.mac)) continue;
    const found: string[] = [];
    for (const key of ['local-ipv4s', ...(prefixesOf(eni).length > 0 ? ['ipv4-prefix'] : [])]) {
      const text = (await metadata.get(`${MACS}${eni.mac}/${key}`, signal)) ?? '';
      found.push(...text.split(/\s+/).filter(Boolean));
    }
    if (listed6(eni).length > 0) {
      const text = (await metadata.get(`${MACS}${eni.mac}/ipv6-prefix`, signal)) ?? '';
      found.push(
        ...text
          .split(/\s+/)
          .filter(Boolean)
          .map((one) => formatCidr(parseCidr(one))),
      );
    }
    addresses.set(eni.mac, found.sort());
  }
  return { macs, addresses };
}

function differs(state: PoolState, enis: readonly Eni[], reading: Reading): boolean {
  const known = new Set<Mac>([...state.enis.values()].map((eni) => eni.mac));
  const others = reading.macs.filter((mac) => !known.has(mac as Mac));
  if (state.creations.size === 0 && others.length !== state.foreign.length) return true;
  return enis.some((eni) => {
    const told = reading.addresses.get(eni.mac);
    if (!told) return eni.missingSince === null;
    return told.join() !== expectedAddresses(eni).join();
  });
}

const listed = (eni: Eni, length: number): Cidr[] =>
  [...eni.blocks.values()]
    .filter(({ cidr, missingSince }) => cidr.length === length && missingSince === null)
    .map(({ cidr }) => cidr);

const prefixesOf = (eni: Eni): Cidr[] => listed(eni, 28);

const listed6 = (eni: Eni): Cidr[] => listed(eni, 80);

const expectedAddresses = (eni: Eni): string[] =>
  [
    ...(typeof eni.primaryIp === 'number' ? [formatIp(eni.primaryIp)] : []),
    ...listed(eni, 32).map(({ ip }) => formatIp(ip)),
    ...[...prefixesOf(eni), ...listed6(eni)].map(formatCidr),
  ].sort();
