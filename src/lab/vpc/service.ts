// Runs the VPC: takes an action, applies it to a draft of the state, stores the draft, notifies the fabric, answers.
// One action is decided and stored at a time (both are synchronous); what waits is only the telling. State is on disk
// before anybody hears of it. Fails with Ec2Error; a fabric that does not follow makes the answer an InternalError.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { type Clock, systemClock } from '../../base/clock.ts';
import { parseCidr } from '../../base/ip.ts';
import { honoured } from './actions/honoured.ts';
import { hasMeaning, meanings } from './actions/index.ts';
import type { ActionName, Answer, Input } from './actions/types.ts';
import { authorize } from './authorize.ts';
import {
  type Caller,
  type Context,
  Draft,
  type LabState,
  type Latencies,
  noLatency,
  realisticLatency,
} from './context.ts';
import { Ec2Error } from './errors.ts';
import { drawLatencies, type FaultSettings, Faults, noLag } from './faults/index.ts';
import { type AnyHonours, refuseRest } from './honours.ts';
import { createImds, type ImdsCaller } from './imds.ts';
import { type KeyRing, type Keys, openKeyRing } from './keys.ts';
import type { TypeOverride } from './limits.ts';
import type { Instance, VpcState } from './model.ts';
import { nextDue, settle } from './settle.ts';
import { type StoredToken, VpcStore } from './store.ts';
import { TokenBook } from './tokens.ts';
import { createEc2Handler } from './wire/http.ts';

export type VpcSettings = FaultSettings & {
  /**
   * `none`: changes are done when the action answers. `realistic`: answers and changes take times like AWS's, drawn by the
   * seed; what the lab does itself takes the middle ones. Or each one in ms.
   */
  ec2Latency: 'none' | 'realistic' | Latencies;
  /** Where public addresses come from; by default the block that RFC 2544 keeps off the Internet. */
  publicPool: string;
  roleName: string;
  /** What an instance's role may do: action names, `Describe*` for all that begin so, or `all`. */
  roleActions: 'all' | readonly string[];
  /** Milliseconds that an instance's credentials last. */
  roleCredentialsMs: number;
};

export const defaultSettings: VpcSettings = {
  ec2Latency: 'none',
  ec2Throttle: 'none',
  ec2ConsistencyMs: 0,
  imdsLag: noLag,
  ec2Seed: 1,
  publicPool: '198.18.0.0/15',
  roleName: 'podway-node',
  // What a node's CNI needs (the managed policy AmazonEKS_CNI_Policy and its IPv6 twin), and reading.
  roleActions: [
    'Describe*',
    'AssignPrivateIpAddresses',
    'UnassignPrivateIpAddresses',
    'AssignIpv6Addresses',
    'UnassignIpv6Addresses',
    'CreateNetworkInterface',
    'AttachNetworkInterface',
    'DetachNetworkInterface',
    'DeleteNetworkInterface',
    'ModifyNetworkInterfaceAttribute',
    'CreateTags',
  ],
  roleCredentialsMs: 6 * 3_600_000,
};

/** `before` is absent for a new instance, `after` for one that is no longer shown. A reboot changes `rebootedAt`. */
export type InstanceChange = { before?: Instance; after?: Instance };
/** `own`: of the lab itself. */
type ActionCall = { action: string; input: object; caller: Caller; own: boolean };
/** A past state and its time. */
type Past = { state: LabState; now: number };
export type VpcLog = { warn(fields: object, text: string): void; error(fields: object, text: string): void };

export type VpcOptions = {
  dir: string;
  region: string;
  zones: string[];
  typeOverrides?: Record<string, TypeOverride>;
  settings?: Partial<VpcSettings>;
  clock?: Clock;
  log?: VpcLog;
};

export type VpcService = {
  state(): VpcState;
  /** May be changed at any time; the next action sees it. */
  readonly settings: VpcSettings;
  /** Throttling, faults and the log of calls. */
  readonly faults: Faults;
  keys(): Keys;
  /**
   * An action in the process, by the SDK's input. Without a caller it is the lab's own: under its own key, and never
   * throttled, failed or logged.
   */
  act<A extends ActionName>(action: A, input: Input<A>, caller?: Caller): Promise<Answer<A>>;
  /** The same for an action known only by name. */
  actByName(action: string, input: object, caller: Caller): Promise<object>;
  ec2Handler(request: IncomingMessage, response: ServerResponse): Promise<void>;
  imdsHandler(request: IncomingMessage, response: ServerResponse, caller: ImdsCaller): Promise<void>;
  /** Called with each new state and awaited before an action answers. */
  onChange(callback: (state: VpcState) => Promise<void> | void): void;
  /**
   * Called with each instance that changed its state, and awaited: before onChange for one that stops, reboots or goes,
   * after it for one that comes or starts.
   */
  onInstanceChange(callback: (change: InstanceChange) => Promise<void> | void): void;
  close(): void;
};

export function openVpc(options: VpcOptions): VpcService {
  mkdirSync(options.dir, { recursive: true, mode: 0o700 });
  return new Service(options);
}

class Service implements VpcService {
  readonly settings: VpcSettings;
  readonly #clock: Clock;
  readonly #log: VpcLog;
  readonly #store: VpcStore;
  readonly #ring: KeyRing;
  readonly #tokens: TokenBook;
  readonly faults: Faults;
  #latenciesDrawn = 0;
  readonly #changeCallbacks: ((state: VpcState) => Promise<void> | void)[] = [];
  readonly #instanceCallbacks: ((change: InstanceChange) => Promise<void> | void)[] = [];
  readonly #stop = new AbortController();
  #state: LabState;
  #wake = new AbortController();
  readonly ec2Handler: VpcService['ec2Handler'];
  readonly imdsHandler: VpcService['imdsHandler'];

  constructor(options: VpcOptions) {
    this.settings = { ...defaultSettings, ...options.settings };
    this.#clock = options.clock ?? systemClock;
    this.#log = options.log ?? { warn: () => {}, error: () => {} };
    const keys = join(options.dir, 'keys.json');
    this.#store = new VpcStore(join(options.dir, 'vpc.sqlite'), existsSync(keys));
    this.#state = this.#store.load(options.region, options.zones);
    this.#state.typeOverrides = options.typeOverrides ?? {};
    this.faults = new Faults({
      dir: options.dir,
      clock: this.#clock,
      settings: this.settings,
      state: () => this.#state,
      signal: this.#stop.signal,
    });
    this.faults.note(this.#state);
    this.#tokens = new TokenBook(this.#store.tokens());
    this.#ring = openKeyRing(keys, this.#state.accountId, this.settings.roleName);
    this.ec2Handler = createEc2Handler({
      region: () => this.#state.region,
      accountId: () => this.#state.accountId,
      now: () => this.#clock.now(),
      resolve: (key, token) => this.#ring.resolve(key, token, this.#clock.now(), (id) => this.#isAlive(id)),
      supports: (action) => {
        if (!hasMeaning(action)) throw unsupported(action);
      },
      act: (action, input, caller) => this.actByName(action, input, caller),
      log: this.#log,
    });
    const imds = createImds({
      state: () => this.#state,
      now: () => this.#clock.now(),
      roleName: () => this.settings.roleName,
      sign: (text) => this.#ring.sign(text),
      credentials: (id) => this.#ring.roleCredentials(id, this.settings.roleCredentialsMs, this.#clock.now()),
    });
    this.imdsHandler = (request, response, caller) => {
      const answers = imds(request, response, caller);
      return this.faults.imds(request, response, caller.instanceId, answers.answer, answers.plain);
    };
    void this.#comeTrueInTime();
  }

  state(): VpcState {
    return this.#state;
  }

  keys(): Keys {
    return this.#ring.keys;
  }

  onChange(callback: (state: VpcState) => Promise<void> | void): void {
    this.#changeCallbacks.push(callback);
  }

  onInstanceChange(callback: (change: InstanceChange) => Promise<void> | void): void {
    this.#instanceCallbacks.push(callback);
  }

  async act<A extends ActionName>(action: A, input: Input<A>, caller?: Caller): Promise<Answer<A>> {
    // Each meaning answers with its own action's type; the table is checked by that.
    const call = { action, input, caller: caller ?? this.#admin(), own: caller === undefined };
    return (await this.#act(call)) as Answer<A>;
  }

  actByName(action: string, input: object, caller: Caller): Promise<object> {
    return this.#act({ action, input, caller, own: false });
  }

  #act(call: ActionCall): Promise<object> {
    return this.faults.around(call, (past) => this.#run(call, past));
  }

  close(): void {
    this.#stop.abort();
    this.#wake.abort();
    this.#store.close();
    this.faults.close();
  }

  async #run({ action, input, caller, own }: ActionCall, past?: Past): Promise<object> {
    if (this.#stop.signal.aborted) throw new Ec2Error('Unavailable', 'The lab is going down.');
    if (!hasMeaning(action)) throw unsupported(action);
    authorize(caller, action, this.settings.roleActions);
    // The table has a row of its own type for each action; which one is known only by its name here.
    refuseRest(action, input, honoured[action] as AnyHonours);
    const now = past?.now ?? this.#clock.now();
    const draft = new Draft(past?.state ?? this.#state);
    const ctx = this.#context(draft, caller, now, own);
    settle(ctx);
    const isDryRun = (input as { DryRun?: boolean }).DryRun ?? false;
    const { answer, token } = this.#tokens.answer(action, input, caller, now, () => {
      try {
        // The table holds each action's meaning under its name; input was decoded or typed for that name.
        return (meanings[action] as (ctx: Context, input: object) => object)(ctx, input);
      } catch (error) {
        // A dry run asks whether one may, not whether the object is in the right state.
        if (isDryRun && error instanceof Ec2Error && OF_STATE.has(error.code)) return {};
        throw error;
      }
    });
    if (isDryRun) {
      throw new Ec2Error('DryRunOperation', 'Request would have succeeded, but DryRun flag is set.');
    }
    // What a past state said changes nothing.
    if (past) return answer;
    // What takes no time is true when the action answers.
    settle(ctx);
    await this.#commit(draft, token);
    return answer;
  }

  async #commit(draft: Draft, token?: StoredToken): Promise<void> {
    const { before } = draft;
    this.#store.save(draft, token, token ? this.#tokens.keep(token) : []);
    this.#state = draft.state;
    if (draft.changed.size === 0) return;
    this.faults.note(draft.state);
    if (draft.changed.has('transitions')) this.#wake.abort();
    await this.#tell(before, draft.state);
  }

  async #tell(before: LabState, after: LabState): Promise<void> {
    const changes = instanceChanges(before, after);
    // Who stops hears it while the links are still there; who starts, when they are.
    await this.#tellOf(changes.filter((change) => !isUp(change)));
    // The newest state, not this action's: a later one may have been stored meanwhile.
    await Promise.all(this.#changeCallbacks.map(async (callback) => callback(this.#state)));
    await this.#tellOf(changes.filter(isUp));
  }

  async #tellOf(changes: readonly InstanceChange[]): Promise<void> {
    for (const change of changes) for (const callback of this.#instanceCallbacks) await callback(change);
  }

  #latencies(own: boolean): Latencies {
    const { ec2Latency, ec2Seed } = this.settings;
    if (ec2Latency === 'none') return noLatency;
    if (ec2Latency !== 'realistic') return ec2Latency;
    return own ? realisticLatency : drawLatencies(ec2Seed, this.#latenciesDrawn++);
  }

  #context(draft: Draft, caller: Caller, now: number, own: boolean): Context {
    const { publicPool, roleName } = this.settings;
    const latencies = this.#latencies(own);
    return {
      draft,
      caller,
      now,
      latencies,
      publicPool: parseCidr(publicPool),
      roleName,
      random: (bytes) => randomBytes(bytes),
    };
  }

  #admin(): Caller {
    return this.#ring.resolve(this.#ring.keys.accessKeyId, undefined, this.#clock.now(), () => true).caller;
  }

  #isAlive(instanceId: string): boolean {
    const instance = this.#state.instances[instanceId];
    return instance !== undefined && instance.state !== 'terminated';
  }

  /** Waits for the next transition or for a change of its time; ends with close(). */
  async #comeTrueInTime(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.#wake = new AbortController();
      const due = nextDue(this.#state);
      // With nothing due, wait for the wake alone: an hour is the time after which terminated instances go.
      const wait = due === undefined ? 3_600_000 : Math.max(0, due - this.#clock.now());
      await this.#clock.sleep(wait, this.#wake.signal).catch(() => {});
      if (this.#stop.signal.aborted) return;
      try {
        const draft = new Draft(this.#state);
        settle(this.#context(draft, this.#admin(), this.#clock.now(), true));
        await this.#commit(draft);
      } catch (error) {
        this.#log.error({ err: error }, 'a change that was due failed');
        await this.#clock.sleep(1000, this.#stop.signal).catch(() => {});
      }
    }
  }
}

/** Codes that speak of the state an object is in. */
const OF_STATE: ReadonlySet<string> = new Set(['IncorrectInstanceState', 'IncorrectState']);

const isUp = ({ before, after }: InstanceChange): boolean =>
  (after?.state === 'pending' || after?.state === 'running') && before?.rebootedAt === after.rebootedAt;

const unsupported = (action: string): Ec2Error =>
  new Ec2Error('UnsupportedOperation', `The action ${action} has no meaning in this VPC yet.`);

function instanceChanges(before: LabState, after: LabState): InstanceChange[] {
  if (before.instances === after.instances) return [];
  const changes: InstanceChange[] = [];
  for (const id of new Set([...Object.keys(before.instances), ...Object.keys(after.instances)])) {
    const old = before.instances[id];
    const now = after.instances[id];
    if (old?.state === now?.state && old?.rebootedAt === now?.rebootedAt) continue;
    changes.push({ ...(old ? { before: old } : {}), ...(now ? { after: now } : {}) });
  }
  return changes;
}
