// What holds for policies over time: a pod's first packet, agents that are killed, a table that others remove with the
// agents unable to act, connections across all of it, and a pod whose policies cannot be known.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, it } from 'node:test';
import type { V1NetworkPolicy } from '@kubernetes/client-node';
import { agentsBack, signalAgents } from '../support/agents.ts';
import { type Allow, PolicyGround } from '../support/policy-ground.ts';
import { STARTERS_POLICY, startAll } from '../support/policy-starters.ts';
import { Talk } from '../support/policy-talk.ts';
import { full } from '../support/storm.ts';
import { PROBE, podway, skip } from './command.ts';
import { Lab } from './lab.ts';

const NODES = ['node-1', 'node-2'];
/** Pods whose first instruction sends. */
const STARTERS = full ? 500 : 40;

/** x/a is reached from y alone; what has the label `starter` reaches y/a alone. */
const POLICIES: V1NetworkPolicy[] = [
  {
    metadata: { namespace: 'x', name: 'only-y' },
    spec: {
      podSelector: { matchLabels: { pod: 'a' } },
      policyTypes: ['Ingress'],
      ingress: [{ _from: [{ namespaceSelector: { matchLabels: { ns: 'y' } } }] }],
    },
  },
  STARTERS_POLICY,
];
const allow: Allow = (from, to) => to.ns !== 'x' || to.pod !== 'a' || from.ns === 'y';

describe('NetworkPolicy over time', { skip, timeout: 280_000 }, () => {
  const lab = new Lab('pol-life');
  const ground = new PolicyGround(lab);
  let talk: Talk | undefined;
  const signal = (name: NodeJS.Signals) => signalAgents(lab.name, NODES, name);

  before(async () => {
    await lab.up();
    await ground.start();
    await ground.policies(POLICIES);
    await ground.expect('policies hold', 'TCP', [80], allow);
  });
  after(async () => {
    talk?.end();
    ground.close();
    await lab.down();
  });

  it(`judges the first packet of ${STARTERS} pods: none arrives that may not, and no reply is lost`, () =>
    startAll(ground, {
      ...{ count: STARTERS, atOnce: 40, nodes: NODES },
      container: (forbidden, allowed) => {
        const ask = (address: string) => `${PROBE} tcp ${address} 80 >/dev/null 2>&1`;
        const script = `(${ask(forbidden)}) & ${ask(allowed)}; wait; exec sleep 1000`;
        return { name: 'c', image: 'podway/pod', command: ['sh', '-c', script] };
      },
    }));

  it('agents that are killed change no verdict', async () => {
    for (let round = 0; round < 3; round++) {
      signal('SIGKILL');
      for (let look = 0; look < 4; look++) await ground.expectSteady(`round ${round}`, allow);
      await agentsBack(lab.name, NODES);
    }
  });

  it('without the table nothing reaches a pod from elsewhere, and all comes back, connections too', async () => {
    ground.echoes = true;
    talk = new Talk(ground, 'y/a', 'x/b');
    await talk.says();
    await agentsBack(lab.name, NODES);
    await ground.expect('policies hold', 'TCP', [80], allow);
    signal('SIGSTOP');
    try {
      for (const node of NODES)
        await lab.ok('lab', 'exec', node, '--', 'nft', 'delete', 'table', 'inet', 'podway-policy');
      assert.deepEqual(await ground.differences('TCP', [80], () => false), [], 'nothing passes unjudged');
      assert.deepEqual(await ground.differences('UDP', [81], () => false), [], 'nothing passes unjudged');
      // The node itself, as kubelet's probes.
      const { answer } = await lab.ask('node-1', 'tcp', ground.ipOf('x/c'), '8080');
      assert.ok(answer?.startsWith('c '), 'the node reaches its pod');
    } finally {
      signal('SIGCONT');
    }
    await ground.expect('policies hold again', 'TCP', [80], allow);
    await talk.says();
    assert.equal(talk.ended, false);
  });

  it('a whole flushed ruleset comes back, and lets nothing pass meanwhile', async () => {
    for (const node of NODES) await lab.ok('lab', 'exec', node, '--', 'nft', 'flush', 'ruleset');
    for (let look = 0; look < 4; look++) {
      const wrong = await ground.differences('TCP', [80], allow);
      assert.deepEqual(
        wrong.filter((line) => line.endsWith(': came')),
        [],
      );
    }
    await ground.expect('policies hold again', 'TCP', [80], allow);
  });

  it('a pod that the API does not know is refused, after a bounded wait', async () => {
    const { nodes } = await lab.status();
    const { name, cniConfDir } = nodes[0]!;
    const sandbox = `pwt-${process.pid}-ghost`;
    execFileSync('ip', ['netns', 'add', sandbox]);
    try {
      const args = [
        ...[
          'cni',
          'add',
          '--conf',
          cniConfDir,
          '--netns',
          `/run/netns/${sandbox}`,
          '--container-id',
          'ghost',
        ],
        ...['--args', 'IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME=ghost'],
      ];
      const { code, stdout } = await podway(...args);
      assert.equal(code, 1);
      assert.match(stdout, /POLICY_TIMEOUT|does not show the pod x\/ghost/, name);
    } finally {
      execFileSync('ip', ['netns', 'del', sandbox]);
    }
  });
});
