// The VPC's CIDRs, which say where a pod keeps its own source address. IMDS tells them; a file under the run directory
// keeps them for a start without IMDS. A new one counts at once. One that IMDS no longer lists counts until it has been
// missing for a minute, and as long as an ENI of the node stands in it: metadata may be stale.
import { readFileSync } from 'node:fs';
import { writeFileAtomic } from '../base/files.ts';
import { type Cidr, cidrContains, formatCidr, type Ip, parseCidr } from '../base/ip.ts';
import type { Log } from '../base/log.ts';

/** Two readings this far apart (ms), and all between them, must lack a CIDR that is to go. */
const REMOVAL_GAP = 60_000;

export type VpcCidrsOptions = {
  file: string;
  /** What IMDS says now. */
  read: (signal: AbortSignal) => Promise<Cidr[]>;
  /** Addresses of the node's ENIs. */
  inUse: () => readonly Ip[];
  log: Log;
  now: () => number;
};

export class VpcCidrs {
  readonly #o: VpcCidrsOptions;
  #all: readonly Cidr[] = [];
  /** Since when (ms) IMDS no longer lists a CIDR, by its text. */
  #missing = new Map<string, number>();

  constructor(options: VpcCidrsOptions) {
    this.#o = options;
    try {
      this.#all = (JSON.parse(readFileSync(options.file, 'utf8')) as string[]).map((text) => parseCidr(text));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        options.log.warn({ error: (error as Error).message }, 'the kept VPC CIDRs are unreadable');
    }
  }

  get all(): readonly Cidr[] {
    return this.#all;
  }

  /** Reads IMDS; without an answer the known ones stay. True when they changed. */
  async learn(signal: AbortSignal): Promise<boolean> {
    let listed: Cidr[];
    try {
      listed = await this.#o.read(signal);
    } catch (error) {
      if (!signal.aborted)
        this.#o.log.warn({ error: (error as Error).message }, 'IMDS does not say the CIDRs of the VPC');
      return false;
    }
    const next = this.#fold(listed);
    const [before, after] = [this.#all.map(formatCidr), next.map(formatCidr)];
    if (before.join() === after.join()) return false;
    if (before.length > 0) this.#o.log.info({ before, after }, 'the CIDRs of the VPC have changed');
    this.#all = next;
    this.#keep();
    return true;
  }

  #fold(listed: readonly Cidr[]): readonly Cidr[] {
    if (listed.length === 0) return this.#all;
    const now = this.#o.now();
    const texts = new Set(listed.map(formatCidr));
    const missing = new Map<string, number>();
    const kept = this.#all.filter((cidr) => {
      const text = formatCidr(cidr);
      if (texts.has(text)) return false;
      const since = this.#missing.get(text) ?? now;
      missing.set(text, since);
      return now - since < REMOVAL_GAP || this.#o.inUse().some((ip) => cidrContains(cidr, ip));
    });
    this.#missing = missing;
    return [...listed, ...kept];
  }

  /** A failed write is only logged: the file serves a start without IMDS. */
  #keep(): void {
    const { file, log } = this.#o;
    try {
      writeFileAtomic(file, JSON.stringify(this.#all.map(formatCidr)));
    } catch (error) {
      log.warn({ error: (error as Error).message }, 'the VPC CIDRs cannot be kept');
    }
  }
}
