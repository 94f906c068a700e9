// A Service for each pod of a ground, of all its ports and families: ways that lead to one pod.
import { type Ip, parseIp } from '../../src/base/ip.ts';
import { connectionCases } from './policy-cases-e1.ts';
import { changeCases } from './policy-cases-e2.ts';
import { PORTS, type PolicyGround } from './policy-ground.ts';
import { type Family, familyOfIp, PROTOCOLS } from './policy-probes.ts';

/** Of each kind one: ingress, egress, ports, named ports, addresses, the other protocols. */
const THROUGH = ['E01', 'E03', 'E14', 'E19', 'E28', 'E35', 'E43', 'E46'];
export const throughServices = [...connectionCases, ...changeCases].filter(({ id }) => THROUGH.includes(id));

const ports = PORTS.flatMap((port) =>
  PROTOCOLS.map((protocol) => ({ name: `s${port}-${protocol.toLowerCase()}`, port, protocol })),
);

export class PodServices {
  readonly #ground: PolicyGround;
  readonly #ips = new Map<string, readonly Ip[]>();

  constructor(ground: PolicyGround) {
    this.#ground = ground;
  }

  of = (key: string, family: Family): Ip | undefined =>
    this.#ips.get(key)?.find((ip) => familyOfIp(ip) === family);

  /** Answers its addresses. */
  make = async (namespace: string, name: string, spec: object): Promise<readonly Ip[]> => {
    const made = await this.#ground.core.createNamespacedService({
      namespace,
      body: { metadata: { name }, spec: { ipFamilyPolicy: 'PreferDualStack', ...spec } },
    });
    return (made.spec!.clusterIPs ?? [made.spec!.clusterIP!]).map(parseIp);
  };

  async ofAll(): Promise<void> {
    await Promise.all(
      this.#ground.places.map(async ({ key }) => {
        const [ns, pod] = key.split('/') as [string, string];
        this.#ips.set(key, await this.make(ns, pod, { selector: { pod }, ports }));
      }),
    );
  }
}
