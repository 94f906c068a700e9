// Waiting for a condition of the cluster: looked at after every change of the API's objects, bounded in time.
import { setTimeout as sleep } from 'node:timers/promises';
import { isNode } from '../cluster/nodes/cluster.ts';
import type { ClusterStore } from '../cluster/nodes/store.ts';
import { LabError } from './errors.ts';
import type { OpenLab } from './lab.ts';
import { living } from './view.ts';

const NODE_READY_MS = 60_000;
/** A real one's runtime and kubelet start, and its images are imported. */
const REAL_NODE_READY_MS = 180_000;
/** With ec2Latency=realistic an instance takes 8 s. */
const INSTANCE_MS = 60_000;
const LOOK_MS = 50;

/** Resolves with the first value of `look` that is not undefined; undefined when time is over or the caller is gone. */
export function until<T>(
  store: ClusterStore,
  look: () => T | undefined,
  boundMs: number,
  signal?: AbortSignal,
): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    let done = false;
    const end = (value: T | undefined) => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      watch.close();
      signal?.removeEventListener('abort', onAbort);
      resolve(value);
    };
    const check = () => {
      if (done) return;
      try {
        const value = look();
        if (value !== undefined) end(value);
      } catch (error) {
        end(undefined);
        reject(error);
      }
    };
    const onAbort = () => end(undefined);
    const timer = setTimeout(() => end(undefined), boundMs);
    const watch = store.watch(check);
    signal?.addEventListener('abort', onAbort, { once: true });
    queueMicrotask(check);
  });
}

/**
 * No instance is pending any more and the fabric has its links: with EC2's latency that comes later than the answer of
 * RunInstances. Throws LabError naming the first that is late.
 */
export async function waitForInstances(lab: OpenLab, say: (text: string) => void): Promise<void> {
  const pending = () => living(lab.vpc.state()).filter(({ instance }) => instance.state === 'pending');
  let before = 0;
  const end = performance.now() + INSTANCE_MS;
  while (pending().length > 0 && performance.now() < end) {
    const count = pending().length;
    if (count !== before) say(`${count} ${count === 1 ? 'instance' : 'instances'} not running yet`);
    before = count;
    await sleep(LOOK_MS);
  }
  const [late] = pending();
  if (late)
    throw new LabError(
      'INSTANCE_PENDING',
      `${late.name} (${late.instance.id}) is still pending after ${INSTANCE_MS / 1000} s`,
      `podway lab logs vpc --lab ${lab.record.name}`,
    );
  await lab.followed();
}

/**
 * Every node of an instance that runs, or is about to, is Ready. Throws LabError naming the first that is not, with its
 * cause.
 */
export async function waitForNodes(lab: OpenLab, say: (text: string) => void): Promise<void> {
  const wanted = () =>
    living(lab.vpc.state()).filter(
      ({ instance }) => isNode(instance) && (instance.state === 'running' || instance.state === 'pending'),
    );
  const isReady = (name: string) => lab.cluster.node(name)?.ready === true;
  const boundMs = lab.record.shape.kubernetes ? REAL_NODE_READY_MS : NODE_READY_MS;
  let before = '';
  const ready = await until(
    lab.store,
    () => {
      const nodes = wanted();
      const count = nodes.filter(({ name }) => isReady(name)).length;
      const text = `${count} of ${nodes.length} nodes ready`;
      if (text !== before) say(text);
      before = text;
      return count === nodes.length ? true : undefined;
    },
    boundMs,
  );
  const late = wanted().find(({ name }) => !isReady(name));
  if (ready || !late) return;
  const { cause, text } = lab.cluster.node(late.name)?.failure ?? {
    cause: 'NODE_NOT_READY',
    text: `its instance is ${late.instance.state}`,
  };
  throw new LabError(
    cause,
    `${late.name} is not ready after ${boundMs / 1000} s: ${text}`,
    `podway lab logs ${late.name} --lab ${lab.record.name}`,
  );
}
