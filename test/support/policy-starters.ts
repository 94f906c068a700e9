// Pods whose first instruction sends a SYN to a peer that they may not reach, and one to a peer that they may: in waves, since
// a node holds some tens of pods. What arrives is counted by the receivers.
import assert from 'node:assert/strict';
import type { V1Container, V1NetworkPolicy } from '@kubernetes/client-node';
import type { PolicyGround } from './policy-ground.ts';
import { eventually } from './wait.ts';

const FORBIDDEN = 'z/a';
const ALLOWED = 'y/a';
const LABELS = { starter: 'yes' };

/** What has the label reaches y/a alone. */
export const STARTERS_POLICY: V1NetworkPolicy = {
  metadata: { namespace: 'x', name: 'starters' },
  spec: {
    podSelector: { matchLabels: LABELS },
    policyTypes: ['Egress'],
    egress: [
      {
        to: [{ namespaceSelector: { matchLabels: { ns: 'y' } }, podSelector: { matchLabels: { pod: 'a' } } }],
      },
    ],
  },
};

export type Starters = {
  count: number;
  /** Of a wave. */
  atOnce: number;
  nodes: readonly string[];
  /** A container whose first act is to ask both addresses, at port 80, and that then stays. */
  container: (forbidden: string, allowed: string) => V1Container;
};

/** Each question is a connection of its own, which the client gives 10 s: a busy machine has not the time for all. */
const AT_ONCE = 4;

async function fewAtOnce(names: readonly string[], ask: (name: string, at: number) => Promise<unknown>) {
  for (let at = 0; at < names.length; at += AT_ONCE)
    await Promise.all(names.slice(at, at + AT_ONCE).map((name, place) => ask(name, at + place)));
}

/** The policy is in force. Throws when a forbidden packet arrived, or an allowed pod had to ask more than once. */
export async function startAll(
  ground: PolicyGround,
  { count, atOnce, nodes, container }: Starters,
): Promise<void> {
  for (let first = 0; first < count; first += atOnce) {
    const names = Array.from({ length: Math.min(atOnce, count - first) }, (_, at) => `starter-${first + at}`);
    ground.seen.length = 0;
    await fewAtOnce(names, (name, at) =>
      ground.core.createNamespacedPod({
        namespace: 'x',
        body: {
          metadata: { name, labels: LABELS },
          spec: {
            nodeName: nodes[at % nodes.length]!,
            terminationGracePeriodSeconds: 0,
            containers: [container(ground.ipOf(FORBIDDEN), ground.ipOf(ALLOWED))],
          },
        },
      }),
    );
    const running = async () =>
      (await ground.pods()).filter(({ name, phase }) => names.includes(name) && phase === 'Running');
    await eventually('starters run', async () => (await running()).length === names.length, 120_000);
    const own = new Set((await running()).flatMap(({ ips }) => ips));
    const arrivedAt = (key: string) =>
      ground.seen.filter((line) => own.has(line.split(' ')[0]!) && line.endsWith(`> ${key}:80`));
    await eventually('each has reached whom it may', () => arrivedAt(ALLOWED).length >= names.length, 60_000);
    assert.equal(arrivedAt(ALLOWED).length, names.length, 'nobody had to ask twice');
    assert.deepEqual(arrivedAt(FORBIDDEN), []);
    await fewAtOnce(names, (name) =>
      ground.core.deleteNamespacedPod({ namespace: 'x', name, gracePeriodSeconds: 0 }),
    );
    await eventually(
      'starters are gone',
      async () => !(await ground.pods()).some(({ name }) => names.includes(name)),
      120_000,
    );
  }
}
