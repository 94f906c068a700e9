// Which pods of this node have branch ENIs, as the API tells: a pod asks for one by the resource vpc.amazonaws.com/pod-eni,
// and whoever controls branches writes it into the pod's annotation of the same name (EKS's contract). ADD waits here,
// without polling, for a bounded time. Only what a pod with a branch needs is kept; of all others one word.
import { BRANCH_MODES, type BranchMode } from '../base/branch-words.ts';
import { type Cause, causes } from '../base/causes.ts';
import { asPodwayError, PodwayError } from '../base/errors.ts';
import { formatCidr, type Ip } from '../base/ip.ts';
import type { BranchRef } from '../ipam/state.ts';
import type { Pod } from '../kube/index.ts';
// This file alone: every agent loads it, and the client's other files take memory.
import { asksForBranch, decodePodEnis, POD_ENI, POD_ENI_CAUSE, type PodEni } from '../kube/vpc-resources.ts';

/** Annotation: the pod's mode, whatever the settings say. It counts when the pod starts. */
const POD_MODE = 'podway.dev/security-groups';

/** ADD of a pod whose branch has not come fails after this (ms): the plugin waits a minute. */
const BRANCH_WAIT_MS = 30_000;
/** The same once the controller has said why (ms). */
const CAUSE_WAIT_MS = 5_000;
/** A pod that the API's watch has not told of yet comes within this (ms); after it nobody knows whether it has groups. */
const UNTOLD_WAIT_MS = 2_000;

/**
 * `plain`: asks for no branch. Else the annotation, null while it is not there, that of the mode, and what keeps it
 * from its branch.
 */
export type BranchWish = 'plain' | { annotation: string | null; mode?: string; cause?: string };

export function branchWish(pod: Pod): BranchWish {
  const annotation = pod.metadata.annotations?.[POD_ENI] ?? null;
  if (annotation === null && !asksForBranch(pod)) return 'plain';
  const mode = pod.metadata.annotations?.[POD_MODE];
  const cause = annotation === null ? pod.metadata.annotations?.[POD_ENI_CAUSE] : undefined;
  return {
    annotation,
    ...(mode === undefined ? {} : { mode }),
    ...(cause === undefined ? {} : { cause }),
  };
}

type Wait = { look: () => void };

/** Judges pods that ask for no branch: pod-groups.ts. */
export type Guard = {
  /** False until the API has told the policies. */
  readonly isWhole: boolean;
  /** The namespace has policies. */
  concerns(namespace: string): boolean;
  /**
   * Throws GROUPS_NOT_INJECTED for a pod (NAMESPACE/NAME) that was to have a branch; BRANCH_PENDING while nobody knows.
   */
  check(pod: string, signal: AbortSignal): Promise<void>;
  /** The same, told to nobody. */
  trouble(pod: string, signal: AbortSignal): Promise<PodwayError | null>;
};

export type BranchPodsOptions = {
  /** Hears of each branch that the API tells, as leases may lack theirs after a lost journal. */
  onTold?: (pod: string, branch: Branch) => void;
  /** Of pods that do not say theirs. */
  mode?: BranchMode;
  /** True where pods may have branches: a pod that nobody has told of waits for the API's word. */
  isLikely?: () => boolean;
};

export class BranchPods {
  readonly #o: BranchPodsOptions;
  #wishes: ReadonlyMap<string, BranchWish> | null = null;
  #guard: Guard | null = null;
  readonly #waiting = new Set<Wait>();

  constructor(options: BranchPodsOptions = {}) {
    this.#o = options;
  }

  /** By NAMESPACE/NAME: all pods of the node. */
  note(wishes: ReadonlyMap<string, BranchWish>): void {
    this.#wishes = wishes;
    for (const [pod, wish] of wishes) if (wish !== 'plain' && wish.annotation !== null) this.#tell(pod, wish);
    this.#look();
  }

  /** Call again when its answers change. */
  noteGuard(guard: Guard): void {
    this.#guard = guard;
    this.#look();
  }

  /** False for a pod that surely has no branch and needs none: its ADD does not ask. */
  concerns(namespace: string, name: string): boolean {
    const wish = this.#wishes?.get(`${namespace}/${name}`);
    if (wish === undefined || wish === 'plain') {
      const isLikely = this.#o.isLikely?.() ?? true;
      const isGuarded = this.#guard?.isWhole ? this.#guard.concerns(namespace) : isLikely;
      return isGuarded || (wish === undefined && isLikely);
    }
    return true;
  }

  /**
   * The pod's branch and addresses; null for a pod without one. Throws BRANCH_PENDING, GROUPS_NOT_INJECTED, the
   * controller's cause, or INVALID_CONFIG for bad annotations.
   */
  async of(pod: string, signal: AbortSignal): Promise<Branch | null> {
    const wish = await this.#until(signal, UNTOLD_WAIT_MS, () => this.#wishes?.get(pod));
    if (wish === 'plain') return this.#ofPlain(pod, signal);
    if (wish === undefined)
      throw new PodwayError(
        'BRANCH_PENDING',
        'the Kubernetes API has not told whether the pod has a branch ENI: without that it could run without its groups',
        { object: pod },
      );
    const mode = this.#modeOf(pod, wish);
    const now = () => {
      const one = this.#wishes?.get(pod);
      return one === undefined || one === 'plain' ? undefined : one;
    };
    let known = await this.#until(signal, BRANCH_WAIT_MS, () => {
      const one = now();
      return one?.annotation != null || one?.cause !== undefined ? one : undefined;
    });
    // It is tried again meanwhile.
    if (known?.annotation === null)
      known =
        (await this.#until(signal, CAUSE_WAIT_MS, () => (now()?.annotation ? now() : undefined))) ?? now();
    if (known?.annotation != null) return readBranch(pod, known.annotation, mode);
    throw causeOf(pod, known?.cause);
  }

  /** What an ADD of the pod would fail with now, as far as is known; null: nothing that is of branches. */
  async trouble(pod: string, signal: AbortSignal): Promise<PodwayError | null> {
    const wish = this.#wishes?.get(pod);
    if (wish === undefined) return null;
    if (wish === 'plain') return (await this.#guard?.trouble(pod, signal)) ?? null;
    if (wish.annotation === null) return causeOf(pod, wish.cause);
    try {
      readBranch(pod, wish.annotation, this.#modeOf(pod, wish));
      return null;
    } catch (error) {
      return asPodwayError(error);
    }
  }

  async #ofPlain(pod: string, signal: AbortSignal): Promise<null> {
    const guard = await this.#until(signal, UNTOLD_WAIT_MS, () =>
      this.#guard?.isWhole ? this.#guard : undefined,
    );
    if (guard === undefined)
      throw new PodwayError(
        'BRANCH_PENDING',
        'the Kubernetes API has not told the SecurityGroupPolicies: without them the pod could run without its groups',
        { object: pod },
      );
    await guard.check(pod, signal);
    return null;
  }

  #look(): void {
    for (const { look } of this.#waiting) look();
  }

  #tell(pod: string, wish: Exclude<BranchWish, 'plain'>): void {
    let branch: Branch;
    try {
      branch = readBranch(pod, wish.annotation ?? '', this.#modeOf(pod, wish));
    } catch {
      // Its ADD says what is wrong with it.
      return;
    }
    this.#o.onTold?.(pod, branch);
  }

  /** Throws INVALID_CONFIG. */
  #modeOf(pod: string, { mode }: { mode?: string }): BranchMode {
    return readMode(pod, mode) ?? this.#o.mode ?? 'strict';
  }

  /** The first value that is there; undefined after `ms`. */
  #until<T>(signal: AbortSignal, ms: number, value: () => T | undefined): Promise<T | undefined> {
    const now = value();
    if (now !== undefined) return Promise.resolve(now);
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        clearTimeout(timer);
        this.#waiting.delete(wait);
        signal.removeEventListener('abort', aborted);
        settle();
      };
      const wait: Wait = {
        look: () => {
          const found = value();
          if (found !== undefined) end(() => resolve(found));
        },
      };
      const aborted = () => end(() => reject(signal.reason as Error));
      const timer = setTimeout(() => end(() => resolve(undefined)), ms);
      this.#waiting.add(wait);
      signal.addEventListener('abort', aborted, { once: true });
      if (signal.aborted) aborted();
    });
  }
}

export type Branch = { ref: BranchRef; ips: Ip[] };

/** What keeps a pod from its branch: the controller's words, where it has said them. */
function causeOf(pod: string, told: string | undefined): PodwayError {
  const [, code = '', text = ''] = /^([A-Z_]+): (.*)$/s.exec(told ?? '') ?? [];
  if (Object.hasOwn(causes, code)) return new PodwayError(code as Cause, text, { object: pod });
  return new PodwayError(
    'BRANCH_PENDING',
    `the pod asks for a branch ENI (${POD_ENI}), and nobody has given it one within ${BRANCH_WAIT_MS / 1000} s`,
    { object: pod },
  );
}

function readMode(pod: string, text: string | undefined): BranchMode | null {
  if (text === undefined) return null;
  const found = BRANCH_MODES.find((one) => one === text);
  if (found !== undefined) return found;
  throw new PodwayError(
    'INVALID_CONFIG',
    `the annotation ${POD_MODE} of ${pod} is ${JSON.stringify(text)}, not ${BRANCH_MODES.join(' or ')}`,
    { object: pod },
  );
}

/** Of the first interface that the annotation lists. Throws INVALID_CONFIG. */
export function readBranch(pod: string, text: string, mode?: BranchMode): Branch {
  const { eniId, mac, vlanId, ip, ip6, subnet, subnet6, associationId } = readFirst(pod, text);
  return {
    ips: [ip, ip6].filter((one) => one !== null),
    ref: {
      ...{ id: eniId, mac, vlan: vlanId },
      // Of an IPv6-only subnet there is no other.
      subnetCidr: formatCidr((subnet ?? subnet6)!),
      ...(associationId === '' ? {} : { associationId }),
      ...(mode === undefined ? {} : { mode }),
    },
  };
}

function readFirst(pod: string, text: string): PodEni {
  try {
    const first = decodePodEnis(text)[0]!;
    if (first.subnet === null && first.subnet6 === null)
      throw new TypeError(`the annotation ${POD_ENI} [0] has neither subnetCidr nor subnetV6Cidr`);
    return first;
  } catch (error) {
    const message = `${pod}: ${(error as Error).message}`;
    throw new PodwayError('INVALID_CONFIG', message, { object: pod }, { cause: error });
  }
}
