// What Kubernetes and EC2 last said of the node's configuration, kept in the run directory, so that a restart without
// them goes on with it. A file that cannot be read counts as absent; a write that fails is only logged.
import { readFileSync } from 'node:fs';
import { writeFileAtomic } from '../base/files.ts';
import type { Log } from '../base/log.ts';
import type { ValidNetwork } from '../ipam/config/node-network.ts';
import type { KnownFacts } from '../ipam/config/sources.ts';

export type KeptFacts = Pick<
  KnownFacts,
  'node' | 'eniConfigs' | 'subnets' | 'groups' | 'serviceFamily' | 'wantsTrunk'
> & {
  /** Of each NodeNetwork the last version that was accepted. */
  readonly networks: readonly ValidNetwork[];
  /** When EC2 last told subnets and groups (ms); 0: never. */
  readonly describedAt: number;
};

const VERSION = 1;

const nothing: KeptFacts = {
  networks: [],
  node: null,
  eniConfigs: null,
  subnets: null,
  groups: null,
  serviceFamily: null,
  wantsTrunk: false,
  describedAt: 0,
};

const BIG = /^\d+n$/;
/** As JSON; an IPv6 address is a bigint, which JSON has not: `123n`. Equal facts are equal texts. */
export const factsText = (facts: KeptFacts): string =>
  JSON.stringify(facts, (_key, value) => (typeof value === 'bigint' ? `${value}n` : value));
const revived = (key: string, value: unknown): unknown =>
  key === 'ip' && typeof value === 'string' && BIG.test(value) ? BigInt(value.slice(0, -1)) : value;

export function readFacts(file: string, log: Log): KeptFacts {
  try {
    const { version, facts } = JSON.parse(readFileSync(file, 'utf8'), revived) as {
      version: number;
      facts: KeptFacts;
    };
    // Another version's agent wrote it: what it keeps is asked for again.
    if (version !== VERSION) return nothing;
    // An agent from before families, or before branches, kept networks and facts without them.
    const networks = facts.networks.map((one) => ({
      ...one,
      families: one.families ?? 'ipv4',
      egress4: one.egress4 ?? 'none',
      nodeLocalAddresses: one.nodeLocalAddresses ?? [],
    }));
    return {
      ...facts,
      networks,
      serviceFamily: facts.serviceFamily ?? null,
      wantsTrunk: facts.wantsTrunk ?? false,
    };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      log.warn({ error: (error as Error).message }, 'the kept configuration is unreadable');
    return nothing;
  }
}

export function keepFacts(file: string, facts: KeptFacts, log: Log): void {
  try {
    writeFileAtomic(file, `{"version":${VERSION},"facts":${factsText(facts)}}`);
  } catch (error) {
    log.warn({ error: (error as Error).message }, 'the configuration cannot be kept');
  }
}
