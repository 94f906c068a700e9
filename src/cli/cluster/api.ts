// The Kubernetes API of the place that a command names: a lab's, a cluster's, or a dump's lists.

import type { KubeClient } from '../../kube/index.ts';
import { usageError } from '../errors.ts';
import { readLab } from '../labs.ts';
import { apiOf, type Lister } from '../sysdump/api-part.ts';
import { Dump } from '../sysdump/dump.ts';
import { type PlaceOptions, placeKind } from './place.ts';

export type Api = Lister & { close(): void };

/** Throws USAGE for --local: an agent is no API. */
export async function openApi(options: PlaceOptions): Promise<Api> {
  const kind = placeKind(options);
  if (kind === 'local')
    throw usageError('policies are read from the Kubernetes API, not from an agent', 'leave out --local');
  if (options.from !== undefined) return { ...apiOf(Dump.open(options.from)), close: () => {} };
  return openClient(options);
}

/** For commands that write too: of a lab or a cluster alone. */
export async function openClient(options: PlaceOptions): Promise<KubeClient> {
  const kind = placeKind(options);
  if (kind === 'local')
    throw usageError('policies are written to the Kubernetes API, not to an agent', 'leave out --local');
  const { KubeClient, readKubeConfig } = await import('../../kube/index.ts');
  const config =
    kind === 'cluster'
      ? await (await import('./credentials.ts')).clusterConfig(options)
      : await readKubeConfig(
          (await (await readLab(options)).call<{ kubeconfig: string }>('GET', '/v1/status')).kubeconfig,
        );
  return new KubeClient(config, { userAgent: 'podway' });
}
