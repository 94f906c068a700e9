// Upstream's own runtime, cnitool v1.3.0, on a copy of a lab node's network config: ADD and DEL at every CNI version,
// CHECK from 0.4.0, STATUS at 1.1.0, and `gc`, which passes no list and so may remove nothing. Needs Go (the tool is
// built into a temporary folder) and root; says which is missing. Not part of `npm test`:
//   npm run test:conformance
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { IpamNode, LabStatus, NodeView, PodView } from '../../src/lab/daemon/protocol.ts';
import { execute, executeOk, skip as notRoot, type Ran, ROOT } from '../e2e/command.ts';
import { Machine } from '../e2e/machine.ts';
import { FAMILIES } from '../support/lab.ts';

const TOOL = 'github.com/containernetworking/cni/cnitool@v1.3.0';
/** Downloads and builds: the first time on a slow line. */
const BUILD_BOUND_MS = 300_000;
const VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'];
const CHECKED = VERSIONS.slice(VERSIONS.indexOf('0.4.0'));

/** Addresses of a pod. */
const EACH = FAMILIES === 'dual' ? 2 : 1;

const go = await execute(['go', 'version']).catch(() => undefined);
const skip = notRoot || (go?.code === 0 ? false : 'Go is not installed, so cnitool cannot be built');

type Result = {
  cniVersion: string;
  ip4?: { ip: string };
  ip6?: { ip: string };
  ips?: { address: string; version?: string; interface?: number }[];
  interfaces?: { name: string; mac: string; sandbox?: string }[];
};

/** Not below /tmp, where the machine has a folder of its own. */
const built = mkdtempSync(join(ROOT, 'build/cnitool-'));
const CNITOOL = join(built, 'cnitool');
let machine: Machine;
let node: NodeView;

before(async () => {
  if (skip) return;
  await executeOk(['go', 'install', TOOL], { GOBIN: built, GOFLAGS: undefined }, BUILD_BOUND_MS);
  machine = await Machine.start();
  await machine.shell('mkdir /tmp/net.d');
  const families = ['--set', `families=${FAMILIES ?? 'ipv4'}`];
  await machine.ok('lab', 'up', '--quiet', '--nodes', '1', '--set', 'cooldown=0s', ...families);
  node = (await machine.json<LabStatus>('lab', 'status')).nodes[0]!;
  await machine.ok('pod', 'run', 'stays');
});
after(async () => {
  if (!skip) await machine?.stop();
  rmSync(built, { recursive: true, force: true });
});

/** The node's config as it would be written for one version alone. */
async function writeConfig(version: string): Promise<void> {
  const text = await machine.shell(`cat ${node.cniConfDir}/*.conflist`);
  const { cniVersions: _, ...config } = JSON.parse(text) as Record<string, unknown>;
  await machine.write('/tmp/net.d/10-podway.conflist', JSON.stringify({ ...config, cniVersion: version }));
}

const cnitool = (verb: string, netns: string): Promise<Ran> =>
  machine.run([CNITOOL, verb, 'podway', netns], {
    NETCONFPATH: '/tmp/net.d',
    CNI_PATH: node.cniBinDir,
  });

async function held(): Promise<string[]> {
  const [shown] = await machine.json<IpamNode[]>('ipam', 'show');
  return shown!.enis.flatMap((eni) =>
    eni.addresses.filter((each) => each.state === 'held').map((each) => each.ip),
  );
}

function assertOk(verb: string, ran: Ran): string {
  assert.equal(ran.code, 0, `cnitool ${verb}: exit ${ran.code}\n${ran.stdout}${ran.stderr}`);
  return ran.stdout;
}

for (const version of VERSIONS) {
  test(`${version}: ADD${CHECKED.includes(version) ? ', CHECK' : ''}, DEL`, { skip }, async () => {
    await writeConfig(version);
    const name = `cnitool-${version}`;
    const netns = `/run/netns/${name}`;
    const before = await held();
    await machine.shell(`ip netns add ${name}`);
    try {
      const result = JSON.parse(assertOk('add', await cnitool('add', netns))) as Result;
      assert.equal(result.cniVersion, version);
      const cidrs =
        result.ips?.map(({ address }) => address) ?? [result.ip4?.ip, result.ip6?.ip].filter(Boolean);
      assert.equal(cidrs.length, EACH);
      const ips = cidrs.map((cidr) => cidr!.split('/')[0]!);
      const [link] = JSON.parse(await machine.shell(`ip -n ${name} -j address show eth0`)) as [
        { address: string; addr_info: { family: string; local: string; prefixlen: number }[] },
      ];
      assert.deepEqual(
        link.addr_info
          .filter((each) => !each.local.startsWith('fe80'))
          .map((each) => `${each.local}/${each.prefixlen}`),
        cidrs,
      );
      if (result.interfaces) {
        const inside = result.interfaces.find((each) => each.sandbox === netns);
        assert.deepEqual([inside?.name, inside?.mac], ['eth0', link.address]);
      }
      for (const each of version < '1.0.0' ? (result.ips ?? []) : [])
        assert.equal(each.version, each.address.includes(':') ? '6' : '4');
      assert.deepEqual((await held()).sort(), [...before, ...ips].sort());
      // The node reaches it.
      for (const ip of ips) await machine.ok('lab', 'exec', 'node-1', '--', 'ping', '-c', '1', '-W', '2', ip);

      const check = await cnitool('check', netns);
      if (CHECKED.includes(version)) assertOk('check', check);
      else assert.notEqual(check.code, 0, 'CHECK is not of this version');

      assertOk('del', await cnitool('del', netns));
      assert.deepEqual(await held(), before);
      assert.equal((await machine.run(['ip', '-n', name, 'link', 'show', 'eth0'])).code, 1);
      assertOk('del', await cnitool('del', netns));
    } finally {
      await machine.shell(`ip netns del ${name}`);
    }
  });
}

test('CHECK tells when the attachment was damaged', { skip }, async () => {
  await writeConfig('1.1.0');
  const netns = '/run/netns/damaged';
  await machine.shell('ip netns add damaged');
  try {
    assertOk('add', await cnitool('add', netns));
    assertOk('check', await cnitool('check', netns));
    await machine.shell('ip -n damaged address flush dev eth0');
    assert.notEqual((await cnitool('check', netns)).code, 0);
  } finally {
    await cnitool('del', netns);
    await machine.shell('ip netns del damaged');
  }
});

test('STATUS at 1.1.0', { skip }, async () => {
  await writeConfig('1.1.0');
  assertOk('status', await cnitool('status', ''));
});

test('gc without a list: what its own cache holds is removed, the plugin refuses, pods stay', {
  skip,
}, async () => {
  await writeConfig('1.1.0');
  const before = await held();
  await machine.shell('ip netns add stale');
  try {
    assertOk('add', await cnitool('add', '/run/netns/stale'));
    assert.equal((await held()).length, before.length + EACH);
    const gc = await cnitool('gc', '');
    assert.notEqual(gc.code, 0);
    assert.match(gc.stdout + gc.stderr, /valid-attachments|code.?:? ?7/i);
    assert.deepEqual(await held(), before);
    const pods = await machine.json<PodView[]>('pod', 'list');
    assert.deepEqual(
      pods.map((pod) => [pod.name, pod.phase]),
      [['stays', 'Running']],
    );
    const ip = pods[0]!.ips[0]!;
    await machine.ok('lab', 'exec', 'node-1', '--', 'ping', '-c', '1', '-W', '2', ip);
  } finally {
    await machine.shell('ip netns del stale');
  }
});

test('podway cni gc with a list removes what is not in it', { skip }, async () => {
  await writeConfig('1.1.0');
  const conf = [
    '--conf',
    '/tmp/net.d/10-podway.conflist',
    '--bin-dir',
    node.cniBinDir,
    '--cache-dir',
    '/tmp/cache',
  ];
  const before = await held();
  const [shown] = await machine.json<IpamNode[]>('ipam', 'show');
  const inUse = shown!.enis.flatMap((eni) => eni.addresses).filter(({ state }) => state === 'held');
  const valid = [...new Set(inUse.map(({ containerId }) => `${containerId}/eth0`))];
  await machine.shell('ip netns add kept && ip netns add lost');
  try {
    for (const id of ['kept', 'lost'])
      await machine.ok('cni', 'add', ...conf, '--container-id', id, '--netns', `/run/netns/${id}`);
    assert.equal((await held()).length, before.length + 2 * EACH);
    await machine.ok('cni', 'gc', ...conf, '--valid', ...valid, 'kept/eth0');
    assert.equal((await held()).length, before.length + EACH);
    await machine.ok('cni', 'del', ...conf, '--container-id', 'kept', '--netns', '/run/netns/kept');
    assert.deepEqual((await held()).sort(), before.sort());
  } finally {
    await machine.shell('ip netns del kept; ip netns del lost');
  }
});
