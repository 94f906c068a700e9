// Kubernetes Events of this node's agent, about the node and its pods. Sending an Event never throws, never blocks the
// caller and never delays an ADD. Without an API nothing is sent. Bounded: beyond MAX_WAITING the newest Events are
// dropped; the recorder counts and drops Events that the API refuses.
import type { Log } from '../base/log.ts';
import type { ObjectReference } from '../kube/types.ts';
import type { ApiServer } from './api-server.ts';
import type { PodName } from './tell.ts';

/** Events waiting to be sent, at most; bounds the queue while the API is unreachable. */
const MAX_WAITING = 100;

export type EventType = 'Normal' | 'Warning';

export type Events = {
  node(type: EventType, reason: string, message: string): void;
  pod(pod: PodName, type: EventType, reason: string, message: string): void;
};

type Waiting = { pod: PodName | null; type: EventType; reason: string; message: string };

export function createEvents(api: ApiServer, nodeName: string, log: Log): Events {
  const waiting: Waiting[] = [];
  let isSending = false;
  /** One recorder for the agent's life: it remembers the Events it sent, and each object's budget. */
  let open: Promise<{ record: (one: Waiting) => Promise<void>; flush: () => Promise<void> }> | undefined;

  const node: ObjectReference = { apiVersion: 'v1', kind: 'Node', name: nodeName, uid: nodeName };

  async function openRecorder() {
    const { client, kube } = await api.connect();
    const recorder = new kube.EventRecorder(client, {
      component: 'podway-agent',
      host: nodeName,
      onError: (error) => log.debug({ error: String(error) }, 'an Event could not be sent'),
    });
    /** `kubectl describe` finds a pod's Events by its uid. */
    const referenceTo = async ({ namespace, name, uid }: PodName): Promise<ObjectReference> => {
      const known = uid ?? (await client.get(kube.pods, name, namespace).catch(() => null))?.metadata.uid;
      return { apiVersion: 'v1', kind: 'Pod', namespace, name, ...(known ? { uid: known } : {}) };
    };
    return {
      record: async ({ pod, type, reason, message }: Waiting) =>
        recorder.record(pod === null ? node : await referenceTo(pod), type, reason, message),
      flush: () => recorder.flush(),
    };
  }

  async function sendAll(): Promise<void> {
    try {
      open ??= openRecorder();
      const { record, flush } = await open;
      while (waiting.length > 0) {
        for (let next = waiting.shift(); next; next = waiting.shift()) await record(next);
        await flush();
      }
    } catch (error) {
      log.debug({ error: String(error), dropped: waiting.length }, 'Events could not be sent');
      waiting.length = 0;
      open = undefined;
    }
    isSending = false;
  }

  function tell(one: Waiting): void {
    if (!api.isConfigured || waiting.length >= MAX_WAITING) return;
    waiting.push(one);
    if (isSending) return;
    isSending = true;
    setImmediate(() => void sendAll());
  }

  return {
    node: (type, reason, message) => tell({ pod: null, type, reason, message }),
    pod: (pod, type, reason, message) => tell({ pod, type, reason, message }),
  };
}
