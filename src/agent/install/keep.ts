// Keeps plugin and conflist on the host. The plugin is installed at once, the conflist when the node can serve for the
// first time; from then on both stay, also over an agent that cannot serve or is replaced: a runtime without a config
// could remove no sandbox. Damaged or deleted, they are written again and told. Other networks' configs are told and
// never touched. Never throws.
import { existsSync, type FSWatcher, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../../base/clock.ts';
import { asPodwayError, PodwayError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { parseChain } from '../../cni/conflist.ts';
import { LATEST_VERSION } from '../../cni/versions.ts';
import type { AgentConfig, ChainedPlugin, InstallConfig } from '../config.ts';
import type { Parts } from '../parts.ts';
import { CNI_SOCKET } from '../sockets.ts';
import {
  CONFLIST,
  conflistText,
  type OtherConfig,
  otherConfigs,
  otherText,
  PLUGIN,
} from './network-configs.ts';
import { bytesOf, placeFile, stampOf } from './place.ts';
import { packagedPlugin } from './plugin.ts';

/** Between two looks (ms) while something is lacking, and at rest; a change of the directory is seen at once. */
const SOON_MS = 2_000;
const REST_MS = 30_000;
/** Several changes of the directory in this time (ms) are one. */
const SETTLE_MS = 100;

/** Where the host has it: hostPort without portmap has no effect, and nothing says so. */
const CHAIN_BY_ITSELF: readonly ChainedPlugin[] = ['portmap'];

/** What `podway status` and `doctor` say of the host. */
export type HostView = {
  binDir: string;
  confDir: string;
  plugin: 'installed' | 'missing';
  conflist: 'installed' | 'waiting' | 'missing';
  chain: string[];
  /** Why something is not installed; null when all is. */
  error: { code: string; message: string; next?: string } | null;
  others: (OtherConfig & { text: string })[];
};

type Needs = Pick<Parts, 'events'> & {
  log: Log;
  config: Pick<AgentConfig, 'runDir'>;
};

/** The host's own name of a directory that is mounted below /host. */
export const hostName = (dir: string): string => dir.replace(/^\/host(?=\/)/, '');

export class Installation {
  readonly #o: Needs;
  readonly #install: InstallConfig;
  readonly #canServe: () => boolean;
  readonly #plugin: string;
  readonly #conflist: string;
  /** By path: the stamp of a file whose bytes are right. */
  readonly #good = new Map<string, string>();
  /** Both were right at the last look. */
  #isWhole = false;
  #error: PodwayError | null = null;
  #chain: readonly ChainedPlugin[] = [];
  /** Spoken by all of the chain; undefined before the first answer. */
  #versions: readonly string[] | undefined;
  #asked = '';
  #others: OtherConfig[] = [];
  #told = '';

  constructor(needs: Needs, install: InstallConfig, canServe: () => boolean) {
    this.#o = needs;
    this.#install = install;
    this.#canServe = canServe;
    this.#plugin = join(install.hostBinDir, PLUGIN);
    this.#conflist = join(install.hostConfDir, CONFLIST);
    // Found, it was written: it stays.
    this.#wasWritten = existsSync(this.#conflist) || existsSync(this.#marker);
  }

  #wasWritten: boolean;

  /** In the run directory: the conflist was written in this boot. */
  get #marker(): string {
    return join(this.#o.config.runDir, 'installed');
  }

  /** Looks until `signal` aborts, at once when the directory of configs changes. */
  async keep(signal: AbortSignal): Promise<void> {
    let watcher: FSWatcher | null = null;
    let wake = new AbortController();
    const stop = () => wake.abort();
    signal.addEventListener('abort', stop, { once: true });
    while (!signal.aborted) {
      if (this.#stamps() !== this.#asked) await this.#askVersions();
      this.look();
      watcher ??= this.#watch(() => wake.abort());
      const pause = this.#isWhole ? REST_MS : SOON_MS;
      await systemClock.sleep(pause, AbortSignal.any([signal, wake.signal])).catch(() => undefined);
      if (wake.signal.aborted && !signal.aborted) {
        wake = new AbortController();
        await systemClock.sleep(SETTLE_MS, signal).catch(() => undefined);
      }
    }
    signal.removeEventListener('abort', stop);
    watcher?.close();
  }

  /** Null while the directory does not exist. */
  #watch(onChange: () => void): FSWatcher | null {
    try {
      return watch(this.#install.hostConfDir, onChange).on('error', () => undefined);
    } catch {
      return null;
    }
  }

  look(): void {
    try {
      this.#others = otherConfigs(this.#install.hostConfDir);
      this.#tellOthers();
      this.#keepPlugin();
      this.#keepConflist();
      this.#error = null;
    } catch (thrown) {
      const error = asPodwayError(thrown);
      if (this.#error?.message !== error.message) {
        this.#o.log.error({ cause: error.code }, error.message);
        this.#o.events.node('Warning', 'InstallFailed', `${error.code}: ${error.message}`);
      }
      this.#error = error;
      this.#isWhole = false;
    }
  }

  view(): HostView {
    const { hostBinDir, hostConfDir } = this.#install;
    const dir = hostName(hostConfDir);
    return {
      binDir: hostName(hostBinDir),
      confDir: dir,
      plugin: this.#good.has(this.#plugin) ? 'installed' : 'missing',
      conflist: this.#good.has(this.#conflist) ? 'installed' : this.#wasWritten ? 'missing' : 'waiting',
      chain: [...this.#chain],
      error: this.#error && {
        code: this.#error.code,
        message: this.#error.message,
        ...(this.#error.details.next === undefined ? {} : { next: this.#error.details.next }),
      },
      others: this.#others.map((one) => ({ ...one, text: otherText(dir, one) })),
    };
  }

  /** Of the programs that are there. */
  #stamps(): string {
    const { chain = CHAIN_BY_ITSELF, hostBinDir } = this.#install;
    return chain.map((name) => stampOf(join(hostBinDir, name)) ?? '').join();
  }

  /**
   * A list offers what all its plugins speak: an older portmap, as Debian 12's, would refuse each ADD at 1.1.0. Asked of
   * the programs themselves when they change. Below 1.1.0 the runtime asks no STATUS, which is told.
   */
  async #askVersions(): Promise<void> {
    const { chain = CHAIN_BY_ITSELF, hostBinDir } = this.#install;
    const stamps = this.#stamps();
    const { chainedPlugins } = await import('../../cni/runtime/chained.ts');
    const found = await chainedPlugins(parseChain(chain.join()), { binDirs: [hostBinDir] });
    this.#asked = stamps;
    if (this.#versions?.join() !== found.versions.join()) this.#good.delete(this.#conflist);
    this.#versions = found.versions;
    const names = found.chain.map(({ type }) => type).join(' and ');
    if (!found.versions.includes(LATEST_VERSION))
      this.#o.log.warn(
        { versions: found.versions },
        `${names} of ${hostName(hostBinDir)} do not speak CNI ${LATEST_VERSION}: runtimes will not ask STATUS and GC (containernetworking-plugins 1.6 do)`,
      );
  }

  #tellOthers(): void {
    const { log, events } = this.#o;
    const dir = hostName(this.#install.hostConfDir);
    const text = this.#others.map((one) => otherText(dir, one));
    if (text.join() === this.#told) return;
    const before = this.#told;
    this.#told = text.join();
    if (text.length === 0 && before !== '') log.info({}, 'the node has no other network config any more');
    for (const [at, one] of this.#others.entries()) {
      if (before.includes(text[at]!)) continue;
      log.warn({ file: one.file, wins: one.wins }, text[at]!);
      events.node('Warning', 'OtherNetworkConfig', text[at]!);
    }
  }

  #keepPlugin(): void {
    if (this.#good.get(this.#plugin) === stampOf(this.#plugin)) return;
    const source = this.#install.plugin ?? packagedPlugin();
    const wanted = bytesOf(source);
    if (wanted === null)
      throw new PodwayError('PLUGIN_MISSING', `there is no ${source} to install`, { object: source });
    const mode = statSync(this.#plugin, { throwIfNoEntry: false })?.mode ?? 0;
    const found = bytesOf(this.#plugin);
    if (!found?.equals(wanted) || (mode & 0o111) === 0) {
      placeFile(this.#plugin, wanted, 0o755);
      this.#tellWritten('PluginRestored', this.#plugin, found === null ? 'was gone' : 'was another');
    }
    this.#good.set(this.#plugin, stampOf(this.#plugin)!);
  }

  #keepConflist(): void {
    this.#isWhole = false;
    if (!this.#wasWritten && !this.#canServe()) return;
    const chain = this.#chainNow();
    if (chain.join() !== this.#chain.join()) this.#good.delete(this.#conflist);
    this.#chain = chain;
    if (this.#good.get(this.#conflist) !== stampOf(this.#conflist)) {
      const { runDir } = this.#o.config;
      const wanted = Buffer.from(conflistText(join(runDir, CNI_SOCKET), chain, this.#versions));
      const found = bytesOf(this.#conflist);
      if (!found?.equals(wanted)) {
        placeFile(this.#marker, Buffer.from(`${this.#conflist}\n`), 0o600);
        placeFile(this.#conflist, wanted, 0o644);
        if (this.#wasWritten)
          this.#tellWritten(
            'ConflistRestored',
            this.#conflist,
            found === null ? 'was gone' : 'said otherwise',
          );
        else
          this.#o.log.info(
            { file: hostName(this.#conflist) },
            'wrote the conflist: the node takes pods from now on',
          );
        this.#wasWritten = true;
      }
      this.#good.set(this.#conflist, stampOf(this.#conflist)!);
    }
    this.#isWhole = true;
  }

  /** Throws PLUGIN_MISSING for one that was asked for. */
  #chainNow(): readonly ChainedPlugin[] {
    const { chain, hostBinDir } = this.#install;
    if (chain === undefined) return CHAIN_BY_ITSELF.filter((name) => existsSync(join(hostBinDir, name)));
    const missing = chain.find((name) => !existsSync(join(hostBinDir, name)));
    if (missing !== undefined) {
      const dir = hostName(hostBinDir);
      throw new PodwayError('PLUGIN_MISSING', `${dir} has no ${missing}, which the conflist is to chain`, {
        object: missing,
      });
    }
    return chain;
  }

  /** An Event only for what was right before in this agent's life; at its start an upgrade is the usual reason. */
  #tellWritten(reason: string, path: string, why: string): void {
    // At an agent's start the file is new, or of another version.
    if (!this.#good.has(path)) {
      this.#o.log.info({}, `installed ${hostName(path)}: it ${why}`);
      return;
    }
    const text = `wrote ${hostName(path)} again: it ${why}`;
    this.#o.log.warn({}, text);
    this.#o.events.node('Warning', reason, text);
  }
}
