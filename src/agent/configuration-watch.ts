// Follows in the Kubernetes API what the node's configuration is made of: NodeNetworks, the agent's own Node, and
// ENIConfigs where custom networking is on. Says on NodeNetworks whether they are accepted. Never throws.
import { systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { isRefused, readNodeNetwork } from '../ipam/config/node-network.ts';
import type { Node, NodeNetwork } from '../kube/index.ts';
import { AcceptedConditions, type Said, type Word } from './accepted.ts';
import type { ApiServer } from './api-server.ts';
import type { Configuration } from './configuration.ts';

/** Between two tries to read the kubeconfig (ms). */
const CONNECT_AGAIN_MS = 10_000;

/** Ends when `signal` aborts; at once where no API is configured. */
export async function watchConfiguration(
  api: ApiServer,
  configuration: Configuration,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  const { customNetworking } = configuration;
  if (!api.isConfigured) return;
  const connection = await connect(api, log, signal);
  if (!connection) return;
  const { client, kube } = connection;
  const conditions = new AcceptedConditions(client, kube, log, signal);
  const onAway = (error: Error) =>
    log.warn(
      { error: error.message },
      'the Kubernetes API does not tell the configuration: the last one counts',
    );
  const keepNode = ({ metadata, status }: Node) => {
    const { labels = {}, annotations = {} } = metadata;
    const key = customNetworking?.annotationKey;
    const annotation = key === undefined ? undefined : annotations[key];
    const pods = Number(status?.capacity?.['pods']);
    return {
      labels,
      annotations: key === undefined || annotation === undefined ? {} : { [key]: annotation },
      pods: Number.isInteger(pods) && pods > 0 ? pods : null,
    };
  };
  /** Null until the API has told them: the kept ones count. */
  let networks: ReadonlyMap<string, NetworkView> | null = null;
  const noteNetworks = () => {
    if (!networks) return;
    const views = [...networks.values()];
    configuration.noteNetworks(views.map(({ read }) => read));
    const concerned = views.filter(({ read }) => configuration.concerns(read));
    conditions.want(
      new Map(concerned.map(({ read }) => [read.name, wordOn(read)])),
      new Map(views.map(({ read, said }) => [read.name, said])),
    );
  };
  const follows = [
    kube.follow(
      client,
      kube.nodes,
      {
        fieldSelector: `metadata.name=${api.nodeName}`,
        keep: keepNode,
        onAway,
        onChange: (kept) => {
          const node = kept.get(api.nodeName);
          if (!node) return;
          configuration.noteNode(node);
          noteNetworks();
        },
      },
      signal,
    ),
    kube.follow(
      client,
      kube.nodeNetworks,
      {
        keep: viewOf,
        onAway: () => {},
        onChange: (kept) => {
          networks = kept;
          noteNetworks();
        },
      },
      signal,
    ),
  ];
  if (customNetworking) {
    follows.push(
      kube.follow(
        client,
        kube.eniConfigs,
        {
          keep: ({ metadata, spec }) => ({ metadata: { name: metadata.name! }, spec: spec ?? {} }),
          onAway: () => {},
          onChange: (kept) => configuration.noteEniConfigs([...kept.values()]),
        },
        signal,
      ),
    );
  }
  await Promise.all(follows);
}

/** Null when `signal` aborts. */
export async function connect(api: ApiServer, log: Log, signal: AbortSignal) {
  for (let tries = 0; !signal.aborted; tries++) {
    try {
      return await api.connect();
    } catch (error) {
      if (tries === 0) log.warn({ error: (error as Error).message }, 'the Kubernetes API cannot be used yet');
      await systemClock.sleep(CONNECT_AGAIN_MS, signal).catch(() => undefined);
    }
  }
  return null;
}

type NetworkView = { read: ReturnType<typeof readNodeNetwork>; said: Said };

const viewOf = (object: NodeNetwork): NetworkView => ({
  read: readNodeNetwork(object),
  said: object.status?.conditions ?? [],
});

const wordOn = (read: NetworkView['read']): Word =>
  isRefused(read)
    ? { accepted: false, message: read.problems.join('; '), generation: read.generation }
    : { accepted: true, message: 'every field is valid', generation: read.generation };
