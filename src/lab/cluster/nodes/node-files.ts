// The folder of a node: CNI conf dir, bin dir and result cache, the agent's config, its run directory. Written again at
// every start, so that a changed setting or path reaches the node; the conflist comes last, atomically.
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { conflist, type PluginEntry } from '../../../cni/conflist.ts';
import { type Chained, chainedPlugins } from '../../../cni/runtime/chained.ts';
import { findPlugin } from '../../../cni/runtime/index.ts';
import { LabError } from '../../daemon/errors.ts';
import { privateDir, writeFileAtomic, writeJson } from '../../daemon/files.ts';
import type { NodePaths } from '../../daemon/paths.ts';
import type { Settings } from '../../shape/settings.ts';

export const CONFLIST = '10-podway.conflist';
export const AGENT_METRICS_PORT = 9464;

export type NodeFilesInput = {
  nodeName: string;
  /** The lab's name. */
  cluster: string;
  paths: NodePaths;
  settings: Settings;
  region: string;
  ec2Endpoint: string;
  kubeconfig: string;
  /** The compiled CNI plugin. */
  shim: string;
};

/** Where the machine's distributions have the standard plugins. */
const PLUGIN_DIRS = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'];

/** LabError NO_PLUGIN when a chained plugin is not on the machine. */
export async function writeNodeFiles(input: NodeFilesInput): Promise<void> {
  const { paths, settings } = input;
  for (const dir of [paths.root, paths.run, paths.cniConfDir, paths.cniBinDir, paths.cniCacheDir])
    privateDir(dir);
  writeFileAtomic(paths.kubeconfig, input.kubeconfig);
  writeJson(paths.agentConfig, {
    nodeName: input.nodeName,
    cluster: input.cluster,
    runDir: paths.run,
    kubeconfig: paths.kubeconfig,
    ec2Endpoint: input.ec2Endpoint,
    region: input.region,
    cniConfDir: paths.cniConfDir,
    listen: `:${AGENT_METRICS_PORT}`,
    settings: {
      ...(settings.warm === undefined ? {} : { warm: settings.warm }),
      cooldownMs: settings.cooldownMs,
      ...(settings.idleReleaseMs === undefined ? {} : { idleReleaseMs: settings.idleReleaseMs }),
      repair: settings.repair,
      addressing: settings.addressing,
      snat: settings.snat,
      excludeSnatCidrs: settings.excludeSnatCidrs,
      ...(settings.podMtu === undefined ? {} : { podMtu: settings.podMtu }),
    },
  });
  installPlugin(input.shim, join(paths.cniBinDir, 'podway-cni'));
  const { chain, versions } = await installChain(settings.cniChain, paths.cniBinDir);
  const mtu = settings.podMtu;
  writeJson(
    join(paths.cniConfDir, CONFLIST),
    conflist({ agentSocket: paths.agentSocket, chain, versions, ...(mtu === undefined ? {} : { mtu }) }),
  );
}

/** The machine's own binaries, by links: the node's runtime finds all its plugins in one folder. */
async function installChain(wanted: readonly PluginEntry[], binDir: string): Promise<Chained> {
  const found = await chainedPlugins(wanted, { binDirs: PLUGIN_DIRS });
  if (found.missing.length > 0)
    throw new LabError(
      'NO_PLUGIN',
      `setting cniChain names ${found.missing.join(', ')}, which is in none of ${PLUGIN_DIRS.join(', ')}`,
      'apt-get install containernetworking-plugins',
    );
  for (const { type } of found.chain) {
    const link = join(binDir, type);
    rmSync(link, { force: true });
    symlinkSync(findPlugin(type, PLUGIN_DIRS), link);
  }
  return found;
}

/** Renamed into place: a plugin that is being executed cannot be overwritten. */
function installPlugin(source: string, target: string): void {
  if (existsSync(target) && readFileSync(source).equals(readFileSync(target))) return;
  const aside = `${target}.${process.pid}.new`;
  copyFileSync(source, aside);
  renameSync(aside, target);
}

/** What a reboot does to a node's /run. */
export function emptyRunDir(paths: NodePaths): void {
  if (!existsSync(paths.run)) return;
  for (const entry of readdirSync(paths.run))
    rmSync(join(paths.run, entry), { recursive: true, force: true });
}
