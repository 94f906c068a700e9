// What this machine must have for a lab. `machineRows` is the whole table for `podway doctor`; `checkMachine` fails with
// the first thing that is missing, in one sentence, before a lab is started.
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { delimiter, join } from 'node:path';
import { LabError } from '../../lab/daemon/errors.ts';
import { programsDir } from '../../lab/daemon/parts.ts';

export type Row = { name: string; state: 'ok' | 'missing' | 'note'; detail: string; next: string };

/** Nftables' set verdict maps, tcx and netlink strictness that the lab relies on are all there from 6.1 (Debian 12). */
const OLDEST_KERNEL = [5, 15];

const ok = (name: string, detail: string): Row => ({ name, state: 'ok', detail, next: '' });
const missing = (name: string, detail: string, next: string): Row => ({
  name,
  state: 'missing',
  detail,
  next,
});
const note = (name: string, detail: string, next: string): Row => ({ name, state: 'note', detail, next });

export function findProgram(name: string): string | undefined {
  for (const dir of (process.env['PATH'] ?? '').split(delimiter)) {
    const file = join(dir, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      // The next folder.
    }
  }
  return undefined;
}

function program(name: string, what: string, debianPackage: string): Row {
  const file = findProgram(name);
  return file
    ? ok(name, file)
    : missing(name, `${name} is not installed: ${what}`, `apt-get install ${debianPackage}`);
}

/** What npm installs for the lab alone, and leaves out with --omit=peer: an agent needs none of it. */
const LAB_PACKAGES = ['@aws-sdk/client-ec2', '@peculiar/x509', 'rfc6902'];

function labPackages(): Row {
  const lacking = LAB_PACKAGES.filter((name) => {
    try {
      import.meta.resolve(name);
      return false;
    } catch {
      return true;
    }
  });
  const next = 'install podway without --omit=peer';
  return lacking.length === 0
    ? ok('lab packages', 'installed')
    : missing(
        'lab packages',
        `the lab needs npm packages that are not installed: ${lacking.join(', ')}`,
        next,
      );
}

function quickRows(): Row[] {
  const rows: Row[] = [];
  rows.push(
    process.platform === 'linux'
      ? ok('linux', release())
      : missing(
          'linux',
          `this is ${process.platform}, Podway runs on Linux`,
          'use a Linux machine or virtual machine',
        ),
  );
  rows.push(
    process.getuid?.() === 0
      ? ok('root', 'uid 0')
      : missing('root', `uid ${process.getuid?.()}: namespaces and links need root`, 'run it with sudo'),
  );
  const [major = 0, minor = 0] = release().split('.').map(Number);
  const [wantMajor, wantMinor] = OLDEST_KERNEL as [number, number];
  const recent = major > wantMajor || (major === wantMajor && minor >= wantMinor);
  rows.push(
    recent
      ? ok('kernel', release())
      : missing('kernel', `kernel ${release()} is older than ${wantMajor}.${wantMinor}`, 'update the kernel'),
  );
  rows.push(labPackages());
  rows.push(program('nsenter', 'processes are started in namespaces by it', 'util-linux'));
  return rows;
}

export async function machineRows(): Promise<Row[]> {
  const rows = quickRows();
  rows.push(ok('node', `${process.versions.node} (pinned)`));
  for (const row of await kernelRows()) if (!rows.some((known) => known.name === row.name)) rows.push(row);
  const built = ['podway-cni', 'pod-server', 'pod-probe'].filter((name) =>
    existsSync(join(programsDir(), name)),
  );
  const compiler = findProgram('cc') ?? findProgram('gcc');
  if (built.length === 3) rows.push(ok('programs', `compiled in ${programsDir()}`));
  else if (compiler) rows.push(note('programs', `not compiled yet; ${compiler} does it at first use`, ''));
  else
    rows.push(
      missing(
        'compiler',
        'the C programs are not compiled and there is no compiler',
        'apt-get install gcc libc6-dev',
      ),
    );
  if (!existsSync('/dev/net/tun'))
    rows.push(
      note('tun', 'no /dev/net/tun; NAT gateways of a lab translate no IPv6 (NAT64)', 'modprobe tun'),
    );
  if (!findProgram('kubectl')) rows.push(note('kubectl', 'not installed; the lab works without it', ''));
  const strict = readSetting('/proc/sys/net/ipv4/conf/all/rp_filter');
  if (strict === '1')
    rows.push(
      note('rp_filter', 'net.ipv4.conf.all.rp_filter is 1; ENIs set their own 2, pods pass a strict one', ''),
    );
  rows.push(...(await forwardingRows()), ...managerRows());
  return rows;
}

/** Chains of others in a network namespace that drop what pods send through the node. */
export async function forwardingRows(netnsPath = '/proc/self/ns/net'): Promise<Row[]> {
  try {
    const [{ NfNetlink }, { openNetns }, { forwardDrops, legacyForwardDrops }] = await Promise.all([
      import('../../kernel/nfnetlink.ts'),
      import('../../kernel/netns.ts'),
      import('../../datapath/foreign.ts'),
    ]);
    using netns = openNetns(netnsPath);
    using nf = NfNetlink.open(netns);
    return [...(await forwardDrops(nf)), ...legacyForwardDrops(netns)].map((drop) =>
      note(
        'forwarding',
        drop,
        'where this machine is a node: iptables -I FORWARD -i pw+ -j ACCEPT; iptables -I FORWARD -o pw+ -j ACCEPT',
      ),
    );
  } catch (error) {
    return [note('forwarding', `nftables cannot be read: ${(error as Error).message}`, '')];
  }
}

type Manager = { name: string; runs: string; configs: string[]; knows: RegExp; next: string };

const MANAGERS: Manager[] = [
  {
    name: 'NetworkManager',
    runs: 'run/NetworkManager',
    configs: ['etc/NetworkManager/conf.d', 'usr/lib/NetworkManager/conf.d', 'run/NetworkManager/conf.d'],
    knows: /interface-name:pw/,
    next: 'copy deploy/NetworkManager/podway.conf to /etc/NetworkManager/conf.d',
  },
  {
    name: 'systemd-networkd',
    runs: 'run/systemd/netif',
    configs: ['etc/systemd/network', 'usr/lib/systemd/network', 'run/systemd/network'],
    knows: /^Name=pw/m,
    next: 'copy deploy/systemd-networkd to /etc/systemd, as its README says',
  },
];

/** Managers of links that run here and have not been told to leave Podway's alone. */
export function managerRows(root = '/'): Row[] {
  return MANAGERS.filter(({ runs }) => existsSync(join(root, runs))).map(({ name, configs, knows, next }) => {
    const files = configs.flatMap((dir) => filesIn(join(root, dir)));
    return files.some((file) => knows.test(readSetting(file) ?? ''))
      ? ok(name, 'leaves the links of Podway alone')
      : note(name, `runs here, and nothing says that it leaves links pw* alone`, next);
  });
}

const filesIn = (dir: string): string[] =>
  existsSync(dir) ? readdirSync(dir).map((file) => join(dir, file)) : [];

export async function kernelRows(): Promise<Row[]> {
  try {
    const { probeFeatures } = await import('../../kernel/features.ts');
    return probeFeatures().map((feature) =>
      feature.present
        ? ok(feature.name, feature.detail)
        : feature.needed
          ? missing(feature.name, feature.detail, feature.next)
          : note(feature.name, feature.detail, feature.next),
    );
  } catch (error) {
    return [missing('kernel features', (error as Error).message, 'npm ci, and apt-get install libnftables1')];
  }
}

const readSetting = (file: string): string | undefined => {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return undefined;
  }
};

/** Throws LabError for the first thing that a lab cannot do without. */
export async function checkMachine(): Promise<void> {
  const lacking = quickRows().find((row) => row.state === 'missing');
  if (lacking?.name === 'lab packages') throw new LabError('LAB_PACKAGES', lacking.detail, lacking.next);
  if (lacking)
    throw new LabError('MACHINE', lacking.detail, `${lacking.next}; podway doctor shows the whole table`);
}
