// Policies as large as they may be, on a real kernel: long lists of nested CIDRs, of ports, of rules and of selectors. What
// they say is enforced, and a small policy beside them is as before.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatIp, parseIp } from '../base/ip.ts';
import { needsRoot } from '../kernel/testing.ts';
import { bring } from './bring.ts';
import { compile } from './compile.ts';
import { decodeNetworkPolicy } from './decode.ts';
import { evaluate, type Packet } from './evaluate.ts';
import { PolicyKernel } from './kernel.ts';
import { type PodView, type Policy, TCP, UDP } from './model.ts';
import { Numbers } from './numbers.ts';
import { Renderer } from './render.ts';
import { PacketRange } from './testing.ts';

const podAt = (name: string, at: number): PodView => ({
  ...{ namespace: 'x', name, uid: name, labels: { pod: name }, node: 'here', ports: [] },
  ...{ hostNetwork: false, ended: false, ips: [parseIp(`10.0.0.${at}`), parseIp(`fd00::${at}`)] },
});
const pods = [podAt('small', 1), podAt('large', 2), podAt('peer', 3)];
const namespaces = new Map([['x', { ns: 'x' }]]);

function policy(name: string, pod: string, ingress: object[]): Policy {
  const { policy: made, problems } = decodeNetworkPolicy({
    metadata: { namespace: 'x', name },
    spec: { podSelector: { matchLabels: { pod } }, policyTypes: ['Ingress'], ingress },
  });
  assert.deepEqual(problems, []);
  return made!;
}
const small = policy('small', 'small', [
  { from: [{ podSelector: { matchLabels: { pod: 'peer' } } }], ports: [{ port: 80 }] },
]);
const times = <T>(count: number, make: (at: number) => T): T[] =>
  Array.from({ length: count }, (_, at) => make(at));

const shapes: Record<string, object[]> = {
  '10,000 single addresses': [
    { from: times(10_000, (at) => ({ ipBlock: { cidr: `11.${at >> 8}.${at & 255}.${at % 251}/32` } })) },
  ],
  '1,500 nested blocks with exceptions, each rule its port': times(30, (rule) => ({
    ports: [{ port: 70 + rule }],
    from: times(50, (at) => ({
      ipBlock: {
        cidr: `10.0.0.0/${8 + ((rule + at) % 20)}`,
        except: [`10.0.0.${(rule * 50 + at) % 16}/${28 + (at % 5)}`].filter((text) => !/\/28$/.test(text)),
      },
    })),
  })),
  '10,000 ports': [
    { ports: times(10_000, (at) => ({ port: 1 + at * 2, protocol: at % 3 ? 'TCP' : 'UDP' })) },
  ],
  '5,000 ranges of ports': [{ ports: times(5_000, (at) => ({ port: 1 + at * 7, endPort: 4 + at * 7 })) }],
  '2,000 rules of selectors': times(2_000, (at) => ({
    from: [{ podSelector: { matchLabels: { pod: at % 7 ? `nobody-${at}` : 'peer' } } }],
    ports: [{ port: 1 + at }],
  })),
};

const packets: Packet[] = ['small', 'large'].flatMap((_, to) =>
  [3, 7, 200].flatMap((from) =>
    [TCP, UDP].flatMap((protocol) =>
      [1, 2, 4, 6, 71, 80, 95, 1_001, 9_999, 19_998, 34_000].flatMap((port) => [
        { src: parseIp(`10.0.0.${from}`), dst: pods[to]!.ips[0]!, protocol, port },
        { src: parseIp(`fd00::${from}`), dst: pods[to]!.ips[1]!, protocol, port },
        { src: parseIp(`11.0.${from}.${from}`), dst: pods[to]!.ips[0]!, protocol, port },
      ]),
    ),
  ),
);
const textOf = ({ src, dst, protocol, port }: Packet) =>
  `${formatIp(src)} > ${formatIp(dst)} ${protocol}:${port}`;

describe('large policies on a real kernel', needsRoot, () => {
  // All of them in test:soak.
  const chosen = Object.entries(shapes).filter((_, at) => process.env['PODWAY_SOAK'] === '1' || at % 2 === 1);
  for (const [title, ingress] of chosen)
    it(`${title}: enforced, and others as before`, async () => {
      using range = new PacketRange();
      const kernel = new PolicyKernel(range.router);
      try {
        const renderer = new Renderer(new Numbers());
        const programOf = (policies: Policy[]) =>
          compile({ node: 'here', policies, namespaces, pods, held: new Map() });
        await bring(kernel, renderer.render(programOf([small])));
        // Beside the small one, then without it, then alone again: by changes.
        for (const policies of [
          [small, policy('large', 'large', ingress)],
          [policy('large', 'large', ingress)],
          [small],
        ]) {
          const program = programOf(policies);
          const { drop } = await bring(kernel, renderer.render(program));
          await drop?.();
          const came = range.send(packets);
          const wrong = packets.filter(
            (one, at) => (evaluate(program, one).verdict === 'allow') !== came[at],
          );
          assert.deepEqual(wrong.map(textOf), []);
        }
      } finally {
        await kernel.close();
      }
    });
});
