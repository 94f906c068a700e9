// What is told of policies: each version once, from the leader alone, with a condition where there is a status.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import * as kube from '../../kube/index.ts';
import { PolicyTeller } from './teller.ts';
import { wordOn } from './word.ts';

const cnp = (generation: number, to: object, status?: object) => ({
  metadata: { name: 'p', uid: 'u', generation, resourceVersion: `${generation}` },
  spec: {
    ...{ tier: 'Admin', priority: 1, subject: { namespaces: {} } },
    egress: [{ action: 'Accept', to: [to] }],
  },
  ...(status === undefined ? {} : { status }),
});
const names = { domainNames: ['example.com'] };
const networks = { networks: ['10.0.0.0/8'] };

it('words name what is refused, and host bits', () => {
  const ofCluster = (object: object) => wordOn({ kind: 'ClusterNetworkPolicy' }, object as never);
  assert.deepEqual(ofCluster(cnp(1, networks)), {
    events: [],
    condition: { status: 'True', reason: 'Accepted', message: 'every field is enforced' },
  });
  const refused = ofCluster(cnp(1, names));
  const message =
    'spec.egress[0].to[0].domainNames: ["example.com"] is not enforced: Podway does not follow names';
  assert.deepEqual(refused.events, [{ type: 'Warning', reason: 'PolicyRefused', message }]);
  assert.deepEqual(refused.condition, { status: 'False', reason: 'RulesClosed', message });
  assert.equal(ofCluster({ metadata: {}, spec: {} }).condition!.reason, 'NotInForce');
  const policy = {
    metadata: { name: 'n' },
    spec: { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '10.1.0.0/8' } }] }] },
  };
  assert.deepEqual(wordOn({ kind: 'NetworkPolicy' }, policy as never), {
    events: [{ type: 'Normal', reason: 'PolicyHostBits', message: '10.1.0.0/8 is read as 10.0.0.0/8' }],
    condition: null,
  });
});

it('each version is told once, other conditions stay, and nothing is written without a lead', async () => {
  let isLeading = true;
  const recorded: string[] = [];
  const patched: unknown[] = [];
  const stop = new AbortController();
  const other = { type: 'Other', status: 'True' };
  const objects = [cnp(1, names, { conditions: [other] })];
  const next = Promise.withResolvers<void>();
  const client = {
    async list({ version }: kube.Resource) {
      if (version === 'v1beta1') throw new kube.KubeError(404, 'NotFound', 'no such kind');
      return { metadata: { resourceVersion: '1' }, items: version === 'v1alpha2' ? objects : [] };
    },
    async *watch({ kind }: kube.Resource, _: unknown, signal: AbortSignal) {
      if (kind === 'ClusterNetworkPolicy') {
        yield { type: 'MODIFIED', object: cnp(1, names) };
        await next.promise;
        isLeading = false;
        yield { type: 'MODIFIED', object: cnp(2, networks) };
        stop.abort();
      }
      await new Promise((_, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
      );
    },
    get: async () => objects[0],
    async patch(...args: unknown[]) {
      patched.push(args[3]);
      next.resolve();
    },
  };
  const quiet = () => {};
  const teller = new PolicyTeller({
    client: client as never,
    events: { record: (_about, type, reason) => void recorded.push(`${type} ${reason}`) },
    isLeading: () => isLeading,
    log: { debug: quiet, info: quiet, warn: quiet, error: quiet } as never,
    clock: { now: () => 0, sleep: () => new Promise(() => {}) } as never,
  });
  void teller.keep(stop.signal);
  await new Promise((resolve) => stop.signal.addEventListener('abort', resolve));
  assert.deepEqual(recorded, ['Warning PolicyRefused']);
  assert.equal(patched.length, 1);
  const { metadata, status } = patched[0] as { metadata: object; status: { conditions: { type: string }[] } };
  assert.deepEqual(metadata, { resourceVersion: '1' });
  assert.deepEqual(
    status.conditions.map(({ type }) => type),
    ['Other', 'podway.dev/Accepted'],
  );
});
