// Runs ADD and DEL against stand-ins when the agent has started, so that the first pods do not wait for compilation.
// It runs the whole path: a socket, the decoder, the verbs, a pool, the wiring. Invariant: nothing of the node changes.
// The socket, the pool (of documentation addresses) with its journal, the sandbox and the metrics are its own and are
// removed with it; its kernel accepts everything and does nothing. It yields to every real request, and is bounded.
// A failure is logged at debug and does not affect the agent.
import { mkdirSync, rmSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { type Cidr, hostCidr, type Ip, parseCidr, parseIp, parseIpv4 } from '../base/ip.ts';
import { Journal } from '../base/journal.ts';
import type { Log } from '../base/log.ts';
import { parseMac } from '../base/mac.ts';
import type { NodeIdentity } from '../cloud/imds.ts';
import type { InstanceLimits } from '../cloud/limits.ts';
import type { Cloud, EniId } from '../cloud/port.ts';
import { decodeAnswer, encodeRequest } from '../cni/wire.ts';
import { slotKey } from '../datapath/marks.ts';
import { type Doors, emptyMemory } from '../datapath/memory.ts';
import { cutPod, wirePod } from '../datapath/wire.ts';
import { eniRecord, nodeRecord, type PoolJournal, type PoolRecord } from '../ipam/journal/records.ts';
import { AddressPool } from '../ipam/pool.ts';
import { type Block, type Eni, newBlock } from '../ipam/state.ts';
import { AgreeingKernel } from '../kernel/agreeing.ts';
import { createAnonymousNetns, type Netns } from '../kernel/netns.ts';
import { NfNetlink } from '../kernel/nfnetlink.ts';
import { RtNetlink } from '../kernel/rtnetlink.ts';
import { Attachments } from './attachments.ts';
import { createCniHandler } from './cni-handler.ts';
import { serveCni } from './cni-server.ts';
import { createMetrics } from './metrics.ts';
import type { Load } from './parts.ts';

/** Pairs of ADD and DEL; after these the hot paths are compiled. */
const ROUNDS = 30;
/** Between two looks at whether requests have stopped coming (ms), and how often it looks before it gives up. */
const QUIET_MS = 100;
const MAX_LOOKS = 100;

/** TEST-NET-1 (RFC 5737), which no node has. */
const SUBNET = parseCidr('192.0.2.0/24');
const ADDRESSES = 16;

const IDENTITY: NodeIdentity = {
  instanceId: 'i-rehearsal',
  instanceType: 'rehearsal',
  region: '',
  zone: '',
  vpcId: '',
  primary: {
    eniId: 'eni-rehearsal' as EniId,
    mac: parseMac('02:00:00:00:00:02'),
    subnetId: '',
    ip: parseIpv4('192.0.2.4'),
  },
};

const LIMITS: InstanceLimits = {
  instanceType: IDENTITY.instanceType,
  enis: 1,
  ipv4PerEni: ADDRESSES + 1,
  ipv6PerEni: 0,
  defaultCard: 0,
  networkCards: [],
  pods: ADDRESSES,
  prefixes: false,
  branchEnis: 0,
};

/** One ENI with free addresses. */
function scratchEni(): Eni {
  const cidrs = Array.from({ length: ADDRESSES }, (_, i) => hostCidr(parseIp(`192.0.2.${i + 10}`)));
  const block = (cidr: Cidr): [Ip, Block] => [cidr.ip, newBlock(cidr, 0)];
  const { eniId, mac, subnetId, ip } = IDENTITY.primary;
  return {
    id: eniId,
    mac,
    subnetId,
    subnetCidr: SUBNET,
    primaryIp: ip,
    primary: true,
    deviceIndex: 0,
    networkCard: 0,
    groupIds: [],
    interfaceType: 'interface',
    attachmentId: null,
    deleteOnTermination: false,
    phase: 'attached',
    since: 0,
    settledAt: 0,
    unsettled: null,
    missingSince: null,
    blocks: new Map(cidrs.map(block)),
    returned: new Map(),
  };
}

const agreeingRt = (): RtNetlink => RtNetlink.over(new AgreeingKernel());

/** A journal that names the ENI, like the journal of an earlier start. */
function scratchJournal(path: string): Journal<PoolRecord> {
  const first = Journal.open<PoolRecord>(path);
  first.appendSync(nodeRecord(IDENTITY), eniRecord(scratchEni()));
  first.close();
  return Journal.open<PoolRecord>(path);
}

/** The agent's Attachments, over the rehearsal's pool and kernel. */
function scratchAttachments(node: Netns, cloud: Cloud, journal: PoolJournal): Attachments {
  const pool = new AddressPool({
    // Never called: the pool's loop is not started.
    cloud,
    journal,
    identity: IDENTITY,
    limits: LIMITS,
    nodeName: IDENTITY.instanceId,
    settings: { warm: 0, cooldownMs: 0, idleReleaseMs: 0 },
  });
  pool.noteTold(pool.enis());
  const doors: Doors = {
    netns: node,
    rt: agreeingRt(),
    nf: NfNetlink.over(new AgreeingKernel()),
    openPod: (pod) => {
      RtNetlink.openBriefly(pod).close();
      return agreeingRt();
    },
  };
  const memory = emptyMemory();
  memory.ready.add(slotKey({ deviceIndex: 0, networkCard: 0 }));
  return new Attachments({
    pool,
    datapath: {
      wirePod: (wiring) => wirePod(doors, memory, wiring),
      cutPod: (target) => cutPod(doors, memory, target, 0),
      checkPod: () => [],
      reapLinks: async () => memory.cut.clear(),
      repair: () => Promise.reject(new Error('there is nothing to repair')),
    },
    ownNetns: node,
    defaultMtu: () => 9001,
  });
}

const CONFIG = JSON.stringify({ cniVersion: '1.0.0', name: 'rehearsal', type: 'podway-cni' });

export class Rehearsal {
  /** Directory of the socket and the journal; removed with the rehearsal. */
  readonly #dir: string;
  readonly #sandbox: Netns;
  readonly #log: Log;
  #journal: Journal<PoolRecord> | undefined;
  #server: Server | undefined;
  /** Rounds begun so far. */
  rounds = 0;

  private constructor(runDir: string, log: Log) {
    this.#dir = join(runDir, 'scratch');
    this.#sandbox = createAnonymousNetns();
    this.#log = log;
  }

  /** Null when it cannot be. */
  static async open(runDir: string, node: Netns, cloud: Cloud, log: Log): Promise<Rehearsal | null> {
    let rehearsal: Rehearsal | undefined;
    try {
      rehearsal = new Rehearsal(runDir, log);
      await rehearsal.#listen(node, cloud);
      return rehearsal;
    } catch (error) {
      rehearsal?.close();
      log.debug({ error: String(error) }, 'there is no rehearsal');
      return null;
    }
  }

  async #listen(node: Netns, cloud: Cloud): Promise<void> {
    rmSync(this.#dir, { recursive: true, force: true });
    mkdirSync(this.#dir, { mode: 0o700 });
    this.#journal = scratchJournal(join(this.#dir, 'journal'));
    const attachments = scratchAttachments(node, cloud, this.#journal);
    const handler = createCniHandler({
      attachments: () => attachments,
      metrics: createMetrics(),
      now: () => systemClock.now(),
      status: () => null,
      onAdd: () => {},
      onFailure: (verb, error) => this.#log.debug({ verb, error: error.message }, 'the rehearsal failed'),
    });
    this.#server = await serveCni(this.#socket, handler);
  }

  /** A path no longer than the agent's own socket path: the kernel takes 107 bytes. */
  get #socket(): string {
    return join(this.#dir, 's');
  }

  /** Plays up to `rounds` rounds; false when one failed. */
  async play(rounds: number): Promise<boolean> {
    try {
      for (let i = 0; i < rounds; i++) {
        const id = `rehearsal-${this.rounds++}`;
        await this.#call('ADD', id);
        await this.#call('DEL', id);
      }
      return true;
    } catch (error) {
      this.#log.debug({ error: String(error) }, 'the rehearsal ends early');
      return false;
    }
  }

  /** Plays the remaining rounds one by one while no requests come, then closes. */
  async finish(load: Pick<Load, 'adds' | 'requests'>, signal: AbortSignal): Promise<void> {
    let seen = load.requests;
    for (let looks = 0; looks < MAX_LOOKS && this.rounds + load.requests < ROUNDS && !signal.aborted; ) {
      if (load.adds === 0 && load.requests === seen) {
        if (!(await this.play(1))) break;
        continue;
      }
      seen = load.requests;
      looks++;
      await systemClock.sleep(QUIET_MS, signal).catch(() => undefined);
    }
    this.close();
    this.#log.debug({ rounds: this.rounds }, 'rehearsed');
  }

  /** May be called more than once. */
  close(): void {
    this.#server?.close();
    this.#journal?.close();
    this.#sandbox.close();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #call(verb: 'ADD' | 'DEL', containerId: string): Promise<void> {
    const request = encodeRequest(
      [
        ['CNI_COMMAND', verb],
        ['CNI_CONTAINERID', containerId],
        ['CNI_NETNS', `/proc/self/fd/${this.#sandbox.fd}`],
        ['CNI_IFNAME', 'eth0'],
        ['CNI_ARGS', `IgnoreUnknown=1;K8S_POD_NAMESPACE=rehearsal;K8S_POD_NAME=${containerId}`],
        ['CNI_PATH', '/opt/cni/bin'],
      ],
      CONFIG,
    );
    return new Promise((resolve, reject) => {
      const pieces: Buffer[] = [];
      const socket = connect(this.#socket, () => socket.write(request));
      socket.on('data', (piece: Buffer) => pieces.push(piece));
      socket.once('error', reject);
      socket.once('close', () => {
        const answer = Buffer.concat(pieces);
        try {
          if (decodeAnswer(answer).exit === 0) resolve();
          else reject(new Error(`${verb} answered ${answer.toString()}`));
        } catch (error) {
          reject(error);
        }
      });
    });
  }
}
