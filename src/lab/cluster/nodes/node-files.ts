// The folder of a node: CNI conf dir, bin dir and result cache, the agent's config, its run directory. Written again at
// every start, so that a changed setting or path reaches the node; the conflist comes last, atomically.
import { copyFileSync, existsSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
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

export function writeNodeFiles(input: NodeFilesInput): void {
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
    metricsPort: AGENT_METRICS_PORT,
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
  writeJson(join(paths.cniConfDir, CONFLIST), conflist(paths.agentSocket, settings.podMtu));
}

export function conflist(agentSocket: string, mtu?: number): unknown {
  return {
    cniVersion: '1.0.0',
    cniVersions: ['1.0.0', '1.1.0'],
    name: 'podway',
    plugins: [
      { type: 'podway-cni', agentSocket, ...(mtu === undefined ? {} : { mtu }), capabilities: { mac: true } },
    ],
  };
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
