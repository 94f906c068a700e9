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
import { writeFileAtomic } from '../../../base/files.ts';
import { conflist, type PluginEntry } from '../../../cni/conflist.ts';
import { type Chained, chainedPlugins } from '../../../cni/runtime/chained.ts';
import { findPlugin } from '../../../cni/runtime/index.ts';
import { LabError } from '../../daemon/errors.ts';
import { privateDir, writeJson } from '../../daemon/files.ts';
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
  /** Where the agent's own default does not lead. */
  imdsEndpoint?: string | undefined;
  kubeconfig: string;
  /** The compiled CNI plugin. */
  shim: string;
};

/** Where the machine's distributions have the standard plugins. */
export const PLUGIN_DIRS = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'];

/** LabError NO_PLUGIN when a chained plugin is not on the machine. */
export async function writeNodeFiles(input: NodeFilesInput): Promise<void> {
  const { paths, settings } = input;
  for (const dir of [paths.root, paths.run, paths.cniConfDir, paths.cniBinDir, paths.cniCacheDir])
    privateDir(dir);
  writeFileAtomic(paths.kubeconfig, input.kubeconfig);
  writeAgentConfig(paths.agentConfig, {
    ...input,
    runDir: paths.run,
    kubeconfig: paths.kubeconfig,
    cniConfDir: paths.cniConfDir,
  });
  installPlugin(input.shim, join(paths.cniBinDir, 'podway-cni'));
  await writeConflist(join(paths.cniConfDir, CONFLIST), {
    agentSocket: paths.agentSocket,
    chain: settings.cniChain,
    mtu: settings.podMtu,
    binDir: paths.cniBinDir,
    install: symlinkSync,
  });
}

export type ConflistInput = {
  /** Path, as the plugin sees it. */
  agentSocket: string;
  chain: readonly PluginEntry[];
  mtu: number | undefined;
  binDir: string;
  /** How the machine's plugins come into `binDir`. */
  install(source: string, target: string): void;
};

export async function writeConflist(file: string, input: ConflistInput): Promise<void> {
  const { chain, versions } = await installChain(input);
  const { agentSocket, mtu } = input;
  writeJson(file, conflist({ agentSocket, chain, versions, ...(mtu === undefined ? {} : { mtu }) }));
}

export type AgentConfigInput = Pick<
  NodeFilesInput,
  'nodeName' | 'cluster' | 'region' | 'ec2Endpoint' | 'imdsEndpoint' | 'settings'
> & {
  runDir: string;
  /** Path, as the agent sees it. */
  kubeconfig: string;
  cniConfDir: string;
};

export function writeAgentConfig(file: string, input: AgentConfigInput): void {
  const { settings } = input;
  writeJson(file, {
    nodeName: input.nodeName,
    cluster: input.cluster,
    runDir: input.runDir,
    kubeconfig: input.kubeconfig,
    ec2Endpoint: input.ec2Endpoint,
    ...(input.imdsEndpoint === undefined ? {} : { imdsEndpoint: input.imdsEndpoint }),
    region: input.region,
    cniConfDir: input.cniConfDir,
    listen: `:${AGENT_METRICS_PORT}`,
    settings: {
      ...(settings.warm === undefined ? {} : { warm: settings.warm }),
      cooldownMs: settings.cooldownMs,
      ...(settings.idleReleaseMs === undefined ? {} : { idleReleaseMs: settings.idleReleaseMs }),
      repair: settings.repair,
      addressing: settings.addressing,
      ...(settings.families === 'ipv4' ? {} : { families: settings.families, egress4: settings.egress4 }),
      snat: settings.snat,
      policy: settings.policy,
      policyTimeout: settings.policyTimeout,
      flowLog: settings.flowLog,
      podSecurityGroupEnforcingMode: settings.podSecurityGroupEnforcingMode,
      missingGroups: settings.missingGroups,
      excludeSnatCidrs: settings.excludeSnatCidrs,
      ...(settings.podMtu === undefined ? {} : { podMtu: settings.podMtu }),
    },
  });
}

/** The machine's own binaries: the node's runtime finds all its plugins in one folder. */
async function installChain({ chain, binDir, install }: ConflistInput): Promise<Chained> {
  const found = await chainedPlugins(chain, { binDirs: PLUGIN_DIRS });
  if (found.missing.length > 0)
    throw new LabError(
      'NO_PLUGIN',
      `setting cniChain names ${found.missing.join(', ')}, which is in none of ${PLUGIN_DIRS.join(', ')}`,
      'apt-get install containernetworking-plugins',
    );
  for (const { type } of found.chain) {
    const target = join(binDir, type);
    rmSync(target, { force: true });
    install(findPlugin(type, PLUGIN_DIRS), target);
  }
  return found;
}

/** Renamed into place: a plugin that is being executed cannot be overwritten. */
export function installPlugin(source: string, target: string): void {
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
