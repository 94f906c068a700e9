// A lab's paths: one folder per lab under /run/podway/labs, and the names of its network namespaces, which differ from
// every other lab's even if the labs' names are similar.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { labOfNetns, netnsName } from '../fabric/names.ts';
import { LabError } from './errors.ts';

export const RUN_ROOT = '/run/podway';
export const LABS_ROOT = `${RUN_ROOT}/labs`;
export const NETNS_ROOT = '/run/netns';

/** 20 characters: with a node's 40, a socket's path stays below the 108 bytes of sockaddr_un. */
const LAB_NAME = /^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$/;

export function checkLabName(name: string): string {
  if (LAB_NAME.test(name)) return name;
  throw new LabError(
    'BAD_LAB_NAME',
    `"${name}" is no name of a lab`,
    'use 1 to 20 small letters, digits and dashes',
    { exit: 2 },
  );
}

export type LabPaths = ReturnType<typeof labPaths>;

export function labPaths(lab: string, labsRoot: string = LABS_ROOT) {
  const root = join(labsRoot, lab);
  return {
    lab,
    root,
    record: join(root, 'lab.json'),
    lock: join(root, 'lock.sqlite'),
    keys: join(root, 'keys.json'),
    kubeconfig: join(root, 'kubeconfig'),
    resolvConf: join(root, 'resolv.conf'),
    control: join(root, 'control.sock'),
    log: join(root, 'lab.log'),
    pid: join(root, 'lab.pid'),
    mark: join(root, 'mark'),
    controller: join(root, 'controller'),
    pods: join(root, 'pods'),
    nodes: join(root, 'nodes'),
    instances: join(root, 'instances'),
    pod: (uid: string) => join(root, 'pods', uid),
    node: (node: string) => nodePaths(join(root, 'nodes', node)),
    instance: (name: string) => join(root, 'instances', name),
    netns: (where: string) => netnsName(lab, where),
  };
}

export type NodePaths = ReturnType<typeof nodePaths>;

function nodePaths(root: string) {
  return {
    root,
    run: join(root, 'run'),
    agentSocket: join(root, 'run', 'agent.sock'),
    apiSocket: join(root, 'run', 'api.sock'),
    agentConfig: join(root, 'agent.json'),
    agentPid: join(root, 'agent.pid'),
    agentLog: join(root, 'agent.log'),
    kubeconfig: join(root, 'kubeconfig'),
    cniConfDir: join(root, 'cni', 'net.d'),
    cniBinDir: join(root, 'cni', 'bin'),
    cniCacheDir: join(root, 'cni', 'cache'),
  };
}

export const netnsPath = (name: string): string => join(NETNS_ROOT, name);

/** Names of the labs that have a folder, sorted. */
export function knownLabs(labsRoot: string = LABS_ROOT): string[] {
  if (!existsSync(labsRoot)) return [];
  return readdirSync(labsRoot, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && LAB_NAME.test(entry.name))
    .map((entry) => entry.name)
    .sort();
}

/** Of all namespaces, the ones of `lab`. */
export const namespacesOf = (lab: string, all: string[]): string[] =>
  all.filter((name) => labOfNetns(name) === lab);
