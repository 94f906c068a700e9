// `podway ipam release`: what it ends, and what it refuses. A journal is lost together with a pod's link, so that only the
// API says that the pod has its address.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IpamAddress } from '../../src/lab/daemon/protocol.ts';
import { TestLab } from '../support/lab.ts';
import { eventually } from '../support/wait.ts';
import { podway, skip } from './command.ts';

const NODE = 'node-1';
// So long a cooldown ends no quarantine by itself; with `report` a route that somebody adds stays.
const lab = new TestLab(`e2e-rel-${process.pid}`, { nodes: 1, set: ['cooldown=10m', 'repair=report'] });
const release = (ip: string) => podway('ipam', 'release', ip, '--node', NODE, '--lab', lab.name);
const shown = async (ip: string): Promise<IpamAddress | undefined> =>
  (await lab.show())[0]!.enis.flatMap((eni) => eni.addresses).find((one) => one.ip === ip);

before(async () => {
  if (!skip) await lab.up();
});
after(async () => {
  if (!skip) await lab.down();
});

test('an address that the API alone names is released by hand; one whose link stands is not', {
  skip,
  timeout: 240_000,
}, async () => {
  const [lost, kept] = [(await lab.run('lost', NODE)).ips[0]!, (await lab.run('kept', NODE)).ips[0]!];
  assert.match((await release(kept)).stderr, /^podway: NOT_QUARANTINED: .* is held, not quarantined/);

  const from = lab.agentOf(NODE)!.pid;
  const { netnsPath } = (await lab.status()).nodes.find((node) => node.name === NODE)!;
  const ip = (...args: string[]) =>
    execFileSync('nsenter', [`--net=${netnsPath}`, 'ip', ...args], { encoding: 'utf8' });
  const link = /dev (\S+)/.exec(ip('route', 'show', 'table', '20480', lost))![1]!;
  process.kill(from, 'SIGSTOP');
  ip('link', 'del', link);
  rmSync(join(lab.paths.node(NODE).run, 'journal'));
  lab.killAgent(NODE);
  await eventually('the next agent keeps it back', async () => (await shown(lost))?.state === 'quarantined');
  assert.match((await shown(lost))!.reason ?? '', /the API says that default\/lost has it/);

  // Somebody gives the address to a link again: it may be a pod's network.
  const other = /dev (\S+)/.exec(ip('route', 'show', 'table', '20480', kept))![1]!;
  // The agent's last step after its start may take it away: `report` keeps back repairs alone.
  await eventually('the route stays', async () => {
    ip('route', 'replace', lost, 'dev', other, 'table', '20480', 'proto', '80', 'scope', 'link');
    await sleep(1_000);
    return ip('route', 'show', 'table', '20480', lost) !== '';
  });
  const refused = await release(lost);
  assert.match(
    refused.stderr,
    new RegExp(
      `^podway: ADDRESS_IN_USE: ${NODE}: ${lost} is the address of link ${other}, which stands \\(.+\\)\n$`,
    ),
  );
  assert.equal(refused.code, 1);
  ip('route', 'del', lost, 'table', '20480');

  const done = await release(lost);
  assert.deepEqual([done.code, done.stderr], [0, '']);
  assert.match(done.stdout, new RegExp(`^${lost} is out of quarantine on ${NODE}`));
  assert.equal((await shown(lost))?.state, 'cooling');
  assert.match((await release(lost)).stderr, /^podway: NOT_QUARANTINED: .* is cooling/);
});
