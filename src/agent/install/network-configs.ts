// The host's network configs as a runtime sees them: ours as text, and those of others, which would win over ours (they
// sort before it) or lose. Runtimes use the first file in lexical order (containerd: max_conf_num 1). Pure but for reading.
import { join } from 'node:path';
import { conflist, PLUGIN_TYPE, parseChain } from '../../cni/conflist.ts';
import type { ChainedPlugin } from '../config.ts';
import { bytesOf, namesIn } from './place.ts';

/** Sorts before a left-over 10-aws.conflist, which `10-podway` would not. */
export const CONFLIST = '05-podway.conflist';
export const PLUGIN = PLUGIN_TYPE;

/** `versions`: what all chained plugins speak (src/cni/conflist.ts); absent: not asked yet. */
export const conflistText = (
  agentSocket: string,
  chain: readonly ChainedPlugin[],
  versions?: readonly string[],
): string =>
  `${JSON.stringify(
    conflist({ agentSocket, chain: parseChain(chain.join()), ...(versions ? { versions } : {}) }),
    null,
    2,
  )}\n`;

export type OtherConfig = {
  file: string;
  network: string | null;
  plugins: string[];
  /** Sorts before ours, so a runtime takes it instead. */
  wins: boolean;
  /** Why it is no config; null for a good one. Runtimes pass over it. */
  damaged: string | null;
};

const LOADED = /\.(conf|conflist|json)$/;

/** Others' configs in the host's directory, in the order in which a runtime looks at them. */
export function otherConfigs(dir: string, own = CONFLIST): OtherConfig[] {
  return namesIn(dir)
    .filter((name) => LOADED.test(name) && name !== own)
    .flatMap((name) => {
      const bytes = bytesOf(join(dir, name));
      return bytes === null ? [] : [{ file: name, wins: name < own, ...readConfig(bytes.toString('utf8')) }];
    });
}

function readConfig(text: string): Pick<OtherConfig, 'network' | 'plugins' | 'damaged'> {
  try {
    const { name, type, plugins } = JSON.parse(text) as Record<string, unknown>;
    const types = Array.isArray(plugins) ? plugins.map((one) => (one as { type?: unknown })?.type) : [type];
    const known = types.filter((one) => typeof one === 'string');
    const damaged = known.length > 0 ? null : 'it names no plugin';
    return { network: typeof name === 'string' ? name : null, plugins: known, damaged };
  } catch (error) {
    return { network: null, plugins: [], damaged: (error as Error).message };
  }
}

/** One sentence for people. `dir` is the host's own name of the directory. */
export function otherText(dir: string, { file, network, plugins, wins, damaged }: OtherConfig): string {
  const what = `${join(dir, file)} (${damaged ?? `network ${network ?? 'without a name'}, ${plugins.join(' and ')}`})`;
  if (damaged) return `${what} is no network config: runtimes pass over it`;
  return wins
    ? `${what} sorts before ${CONFLIST}: the runtime uses it, and new pods get no address of Podway`
    : `${what} sorts behind ${CONFLIST}: the runtime does not use it; pods that it made keep their network until they end`;
}
