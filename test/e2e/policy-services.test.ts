// Policies through Services, by kube-proxy itself on the nodes of a lab with the embedded API: what is judged is who
// receives, whichever way leads there. And: kube-proxy killed and started again under traffic.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { DiscoveryV1Api, type V1NetworkPolicy } from '@kubernetes/client-node';
import { formatIp, parseIp } from '../../src/base/ip.ts';
import { KubeProxies, lacksKubeProxy } from '../support/kube-proxy.ts';
import { INTERNET } from '../support/neighbours.ts';
import { hosts, runCase } from '../support/policy-case.ts';
import { PORTS, PolicyGround } from '../support/policy-ground.ts';
import { familyOfIp, PROTOCOLS, probe } from '../support/policy-probes.ts';
import { PodServices, throughServices } from '../support/policy-services.ts';
import { Talk } from '../support/policy-talk.ts';
import { eventually } from '../support/wait.ts';
import { PROBE, skip } from './command.ts';
import { Lab } from './lab.ts';

const NODE_PORT = 30_080;

describe('policies through Services', { skip: skip || lacksKubeProxy, timeout: 200_000 }, () => {
  const lab = new Lab('pol-svc');
  const ground = new PolicyGround(lab);
  let proxies: KubeProxies | undefined;
  let nodeIps: Record<string, string>;
  const vips = new PodServices(ground);
  const vipOf = vips.of;

  const service = vips.make;
  const slice = (namespace: string, name: string, address: string, port: number) =>
    lab.kube().then((config) =>
      config.makeApiClient(DiscoveryV1Api).createNamespacedEndpointSlice({
        namespace,
        body: {
          metadata: { name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
          addressType: address.includes(':') ? 'IPv6' : 'IPv4',
          endpoints: [{ addresses: [address], conditions: { ready: true } }],
          ports: [{ name: 'web', port, protocol: 'TCP' }],
        },
      }),
    );
  const reaches = async (from: string, to: string, address: string, port: number): Promise<boolean> => {
    const ask = { from: ground.place(from), to: ground.place(to), address: parseIp(address), port };
    return (await probe([{ ...ask, protocol: 'TCP' }]))[0]!;
  };
  /** x/a may send to these alone. */
  const onlyTo = (...keys: string[]): V1NetworkPolicy => ({
    metadata: { namespace: 'x', name: 'only' },
    spec: {
      podSelector: { matchLabels: { pod: 'a' } },
      policyTypes: ['Egress'],
      egress: keys.length === 0 ? [] : [{ to: hosts(ground, ...keys) }],
    },
  });

  before(async () => {
    await lab.up();
    await ground.start();
    await vips.ofAll();
    const { nodes } = await lab.status();
    nodeIps = Object.fromEntries(nodes.map(({ name, ips }) => [name, ips[0]!]));
    proxies = new KubeProxies(lab.name, nodes, 'nftables');
    proxies.start();
    ground.via = vipOf;
    await eventually(
      'each pod answers by its Service',
      async () => (await ground.differences(PROTOCOLS, PORTS, () => true)).length === 0,
    ).catch((error) => assert.fail(`${error}\n${proxies?.said}`));
  });
  after(async () => {
    await proxies?.remove();
    ground.close();
    await lab.down();
  });

  for (const one of throughServices)
    it(`${one.id} ${one.title}, through Services`, () => runCase(ground, one));

  it('X05 a pod through its own Service is judged as any two pods', async () => {
    const own = async () => {
      const all = ground.places.filter(({ key }) => key.startsWith('x/'));
      const asks = all.flatMap((place) =>
        place.ips.flatMap((ip) => {
          const address = vipOf(place.key, familyOfIp(ip));
          return address === undefined
            ? []
            : [{ from: place, to: place, address, protocol: 'TCP' as const, port: 80 }];
        }),
      );
      return (await probe(asks)).every((one) => one);
    };
    await ground.policies([]);
    await eventually('without policies it reaches itself', own);
    await ground.policies([
      {
        metadata: { namespace: 'x', name: 'closed' },
        spec: { podSelector: {}, policyTypes: ['Ingress'], ingress: [] },
      },
    ]);
    await eventually('isolated it does not', async () => !(await own()));
    await ground.expectOwn('but by its own address');
  });

  it('X06 a Service without a selector, and the port of a node, are the pods that they lead to', async () => {
    await ground.policies([onlyTo('y/b')]);
    for (const key of ['y/a', 'y/b']) {
      const [namespace, pod] = key.split('/') as [string, string];
      const [vip] = await service(namespace, `bare-${pod}`, { ports: [{ name: 'web', port: 80 }] });
      await slice(namespace, `bare-${pod}`, ground.ipOf(key), 80);
      const nodePort = NODE_PORT + Number(pod === 'b');
      await service(namespace, `port-${pod}`, {
        ...{ type: 'NodePort', selector: { pod } },
        ports: [{ name: 'web', port: 80, nodePort }],
      });
      const may = key === 'y/b';
      // z/b has no policy: it shows when the rules are there.
      await eventually(`z/b reaches ${key}`, async () => {
        const bySelector = await reaches('z/b', key, formatIp(vip!), 80);
        return bySelector && (await reaches('z/b', key, nodeIps['node-1']!, nodePort));
      });
      assert.equal(await reaches('x/a', key, formatIp(vip!), 80), may, `${key} without a selector`);
      assert.equal(await reaches('x/a', key, nodeIps['node-1']!, nodePort), may, `${key} by its own node`);
    }
  });

  it('X07 an address outside behind a Service is judged as that address', async () => {
    const [vip] = await service('x', 'outside', { ports: [{ name: 'web', port: 80 }] });
    await slice('x', 'outside', INTERNET, 8080);
    // Not as long as the probe waits for what is dropped.
    const answers = async (pod: string) => {
      const asks = ['timeout', '1', PROBE, 'tcp', formatIp(vip!), '80'];
      return (await lab.podway('pod', 'exec', '-n', 'x', pod, '--', ...asks)).code === 0;
    };
    const to = (cidr: string): V1NetworkPolicy => ({
      ...onlyTo(),
      spec: { ...onlyTo().spec!, egress: [{ to: [{ ipBlock: { cidr } }] }] },
    });
    await ground.policies([to('203.0.113.0/24')]);
    await eventually('x/b reaches it', () => answers('b'));
    await eventually('x/a may', () => answers('a'));
    await ground.policies([to('198.51.100.0/24')]);
    await eventually('x/a may not', async () => !(await answers('a')));
  });

  it('kube-proxy killed and started again under traffic changes no verdict and ends no connection', async () => {
    ground.echoes = true;
    await ground.policies([onlyTo('y/b')]);
    await ground.expect('in force', PROTOCOLS, PORTS);
    const talks = [
      new Talk(ground, 'x/a', 'y/b', formatIp(vipOf('y/b', 4) ?? vipOf('y/b', 6)!)),
      new Talk(ground, 'z/a', 'x/a', formatIp(vipOf('x/a', 4) ?? vipOf('x/a', 6)!)),
    ];
    for (const talk of talks) await talk.says();
    await proxies!.kill();
    await ground.expectSteady('while it is away');
    proxies!.start();
    for (let look = 0; look < 6; look++) {
      await ground.expectSteady(`look ${look}`);
      for (const talk of talks) await talk.says();
    }
    for (const talk of talks) {
      assert.equal(talk.ended, false);
      talk.end();
    }
    ground.echoes = false;
  });
});
