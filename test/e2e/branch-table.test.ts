// Who reaches whom when a pod has security groups of its own, on real packets: each kind of source and destination,
// with groups that let everything and with groups that let nothing, and the address and port that the other side sees.
// The table of docs/security-groups.md is made from what was seen. Before it, the demo of
// examples/security-groups.yaml.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { table } from '../../bench/stats.ts';
import type { Check } from '../../src/lab/daemon/protocol.ts';
import type { Question } from '../support/asker.ts';
import { BranchGround, LOCAL_PORTS, NODE_PORTS, VIPS } from '../support/branch-ground.ts';
import { ROOT, skip } from './command.ts';

/** A lost SYN comes again after a second: what is let through answers by then. */
const SILENT_MS = 2_500;
const ANSWER_MS = 30_000;

/** Whose address and port the other side sees: the asker's own, its node's, its node's public one, or nothing comes. */
type Seen = 'own' | 'node' | 'public' | 'nothing';
type Row = { from: string; to: string; open: Seen; closed: Seen };
/** `~` stands for the pod with groups of its own: `open` or `closed`. */
type Case = Row & {
  asker: string;
  server: string;
  host?: (groups: string) => string;
  port?: number;
  ports?: Record<'open' | 'closed', number>;
};

const ground = new BranchGround('sgtable');
let demo: Check[];

before(async () => {
  if (skip) return;
  demo = await ground.up();
});
after(async () => {
  if (!skip) await ground.down();
});

const vip = (groups: string): string => VIPS[groups as 'open' | 'closed'];
const to = (from: string, asker: string, open: Seen, closed: Seen, more: Partial<Case> = {}): Case => ({
  ...{ from, to: 'pod with groups', asker, server: '~', open, closed },
  ...more,
});
const by = (name: string, server: string, open: Seen, closed: Seen, more: Partial<Case> = {}): Case => ({
  ...{ from: 'pod with groups', to: name, asker: '~', server, open, closed },
  ...more,
});

const strict: Case[] = [
  to('plain pod, same node', 'plain-1', 'own', 'nothing'),
  to('plain pod, other node', 'plain-2', 'own', 'nothing'),
  to('pod with groups, same node', 'open-1b', 'own', 'nothing'),
  to('pod with groups, other node', 'open-2', 'own', 'nothing'),
  to('its node (probe)', 'node-1', 'own', 'own'),
  to('other node', 'node-2', 'own', 'nothing'),
  to('instance', 'peer', 'own', 'nothing'),
  to('plain pod, same node, by a Service', 'plain-1', 'own', 'nothing', { host: vip, port: 80 }),
  to('plain pod, other node, by a Service', 'plain-2', 'own', 'nothing', { host: vip, port: 80 }),
  by('plain pod, same node', 'plain-1', 'own', 'nothing'),
  by('plain pod, other node', 'plain-2', 'own', 'nothing'),
  by('pod with groups, same node', 'open-1b', 'own', 'nothing'),
  by('pod with groups, other node', 'open-2', 'own', 'nothing'),
  by('its node', 'node-1', 'own', 'nothing'),
  by('other node', 'node-2', 'own', 'nothing'),
  by('instance', 'peer', 'own', 'nothing'),
  // The pod's own address, which an internet gateway does not translate: it needs a NAT gateway.
  by('internet, by an internet gateway', 'internet', 'nothing', 'nothing'),
  by('Service', 'plain-2', 'own', 'nothing', { host: () => VIPS.plain, port: 80 }),
];

/** What both modes have: the node judges it, as it has not passed the branch. */
const arriving: Case[] = [
  to('instance, by the rule of a hostPort or Local NodePort', 'peer', 'own', 'nothing', {
    host: () => ground.address('node-1'),
    ports: LOCAL_PORTS,
  }),
  to('instance, by the rule of a Cluster NodePort', 'peer', 'node', 'nothing', {
    host: () => ground.address('node-1'),
    ports: NODE_PORTS,
  }),
];

const standard: Case[] = [
  to('plain pod, same node', 'plain-1', 'own', 'own'),
  to('plain pod, other node', 'plain-2', 'own', 'nothing'),
  to('standard pod with groups, same node', 'open-sb', 'own', 'own'),
  to('strict pod with groups, same node', 'open-1b', 'own', 'nothing'),
  to('pod with groups, other node', 'open-2', 'own', 'nothing'),
  to('its node (probe)', 'node-1', 'own', 'own'),
  to('other node', 'node-2', 'own', 'nothing'),
  to('instance', 'peer', 'own', 'nothing'),
  to('plain pod, same node, by a Service', 'plain-1', 'own', 'own', { host: vip, port: 80 }),
  to('plain pod, other node, by a Service', 'plain-2', 'own', 'nothing', { host: vip, port: 80 }),
  by('plain pod, same node', 'plain-1', 'own', 'own'),
  by('plain pod, other node', 'plain-2', 'own', 'nothing'),
  by('standard pod with groups, same node', 'open-sb', 'own', 'own'),
  by('strict pod with groups, same node', 'open-1b', 'own', 'nothing'),
  by('pod with groups, other node', 'open-2', 'own', 'nothing'),
  by('its node', 'node-1', 'own', 'own'),
  by('other node', 'node-2', 'own', 'nothing'),
  by('instance', 'peer', 'own', 'nothing'),
  // With the node's address, by its ENI and the node's groups (`snat: node`).
  by('internet, by an internet gateway', 'internet', 'public', 'public'),
  by('Service', 'plain-2', 'own', 'nothing', { host: () => VIPS.plain, port: 80 }),
];

test('the demo of examples/security-groups.yaml', { skip }, () => {
  assert.deepEqual(
    demo.map(({ name, ok, observed }) => [name, ok || observed]),
    [
      ['own-interface', true],
      ['own-interface', true],
      ['reaches-db', true],
      ['does-not-reach-db', true],
      ['revoke', true],
      ['does-not-reach-db', true],
    ],
  );
});

let port = 20_000;

/** Asks all at once, and answers what was seen of each, with the groups. */
async function observed(cases: readonly Case[], suffix: string, groups: string): Promise<Seen[]> {
  const named = (name: string) => (name === '~' ? `${groups}${suffix}` : name);
  const asked = cases.map((one) => {
    const server = named(one.server);
    const question: Question = {
      host: one.host?.(groups) ?? ground.address(server),
      port: one.ports?.[groups as 'open' | 'closed'] ?? one.port ?? ground.port(server),
      localPort: port++,
    };
    return { one, asker: named(one.asker), server, question };
  });
  const answers: string[] = [];
  // A place is asked one list after the other: what is to answer, then what is not.
  await Promise.all(
    [...new Set(asked.map((each) => each.asker))].map(async (place) => {
      for (const isSilent of [false, true]) {
        const some = [...asked.keys()].filter(
          (at) =>
            asked[at]!.asker === place &&
            (asked[at]!.one[groups as 'open' | 'closed'] === 'nothing') === isSilent,
        );
        const questions = some.map((at) => asked[at]!.question);
        const said = await ground.asker(place).ask(questions, isSilent ? SILENT_MS : ANSWER_MS);
        for (const [index, at] of some.entries()) answers[at] = said[index]!;
      }
    }),
  );
  const logs = new Map<string, string[]>();
  for (const server of new Set(asked.map((each) => each.server)))
    if (answers.some((answer) => answer.startsWith(`${server} `)))
      logs.set(server, await ground.askers(server));
  return asked.map(({ asker, server, question: { localPort } }, at) => {
    const answer = answers[at]!;
    if (answer === 'silent') return 'nothing';
    const [name, address = ''] = answer.split(' ');
    assert.equal(name, server, `${asker} asks ${server}: ${answer}`);
    const isOwn = address === ground.address(asker);
    // The port too: what was translated on its way has another one.
    if (isOwn) {
      const own = `${address}:${localPort}`;
      assert.ok(logs.get(server)!.includes(own), `${server} was not asked by ${own}`);
      return 'own';
    }
    if (address === ground.address('node-1')) return 'node';
    if (address === ground.publicAddress('node-1')) return 'public';
    return assert.fail(`${asker} asks ${server}, which saw ${address}`);
  });
}

const words: Record<Seen, string> = {
  own: 'yes: own address and port',
  node: "yes: its node's address",
  public: "yes: its node's public address",
  nothing: 'no',
};

async function judge(cases: readonly Case[], suffix: string, title: string): Promise<void> {
  const [open, closed] = [await observed(cases, suffix, 'open'), await observed(cases, suffix, 'closed')];
  const rows = cases.map((one, at) => [one.from, one.to, words[open[at]!], words[closed[at]!]]);
  const text = table(['From', 'To', 'groups let all', 'groups let nothing'], rows);
  console.log(`${title}\n\n${text}`);
  assert.deepEqual(
    cases.map((one, at) => ({ ...row(one), open: open[at], closed: closed[at] })),
    cases.map(row),
  );
  const docs = readFileSync(join(ROOT, 'docs/security-groups.md'), 'utf8');
  const plain = (each: string) => each.replaceAll(/ +\|/g, ' |').replaceAll(/-+/g, '-');
  for (const line of plain(text).split('\n'))
    assert.ok(plain(docs).includes(line), `docs/security-groups.md lacks ${line}`);
}

const row = ({ from, to, open, closed }: Row): Row => ({ from, to, open, closed });

test('strict: who reaches whom', { skip, timeout: 120_000 }, async () => {
  const branches = (['open', 'closed'] as const).map((groups) => ({
    ...{ name: `${groups}-1`, node: 'node-1', groups },
  }));
  await ground.run([
    { name: 'plain-1', node: 'node-1' },
    { name: 'plain-2', node: 'node-2' },
    { name: 'open-1b', node: 'node-1', groups: 'open' },
    { name: 'open-2', node: 'node-2', groups: 'open' },
    ...branches,
  ]);
  await ground.services('-1');
  await judge([...strict, ...arriving], '-1', 'strict');
  // The node's own services: whatever the groups say.
  for (const groups of ['open', 'closed'])
    for (const question of [
      ['dns', 'internet.podway.test'],
      ['imds', '169.254.169.254', '/latest/meta-data/instance-id'],
    ]) {
      const { answer, error } = await ground.lab.askFrom(`${groups}-1`, ...question);
      assert.ok(answer, `${groups}-1 asks ${question}: ${error}`);
    }
});

test('standard: who reaches whom', { skip, timeout: 120_000 }, async () => {
  const mode = 'standard';
  await ground.run([
    { name: 'open-s', node: 'node-1', groups: 'open', mode },
    { name: 'open-sb', node: 'node-1', groups: 'open', mode },
    { name: 'closed-s', node: 'node-1', groups: 'closed', mode },
  ]);
  await ground.services('-s');
  await judge([...standard, ...arriving], '-s', 'standard');
});
