// A node's mount view as a shell script: a mount namespace, with the node's host name beside it, in which the folders that
// kubelet, containerd and CNI plugins keep their state in are the node's own. The machine's file system is never written to: a folder that it lacks is made
// in a small tmpfs that shows the rest of its parent by links, and `mount -n` keeps libmount from noting the mounts in the
// machine's /run/mount. Pure; nothing of it outlives the view's last process.
import { dirname } from 'node:path';
import { IN_VIEW, type RealNodePaths } from './layout.ts';

export type Binding = { from: string; to: string };

/**
 * What kubelet would write into the machine's kernel when it differs: the view has files with these values in their
 * place, so that kubelet finds what it wants and nothing changes (pkg/util/sysctl).
 */
export const KUBELET_SYSCTLS: Record<string, string> = {
  'vm/overcommit_memory': '1',
  'vm/panic_on_oom': '0',
  'kernel/panic': '10',
  'kernel/panic_on_oops': '1',
  'kernel/keys/root_maxkeys': '1000000',
  'kernel/keys/root_maxbytes': '25000000',
};

/** In the order of mounting: /run/podway is last, since it hides the lab's folder, from which all of them come. */
export function bindingsOf(paths: RealNodePaths): Binding[] {
  return [
    { from: paths.netns, to: IN_VIEW.netns },
    { from: paths.containerdRun, to: '/run/containerd' },
    { from: paths.libCni, to: '/var/lib/cni' },
    { from: paths.libKubelet, to: '/var/lib/kubelet' },
    { from: paths.libContainerd, to: '/var/lib/containerd' },
    { from: paths.logs, to: '/var/log' },
    { from: paths.kubernetes, to: IN_VIEW.kubernetes },
    { from: paths.containerdConf, to: IN_VIEW.containerdConf },
    { from: paths.podway, to: IN_VIEW.podway },
    { from: paths.cniConfDir, to: IN_VIEW.cniConfDir },
    { from: paths.cniBinDir, to: IN_VIEW.cniBinDir },
    { from: paths.run, to: IN_VIEW.run },
  ];
}

/** The deepest folder on the way to `path` that the machine has. */
export function presentParent(path: string, exists: (path: string) => boolean): string {
  let at = path;
  while (at !== '/' && !exists(at)) at = dirname(at);
  return at;
}

/** Folders of the machine that lack something on the way to a binding, parents first. */
export function shadowedFolders(bindings: Binding[], exists: (path: string) => boolean): string[] {
  const lacking = bindings.filter(({ to }) => !exists(to)).map(({ to }) => presentParent(to, exists));
  return [...new Set(lacking)].sort();
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** `exists` is asked of the machine. */
type ViewInput = { node: string; exists: (path: string) => boolean; sysctls?: string[] };

/** Run by `unshare --mount --uts`; becomes the process that holds the view. */
export function viewScript(
  paths: RealNodePaths,
  { node, exists, sysctls = Object.keys(KUBELET_SYSCTLS) }: ViewInput,
): string {
  const bindings = bindingsOf(paths);
  const lines = [
    '#!/bin/sh',
    'set -eu',
    'mount -n --make-rprivate /',
    // Namespaces of other labs would live on in this copy of their mounts.
    'while grep -q " /run/netns" /proc/self/mountinfo && umount -n -R -l /run/netns 2>/dev/null; do :; done',
  ];
  for (const folder of shadowedFolders(bindings, exists)) {
    const shadow = quoted(`${paths.shadows}/${folder.slice(1).replaceAll('/', '-') || 'root'}`);
    lines.push(
      `mkdir -p ${shadow}`,
      `mount -n -t tmpfs -o mode=755,size=4m podway-shadow ${shadow}`,
      `mkdir ${shadow}/.machine`,
      `mount -n --rbind ${quoted(folder)} ${shadow}/.machine`,
      `for each in ${quoted(folder)}/* ${quoted(folder)}/.[!.]*; do`,
      `  if [ -e "$each" ] || [ -L "$each" ]; then ln -s ".machine/\${each##*/}" ${shadow}/; fi`,
      'done',
      `mount -n --move ${shadow} ${quoted(folder)}`,
    );
  }
  for (const key of sysctls)
    lines.push(`mount -n --bind ${quoted(`${paths.sysctl}/${key}`)} ${quoted(`/proc/sys/${key}`)}`);
  for (const { from, to } of bindings)
    lines.push(`mkdir -p ${quoted(to)}`, `mount -n --bind ${quoted(from)} ${quoted(to)}`);
  lines.push(
    // Pods on the host network have the node's name.
    `echo ${quoted(node)} > /proc/sys/kernel/hostname`,
    // What a container mounts of it with HostToContainer sees what comes later.
    'mount -n --make-rshared /',
    `echo $$ > ${IN_VIEW.viewReady}.new`,
    `mv ${IN_VIEW.viewReady}.new ${IN_VIEW.viewReady}`,
    'exec sleep infinity',
  );
  return `${lines.join('\n')}\n`;
}
