// Nodes as peers: servers in the nodes' own namespaces, where the conformance tests have a pod on the host's network.
import type { Socket } from 'node:net';
import { formatIp } from '../../src/base/ip.ts';
import { nodeOf, type PolicyGround } from './policy-ground.ts';
import { familyOfIp, Place, PROTOCOLS, type Protocol, probe } from './policy-probes.ts';
import { eventually } from './wait.ts';

export const NODE_PORTS = [34_345, 34_346, 34_347] as const;

/** Waits until the pods of a namespace reach other nodes as `may` says; their own they always reach. */
export async function expectToNodes(
  ground: PolicyGround,
  { what, ns, may }: { what: string; ns: string; may: (port: number, protocol: Protocol) => boolean },
): Promise<void> {
  const onAccept = (_from: string, _port: number, socket: Socket) => void socket.end('.');
  const nodes = await ground.nodes();
  const places = nodes.map(
    ({ name, netnsPath, ips }) => new Place(name, netnsPath, ips, { ports: NODE_PORTS, onAccept }),
  );
  const senders = ground.places.filter(({ key }) => key.startsWith(`${ns}/`));
  const asks = senders.flatMap((from) =>
    places.flatMap((to) => {
      const families = new Set(from.ips.map(familyOfIp));
      const addresses = to.ips.filter((ip) => families.has(familyOfIp(ip)));
      return addresses.flatMap((address) =>
        PROTOCOLS.flatMap((protocol) => NODE_PORTS.map((port) => ({ from, to, address, protocol, port }))),
      );
    }),
  );
  try {
    await eventually(what, async () => {
      const came = await probe(asks);
      const wrong = asks.filter(({ from, to, port, protocol }, at) => {
        const isOwn = nodeOf(from.key) === to.key;
        return came[at] !== (isOwn || may(port, protocol));
      });
      if (wrong.length === 0) return true;
      const texts = wrong.map(
        ({ from, to, address, protocol, port }) =>
          `${from.key} > ${to.key} (${formatIp(address)}) ${protocol} ${port}`,
      );
      throw new Error(`${texts.length} do otherwise:\n${texts.slice(0, 8).join('\n')}`);
    });
  } finally {
    for (const place of places) place.close();
  }
}
