// Follows in the Kubernetes API what the node's configuration is made of: NodeNetworks, the agent's own Node, and
// ENIConfigs where custom networking is on. Says on NodeNetworks whether they are accepted. Never throws.
import { systemClock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { isRefused, readNodeNetwork } from '../ipam/config/node-network.ts';
import type { PrimaryFamily } from '../ipam/policy.ts';
import type { KubeClient, Node, NodeNetwork } from '../kube/index.ts';
import { AcceptedConditions, type Said, type Word } from './accepted.ts';
import type { ApiServer } from './api-server.ts';
import type { Configuration } from './configuration.ts';
import type { Self } from './parts.ts';

/** Between two tries to read the kubeconfig (ms). */
const CONNECT_AGAIN_MS = 10_000;

/** Ends when `signal` aborts; at once where no API is configured. */
export async function watchConfiguration(
  api: ApiServer,
  configuration: Configuration,
  log: Log,
  signal: AbortSignal,
  self: Self,
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
      // One that registers anew is another.
      uid: metadata.uid ?? null,
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
    askServiceFamily();
  };
  let isAsking = false;
  const askServiceFamily = () => {
    if (isAsking || !configuration.asksServiceFamily) return;
    isAsking = true;
    void serviceFamily(client, kube, log, signal).then((family) => {
      isAsking = false;
      if (!signal.aborted) configuration.noteServiceFamily(family);
    });
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
          const { uid, ...marks } = node;
          self.nodeUID = uid;
          configuration.noteNode(marks);
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

/**
 * The first family of the API's own Service, and so of the cluster's Services. Asks until the API answers. Null when it
 * has no such Service, may not tell it, or `signal` aborts.
 */
async function serviceFamily(
  client: KubeClient,
  kube: Pick<typeof import('../kube/index.ts'), 'services' | 'KubeError'>,
  log: Log,
  signal: AbortSignal,
): Promise<PrimaryFamily | null> {
  while (!signal.aborted) {
    try {
      const { spec } = await client.get(kube.services, 'kubernetes', 'default', signal);
      const [family = spec?.clusterIP?.includes(':') ? 'IPv6' : 'IPv4'] = spec?.ipFamilies ?? [];
      return family === 'IPv6' ? 'ipv6' : 'ipv4';
    } catch (error) {
      const code = error instanceof kube.KubeError ? error.code : 0;
      if (code === 403)
        log.warn(
          {},
          'the agent may not get the Service default/kubernetes: pods of both families have IPv4 first',
        );
      if (code === 403 || code === 404) return null;
      await systemClock.sleep(CONNECT_AGAIN_MS, signal).catch(() => undefined);
    }
  }
  return null;
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
