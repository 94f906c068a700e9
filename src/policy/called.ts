// Finds the Services that the API server calls, by webhooks and aggregated APIs, and the addresses from which it calls.
// Policies that isolate those pods have to allow it. Kinds that are not served, or that the caller may not list, count
// as none.
import { type Ip, parseIp } from '../base/ip.ts';
import { KubeError } from '../kube/errors.ts';
import { type Resource, resource, services } from '../kube/resources.ts';
import type { KubeObject } from '../kube/types.ts';

export type Called = {
  /** Addresses of the API server. */
  readonly from: readonly Ip[];
  readonly services: readonly {
    /** As `webhook NAME`. */
    readonly by: string;
    readonly namespace: string;
    readonly selector: Readonly<Record<string, string>>;
    /** Ports of the pods, by number or name. */
    readonly ports: readonly (number | string)[];
  }[];
};

type Reference = { namespace?: string; name?: string; port?: number };
type Configuration = KubeObject & { webhooks?: { name?: string; clientConfig?: { service?: Reference } }[] };
type ApiService = KubeObject & { spec?: { service?: Reference } };
type Slice = KubeObject & { endpoints?: { addresses?: string[] }[] };
type Served = KubeObject & {
  spec?: {
    selector?: Record<string, string>;
    ports?: { port: number; targetPort?: number | string }[];
  };
};

const admission = (plural: string, kind: string) =>
  resource<Configuration>('admissionregistration.k8s.io/v1', plural, kind, 'Cluster');
const validating = admission('validatingwebhookconfigurations', 'ValidatingWebhookConfiguration');
const mutating = admission('mutatingwebhookconfigurations', 'MutatingWebhookConfiguration');
const apiServices = resource<ApiService>('apiregistration.k8s.io/v1', 'apiservices', 'APIService', 'Cluster');
const slices = resource<Slice>('discovery.k8s.io/v1', 'endpointslices', 'EndpointSlice', 'Namespaced');

/** What a reference without a port means. */
const DEFAULT_PORT = 443;

export async function readCalled(
  list: <T extends KubeObject>(kind: Resource<T>) => Promise<T[]>,
): Promise<Called> {
  const some = async <T extends KubeObject>(kind: Resource<T>): Promise<T[]> => {
    try {
      return await list(kind);
    } catch (error) {
      if (error instanceof KubeError && [403, 404].includes(error.code)) return [];
      throw error;
    }
  };
  const [webhooks, aggregated, all, ends] = await Promise.all([
    Promise.all([some(validating), some(mutating)]),
    some(apiServices),
    some(services as unknown as Resource<Served>),
    some(slices),
  ]);
  const references = [
    ...webhooks
      .flat()
      .flatMap((one) => one.webhooks ?? [])
      .map(({ name, clientConfig }) => ({ by: `webhook ${name}`, to: clientConfig?.service })),
    ...aggregated.map(({ metadata, spec }) => ({ by: `API ${metadata.name}`, to: spec?.service })),
  ];
  const byKey = new Map(all.map((one) => [`${one.metadata.namespace}/${one.metadata.name}`, one]));
  return {
    from: ends
      .filter(
        ({ metadata: { namespace, labels } }) =>
          namespace === 'default' && labels?.['kubernetes.io/service-name'] === 'kubernetes',
      )
      .flatMap(({ endpoints = [] }) => endpoints.flatMap(({ addresses = [] }) => addresses.map(parseIp))),
    services: references.flatMap(({ by, to }) => {
      const { selector, ports = [] } = byKey.get(`${to?.namespace}/${to?.name}`)?.spec ?? {};
      if (!to?.namespace || !selector) return [];
      const its = ports.filter(({ port }) => port === (to.port ?? DEFAULT_PORT));
      return [
        {
          by,
          namespace: to.namespace,
          selector,
          ports: its.map(({ port, targetPort }) => targetPort ?? port),
        },
      ];
    }),
  };
}
