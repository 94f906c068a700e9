// The sweep's decisions: what two looks must agree on, and, over random lives of a cluster with a controller that is killed
// at any time, that no ENI of a living node goes and every one that a gone node left does.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { InstanceState } from '../../cloud/fleet.ts';
import type { EniDescription, EniId } from '../../cloud/port.ts';
import { ownTags } from '../../ipam/ec2/tags.ts';
import type { Node, PodwayNode } from '../../kube/index.ts';
import { type Candidate, candidatesOf, type Memory, nothing, only, step } from './plan.ts';

const GAP = 30_000;
const START = 1_000_000_000;

const eniOf = (id: string, instanceId: string, more: Partial<EniDescription> = {}): EniDescription =>
  ({
    id: id as EniId,
    status: 'available',
    interfaceType: 'interface',
    attachment: null,
    addresses: [],
    tags: ownTags({ 'podway.io/cluster': 'c' }, instanceId, START),
    ...more,
  }) as EniDescription;

const attachedTo = (instanceId: string): Partial<EniDescription> => ({
  status: 'in-use',
  attachment: { instanceId } as EniDescription['attachment'],
});

const node = (name: string, instanceId: string | null): [string, Pick<Node, 'metadata' | 'spec'>] => [
  name,
  { metadata: { name }, spec: instanceId === null ? {} : { providerID: `aws:///z/${instanceId}` } },
];
const own = (name: string, instanceId: string, former: string[] = []): [string, PodwayNode] => [
  name,
  {
    metadata: { name },
    spec: { instanceId, cluster: 'c', former: former.map((id) => ({ instanceId: id, cluster: 'c' })) },
  },
];
const gone: Candidate = { node: 'n', instanceId: 'i-1', cluster: 'c' };

test('only an instance that no Node is, is looked for', () => {
  const ids = (nodes: ReturnType<typeof node>[], owns: ReturnType<typeof own>[]) =>
    candidatesOf(new Map(nodes), new Map(owns)).map(({ instanceId }) => instanceId);
  assert.deepEqual(ids([node('n', 'i-1')], [own('n', 'i-1')]), [], 'a node that is there');
  assert.deepEqual(ids([], [own('n', 'i-1')]), ['i-1'], 'no Node');
  assert.deepEqual(ids([node('n', 'i-2')], [own('n', 'i-1')]), ['i-1'], 'another instance has the name');
  assert.deepEqual(ids([node('n', 'i-2')], [own('n', 'i-2', ['i-1'])]), ['i-1'], 'and has said so');
  assert.deepEqual(ids([node('n', null)], [own('n', 'i-1')]), [], 'a Node that names no instance');
  assert.deepEqual(ids([node('m', 'i-1')], [own('n', 'i-1')]), [], 'the instance has another name now');
});

/** Looks at these times (s) from the start; answers the ENIs that each sweeps. */
function looks(times: number[], at: (seconds: number) => { state?: InstanceState; enis: EniDescription[] }) {
  let memory: Memory = nothing;
  return times.map((seconds) => {
    const { state, enis } = at(seconds);
    const states = new Map(state === undefined ? [] : [['i-1', state] as const]);
    const look = { at: START + seconds * 1000, states, enis };
    const done = step(memory, [gone], look, { gap: GAP });
    memory = done.memory;
    return done.sweep.map(({ eni }) => eni as string);
  });
}

test('two looks a gap apart and the grace come before a deletion', () => {
  const left = () => ({ enis: [eniOf('eni-1', 'i-1')] });
  assert.deepEqual(looks([0, 29, 59, 60], left), [[], [], [], ['eni-1']]);
});

test('what is attached, foreign, kept away or another cluster’s stays', () => {
  const { tags } = eniOf('x', 'i-1');
  const enis = [
    eniOf('eni-attached', 'i-1', attachedTo('i-9')),
    eniOf('eni-other', 'i-2'),
    eniOf('eni-public', 'i-1', { addresses: [{ public: true }] as EniDescription['addresses'] }),
    eniOf('eni-kept', 'i-1', { tags: { ...tags, 'node.k8s.amazonaws.com/no_manage': 'true' } }),
    eniOf('eni-cluster', 'i-1', { tags: { ...tags, 'podway.io/cluster': 'd' } }),
    eniOf('eni-purpose', 'i-1', { tags: { ...tags, 'podway.io/purpose': 'branch' } }),
    eniOf('eni-trunk', 'i-1', { interfaceType: 'trunk' }),
  ];
  assert.deepEqual(looks([0, 60, 120, 5000], () => ({ enis })).flat(), []);
});

test('one look in which it was attached begins anew', () => {
  const enis = (at: number) => [eniOf('eni-1', 'i-1', at === 60 ? attachedTo('i-1') : {})];
  assert.deepEqual(
    looks([0, 60, 80, 110], (at) => ({ enis: enis(at) })),
    [[], [], [], ['eni-1']],
  );
});

test('an instance that ends counts from when it is seen to have ended', () => {
  const at = (seconds: number) => ({
    enis: [eniOf('eni-1', 'i-1')],
    state: (seconds < 120 ? 'shutting-down' : 'terminated') as InstanceState,
  });
  assert.deepEqual(looks([0, 60, 119, 120, 149, 150], at), [[], [], [], [], [], ['eni-1']]);
});

test('of an instance that runs, an ENI must hang loose for ten minutes', () => {
  const at = () => ({ enis: [eniOf('eni-1', 'i-1')], state: 'running' as InstanceState });
  assert.deepEqual(looks([0, 60, 599, 600], at), [[], [], [], ['eni-1']]);
});

test('an instance without ENIs is done after two looks', () => {
  let memory: Memory = nothing;
  const done = [0, 30, 60].map((seconds) => {
    const look = { at: START + seconds * 1000, states: new Map(), enis: [] };
    const found = step(memory, [gone], look, { gap: GAP });
    memory = found.memory;
    return found.done.length;
  });
  assert.deepEqual(done, [0, 0, 1]);
});

type World = {
  nodes: Map<string, Pick<Node, 'metadata' | 'spec'>>;
  owns: Map<string, PodwayNode>;
  states: Map<string, InstanceState>;
  enis: Map<string, EniDescription>;
};

const NAMES = ['a', 'b', 'c'];
const events = fc.array(
  fc.record({
    what: fc.constantFrom(
      'create',
      'attach',
      'detach',
      'terminate',
      'replace',
      'lose-node',
      'node-back',
      'kill',
    ),
    name: fc.constantFrom(...NAMES),
    seconds: fc.integer({ min: 1, max: 40 }),
  }),
  { maxLength: 120 },
);

/** Longer than an agent leaves an ENI of its own loose: then it is attached or deleted. */
const AGENT_SECONDS = 60;

test('over random lives of a cluster no ENI of a living node goes, and all that gone ones left do', () => {
  fc.assert(
    fc.property(events, (list) => {
      const world: World = { nodes: new Map(), owns: new Map(), states: new Map(), enis: new Map() };
      const looseAt = new Map<string, number>();
      let serial = 0;
      let now = START;
      let memory: Memory = nothing;
      const begin = (name: string) => {
        const id = `i-${(++serial).toString(16)}`;
        const before = world.owns.get(name)?.spec;
        const former = before
          ? [...(before.former ?? []), { instanceId: before.instanceId, cluster: 'c' }]
          : [];
        world.states.set(id, 'running');
        world.nodes.set(name, node(name, id)[1]);
        world.owns.set(
          name,
          own(
            name,
            id,
            former.map(({ instanceId }) => instanceId),
          )[1],
        );
      };
      const instance = (name: string) => world.owns.get(name)!.spec!.instanceId;
      const isLive = (id: string) =>
        world.states.get(id) === 'running' &&
        [...world.nodes.values()].some(({ spec }) => spec?.providerID?.endsWith(`/${id}`));
      const end = (name: string) => {
        const id = instance(name);
        world.states.set(id, 'terminated');
        world.nodes.delete(name);
        // Half of what was attached stays, as without DeleteOnTermination.
        for (const [key, eni] of world.enis)
          if (eni.attachment?.instanceId === id) {
            if (Number(key) % 2 === 0) world.enis.delete(key);
            else world.enis.set(key, eniOf(key, id, { tags: eni.tags }));
          }
      };
      const pass = (seconds: number) => {
        for (let left = seconds; left > 0; left -= 5) {
          now += 5_000;
          // Agents that run attach what they have made in time.
          for (const [key, eni] of world.enis) {
            const id = eni.tags['podway.io/instance']!;
            const isOld = now - (looseAt.get(key) ?? now) > AGENT_SECONDS * 1000;
            if (eni.attachment === null && isOld && world.states.get(id) === 'running')
              world.enis.set(key, { ...eni, ...attachedTo(id) } as EniDescription);
          }
          const candidates = candidatesOf(world.nodes, world.owns);
          memory = only(memory, candidates);
          if (candidates.length === 0) continue;
          const look = { at: now, states: world.states, enis: [...world.enis.values()] };
          const found = step(memory, candidates, look, { gap: GAP });
          memory = found.memory;
          for (const { eni, of } of found.sweep) {
            assert.ok(!isLive(of.instanceId), `${eni} of ${of.instanceId}, which lives, was swept`);
            const swept = world.enis.get(eni)!;
            assert.equal(swept.attachment, null);
            assert.equal(swept.tags['podway.io/instance'], of.instanceId);
            world.enis.delete(eni);
          }
          for (const { node: name, instanceId } of found.done) {
            const { spec } = world.owns.get(name) ?? {};
            if (!spec) continue;
            const former = (spec.former ?? []).filter((one) => one.instanceId !== instanceId);
            if (spec.instanceId !== instanceId)
              world.owns.set(name, { metadata: { name }, spec: { ...spec, former } });
            else if (former.length === 0) world.owns.delete(name);
          }
        }
      };
      for (const { what, name, seconds } of list) {
        if (!world.owns.has(name)) begin(name);
        const id = instance(name);
        const runs = world.states.get(id) === 'running';
        const mine = [...world.enis].filter(([, eni]) => eni.tags['podway.io/instance'] === id);
        if (what === 'create' && runs) {
          const key = String(++serial);
          const tags = ownTags({ 'podway.io/cluster': 'c' }, id, now);
          world.enis.set(key, eniOf(key, id, { tags }));
          looseAt.set(key, now);
        }
        const [first] = mine;
        if (what === 'attach' && first && runs)
          world.enis.set(first[0], { ...first[1], ...attachedTo(id) } as never);
        if (what === 'detach' && first && runs) {
          world.enis.set(first[0], eniOf(first[0], id, { tags: first[1].tags }));
          looseAt.set(first[0], now);
        }
        if (what === 'terminate' && runs) end(name);
        if (what === 'replace') {
          if (runs) end(name);
          begin(name);
        }
        if (what === 'lose-node') world.nodes.delete(name);
        if (what === 'node-back' && runs) world.nodes.set(name, node(name, id)[1]);
        if (what === 'kill') memory = nothing;
        pass(seconds);
      }
      pass(200);
      for (const [key, eni] of world.enis) {
        const id = eni.tags['podway.io/instance']!;
        const isTied = [...world.owns.values()].some(
          ({ spec }) => spec!.instanceId === id || spec!.former?.some((one) => one.instanceId === id),
        );
        assert.ok(world.states.get(id) === 'running' || !isTied, `${key} of ${id}, which is gone, was left`);
        assert.equal(world.states.get(id), 'running', `${key} of ${id} was left and forgotten`);
      }
    }),
    { numRuns: 200 },
  );
});
