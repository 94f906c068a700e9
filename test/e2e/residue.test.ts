// `lab down` leaves nothing: namespaces, links, addresses, rules, routes, nft tables, processes, sockets, files, mounts and
// sysctls are listed on a machine of its own before `lab up` and after `lab down`, also when the lab's process was killed
// while it was still building the lab.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { skip } from './command.ts';
import { type Census, Machine } from './machine.ts';

let machine: Machine;
let clean: Census;

before(async () => {
  if (skip) return;
  machine = await Machine.start();
  clean = await machine.census();
});
after(async () => {
  if (!skip) await machine.stop();
});

test('a census sees a lab in every place', { skip }, async () => {
  await machine.ok('lab', 'up', '--demo', '--quiet');
  const found = await machine.census();
  for (const place of ['namespaces', 'processes', 'sockets', 'files', 'mounts']) {
    assert.ok(found[place]!.length > clean[place]!.length, `no sign of the lab in ${place}`);
  }
  // The lab keeps to its namespaces: what the machine itself has is not touched.
  for (const place of ['links', 'rules', 'routes', 'nft', 'sysctls', 'files elsewhere']) {
    assert.deepEqual(found[place], clean[place], place);
  }
});

test('lab down leaves nothing', { skip }, async () => {
  await machine.ok('lab', 'down', '--quiet');
  await machine.isAgain(clean);
  const again = await machine.podway('lab', 'down');
  assert.equal(again.code, 0, again.stderr);
});

const moments: [string, string][] = [
  ['its process has begun', 'test -s /run/podway/labs/killed/lab.pid'],
  ['the router is there', 'test -e /run/netns/podway_killed_vpc'],
  ['the first node is there', 'test -e /run/netns/podway_killed_node-1'],
  ['an agent is there', 'test -s /run/podway/labs/killed/nodes/node-1/agent.pid'],
  ['a pod is there', 'ls /run/netns | grep -q podway_killed_pod-'],
];
const DAEMON = `grep -o '"pid": *[0-9]*' /run/podway/labs/killed/lab.pid | grep -o '[0-9]*$'`;

for (const [moment, condition] of moments) {
  test(`kill -9 of the lab in lab up, when ${moment}; then lab down leaves nothing`, { skip }, async () => {
    const killer = `for i in $(seq 20000); do if ${condition}; then kill -9 $(${DAEMON}); exit 0; fi; sleep 0.002; done; exit 1`;
    const [up, killed] = await Promise.all([
      machine.podway('lab', 'up', '--demo', '--quiet', '--lab', 'killed'),
      machine.run(['sh', '-c', killer]),
    ]);
    assert.equal(killed.code, 0, `the moment never came: ${killed.stderr}`);
    assert.equal(up.code, 1, up.stdout);
    assert.match(up.stderr, /^podway: [A-Z_]+: [^\n]+ \([^\n]+\)\n$/);
    const down = await machine.podway('lab', 'down', '--quiet', '--lab', 'killed');
    assert.equal(down.code, 0, down.stderr);
    await machine.isAgain(clean);
  });
}
