// What the agent keeps for network policy, as heap after collections: 10,000 pods of other nodes and 1,000 policies, with
// labels that 20 pods share and with labels of each pod alone (Jobs, StatefulSets). No kernel: the values alone.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { programOf } from '../src/policy/compile.ts';
import { Compiler } from '../src/policy/compiler.ts';
import { decodeNetworkPolicy } from '../src/policy/decode.ts';
import { type PodView, type Policy, podKey } from '../src/policy/model.ts';
import { Numbers } from '../src/policy/numbers.ts';
import { podView } from '../src/policy/objects.ts';
import { Renderer } from '../src/policy/render.ts';
import { type BenchResult, round } from './stats.ts';

const PODS = 10_000;
const HERE = 200;
const POLICIES = 1_000;
const NAMESPACES = 100;
const APPS = 500;
const MIB = 2 ** 20;

const namespaces = new Map(
  Array.from({ length: NAMESPACES }, (_, at) => [`ns${at}`, { team: `t${at % 10}` }] as const),
);

/** As from the API: text that is parsed anew, so that no two objects share anything. */
function pod(at: number, isUnique: boolean): PodView {
  const labels = {
    app: `app${at % APPS}`,
    'pod-template-hash': `h${at % APPS}`,
    ...(isUnique ? { 'statefulset.kubernetes.io/pod-name': `p${at}` } : {}),
  };
  const object = {
    metadata: { namespace: `ns${at % NAMESPACES}`, name: `p${at}`, uid: crypto.randomUUID(), labels },
    spec: {
      nodeName: at < HERE ? 'here' : `node-${at % 100}`,
      containers: [{ name: 'c', ports: [{ name: 'web', containerPort: 8080 }] }],
    },
    status: { phase: 'Running', podIP: `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}` },
  };
  return podView(JSON.parse(JSON.stringify(object)));
}

function policy(at: number): Policy {
  const app = (n: number) => ({ podSelector: { matchLabels: { app: `app${n % APPS}` } } });
  const everywhere = { namespaceSelector: {}, ...app(at * 7) };
  const team = { namespaceSelector: { matchLabels: { team: `t${at % 10}` } } };
  return decodeNetworkPolicy({
    metadata: { namespace: `ns${at % NAMESPACES}`, name: `policy${at}` },
    spec: {
      ...app(at),
      policyTypes: ['Ingress', 'Egress'],
      ingress: [{ from: [everywhere, team], ports: [{ port: 'web' }] }],
      egress: [{ to: [everywhere], ports: [{ port: 'web' }] }],
    },
  }).policy!;
}

function collector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

type Parts = Record<'policies' | 'pods' | 'program' | 'table', number> & { identities: number };

/** MiB of each part; what it holds is let go with it. */
async function weigh(isUnique: boolean, heap: () => Promise<number>): Promise<Parts> {
  const start = await heap();
  const policies = Array.from({ length: POLICIES }, (_, at) => policy(at));
  const withPolicies = await heap();
  const pods = new Map<string, PodView>();
  for (let at = 0; at < PODS; at++) {
    const one = pod(at, isUnique);
    pods.set(podKey(one), one);
  }
  const withPods = await heap();
  const compiler = new Compiler({ policies, namespaces, mode: 'enforce' });
  const program = programOf({ node: 'here', pods, held: new Map() }, compiler);
  const withProgram = await heap();
  const renderer = new Renderer(new Numbers());
  const table = renderer.render(program);
  const end = await heap();
  // Alive until here.
  if (table.maps.size === 0 || compiler.classes.size === 0 || renderer === null)
    throw new Error('nothing was compiled');
  return {
    policies: withPolicies - start,
    pods: withPods - withPolicies,
    program: withProgram - withPods,
    table: end - withProgram,
    identities: program.identities.size,
  };
}

export async function bench(): Promise<BenchResult[]> {
  const gc = collector();
  const heap = async (): Promise<number> => {
    // A weak reference that was asked lasts for a turn.
    await new Promise((resolve) => setImmediate(resolve));
    for (let at = 0; at < 4; at++) gc();
    return process.memoryUsage().heapUsed / MIB;
  };
  // Code and what it caches once.
  await weigh(false, heap);
  const rows: (string | number)[][] = [];
  const numbers: Record<string, unknown> = {};
  for (const isUnique of [false, true]) {
    const name = isUnique ? 'each pod its own' : '20 pods share them';
    const { identities, ...parts } = await weigh(isUnique, heap);
    const sum = Object.values(parts).reduce((total, one) => total + one, 0);
    const bytesOfPod = Math.round((parts.pods * MIB) / PODS);
    numbers[name] = { ...parts, bytesOfPod };
    rows.push([name, ...Object.values(parts).map((one) => round(one)), round(sum), bytesOfPod, identities]);
  }
  return [
    {
      title: `MiB of heap for ${PODS} pods (${HERE} of them here) and ${POLICIES} policies, by labels of the pods`,
      head: ['labels', 'policies', 'pods', 'program', 'table', 'sum', 'bytes of a pod', 'identities'],
      rows,
      numbers,
    },
  ];
}
