// When EC2 is asked what there is of trunks and branches, and what that says. Every LOOK_MS one describe shows what
// hangs loose: a branch that was taken off its trunk, a trunk off its instance. All of them, and all associations, are
// described in turn, the rarer the more there are, so that the cost is bounded. What seems lost is described by itself
// before it is told. Never throws.
import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Cloud, EniDescription, EniId, TrunkCloud } from '../../cloud/port.ts';
import { TAG_PURPOSE } from '../../ipam/ec2/tags.ts';
import type { Branch } from './plan.ts';
import type { BranchRecord } from './record.ts';

/** Between two looks, and between two before the first (ms). */
const LOOK_MS = 10_000;
const FIRST_MS = 250;
/** A page of a describe (EC2's most), and how long one is to last (ms): so often a second all are asked for at most. */
const ENI_PAGE = 1_000;
const ENI_PAGE_MS = 2_000;
const ASSOCIATION_PAGE = 255;
const ASSOCIATION_PAGE_MS = 10_000;
/** From the first sight of a loss to the second (ms), and how many are asked for at once (values of a filter). */
const CONFIRM_MS = 2_000;
const AT_ONCE = 200;

export type LooksParts = {
  cloud: Pick<Cloud, 'describeNetworkInterfaces'> & Pick<TrunkCloud, 'describeTrunkAssociations'>;
  record: BranchRecord;
  clock: Clock;
  log: Log;
  /** All nodes and pods are known: an orphan is one. */
  isReady: () => boolean;
  isHeld: (branch: Branch) => boolean;
  /** Trunks that nodes have. */
  trunks: () => readonly EniId[];
  onLook: (seen: Sight, signal: AbortSignal) => Promise<void>;
  onLoss: (lost: Losses) => void;
};

/** `isWhole`: all trunks, not the loose ones alone. */
export type Sight = { trunks: readonly EniDescription[]; isWhole: boolean };
export type Losses = { vanished: Branch[]; gone: Branch[]; detached: EniId[]; deleted: EniId[] };

const isTrunk = ({ tags }: EniDescription): boolean => tags[TAG_PURPOSE] === 'trunk';

export class Looks {
  readonly #p: LooksParts;
  #allAt = 0;
  #associationsAt = 0;
  #hasLooked = false;

  constructor(parts: LooksParts) {
    this.#p = parts;
  }

  get hasLooked(): boolean {
    return this.#hasLooked;
  }

  /** Ends when `signal` aborts. */
  async keep(signal: AbortSignal): Promise<void> {
    const { clock, log, isReady } = this.#p;
    let isTold = false;
    while (!signal.aborted) {
      const began = clock.now();
      try {
        if (isReady()) {
          await this.#look(began, signal);
          isTold = false;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (!isTold) log.warn({ error: (error as Error).message }, 'branches are not to be had from EC2');
        isTold = true;
      }
      const next = began + (this.#hasLooked ? LOOK_MS : FIRST_MS);
      await clock.sleep(Math.max(FIRST_MS, next - clock.now()), signal).catch(() => undefined);
    }
  }

  async #look(began: number, signal: AbortSignal): Promise<void> {
    const { cloud, record, clock, isHeld, trunks, onLook, onLoss } = this.#p;
    const asksAssociations = began >= this.#associationsAt || record.wantsAssociations;
    const scope = asksAssociations || began >= this.#allAt ? 'all' : 'loose';
    const tags = { [TAG_PURPOSE]: ['trunk', 'branch'] };
    const [enis, associations] = await Promise.all([
      cloud.describeNetworkInterfaces(
        { kind: 'tags', tags, ...(scope === 'loose' ? { loose: true } : {}) },
        signal,
      ),
      asksAssociations ? cloud.describeTrunkAssociations(signal) : null,
    ]);
    const seen = enis.filter(isTrunk);
    const branches = enis.filter((eni) => !isTrunk(eni));
    const suspects = record.observe({ scope, enis: branches, associations, began }, clock.now(), isHeld);
    if (scope === 'all') this.#allAt = after(began, enis.length, ENI_PAGE, ENI_PAGE_MS);
    if (associations)
      this.#associationsAt = after(began, associations.length, ASSOCIATION_PAGE, ASSOCIATION_PAGE_MS);
    this.#hasLooked = true;
    const byId = new Map(seen.map((eni) => [eni.id, eni]));
    const oddTrunks = trunks().filter((id) => {
      const eni = byId.get(id);
      return eni ? eni.attachment === null : scope === 'all';
    });
    if (suspects.length > 0 || oddTrunks.length > 0) {
      await clock.sleep(CONFIRM_MS, signal);
      const again = clock.now();
      const found = await this.#describe([...suspects, ...oddTrunks], signal);
      const there = new Map(found.map((eni) => [eni.id, eni]));
      const losses = {
        ...record.confirm(suspects, found, again, clock.now()),
        detached: oddTrunks.filter((id) => there.get(id)?.attachment === null),
        deleted: oddTrunks.filter((id) => !there.has(id)),
      };
      onLoss(losses);
    }
    await onLook({ trunks: seen, isWhole: scope === 'all' }, signal);
  }

  async #describe(ids: readonly EniId[], signal: AbortSignal): Promise<EniDescription[]> {
    const found: EniDescription[] = [];
    for (let at = 0; at < ids.length; at += AT_ONCE) {
      const some = ids.slice(at, at + AT_ONCE);
      found.push(
        ...(await this.#p.cloud.describeNetworkInterfaces(
          { kind: 'ids', ids: some, absent: 'skip' },
          signal,
        )),
      );
    }
    return found;
  }
}

/**
 * Due again so much after: a little less than LOOK_MS, so that a look that comes early by a hair is not put off by a
 * whole turn.
 */
const after = (began: number, count: number, page: number, pageMs: number): number =>
  began + Math.max(LOOK_MS, Math.ceil(count / page) * pageMs) - FIRST_MS;
