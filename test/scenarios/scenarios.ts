// Our own scenarios, from one source for the lab's own cluster (test/e2e/scenarios.test.ts) and for one of real kubelets
// (npm run test:kubernetes): what an operator would look at. Each throws what it saw. They run in this order and share one
// namespace; later ones ask the pods of the first.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { eventually } from '../support/wait.ts';
import { type Cluster, type Feature, NAMESPACE, READY_BOUND_MS } from './cluster.ts';
import { deployment, job, PORT, podOf, server, serviceOf, shell } from './objects.ts';

const HOST_PORT = 30_080;
const SHORT_PODS = 50;
/** Of node-local DNS, and of EKS Pod Identity's agent. */
const OWN_ADDRESSES = ['169.254.20.10', '169.254.170.23'];

export type Scenario = { name: string; needs?: Feature; run(cluster: Cluster): Promise<void> };

export const scenarios = (count: number): Scenario[] => [
  {
    name: `a Deployment of ${count} pods runs on both nodes, each pod with an address that EC2 lists on an ENI of its node`,
    async run(cluster) {
      await cluster.apply(deployment('web', count), serviceOf('web'));
      await cluster.kubectl('rollout', 'status', 'deployment/web', `--timeout=${READY_BOUND_MS / 1000}s`);
      const pods = await cluster.pods('app=web');
      assert.equal(pods.length, count);
      assert.equal(new Set(pods.map((pod) => pod.ip)).size, count, 'every pod has an address of its own');
      for (const { name, instance } of await cluster.nodes()) {
        const onNode = pods.filter((pod) => pod.node === name);
        const listed = await cluster.listed(instance);
        assert.ok(onNode.length > 0, `${name} runs none of the pods`);
        for (const pod of onNode)
          assert.ok(listed.has(pod.ip), `${pod.ip} of ${pod.name} is on no ENI of ${name}`);
      }
    },
  },
  {
    name: "a pod reaches every other by its address and is seen by its own, on its node and on the other's, and so do nodes",
    async run(cluster) {
      const pods = await cluster.pods('app=web');
      for (const { name: node, ip } of await cluster.nodes()) {
        const from = pods.find((pod) => pod.node === node)!;
        const others = pods.filter((pod) => pod !== from);
        const asked = others.map((pod) => ({ host: pod.ip, port: PORT }));
        assert.deepEqual(
          await cluster.ask(from.name, ...asked),
          others.map((pod) => `${pod.name} ${from.ip}`),
          `${from.name} on ${node}`,
        );
        assert.deepEqual(
          await cluster.ask(node, ...asked),
          others.map((pod) => `${pod.name} ${ip}`),
          node,
        );
      }
    },
  },
  {
    name: 'a Service answers by its name, from pods of both nodes',
    needs: 'services',
    async run(cluster) {
      const pods = await cluster.pods('app=web');
      await cluster.apply(podOf('curl', undefined, shell('sleep 3600')));
      await cluster.ready('curl');
      const url = `http://web.${NAMESPACE}.svc.cluster.local/`;
      const nodes = new Set<string>();
      await eventually('pods of both nodes answer', async () => {
        const answer = await cluster.kubectl('exec', 'curl', '--', 'curl', '-gsS', '-m', '5', url);
        const pod = pods.find((each) => each.name === answer.split(' ')[0]);
        assert.ok(pod, `${answer} is of none of the pods`);
        return nodes.add(pod.node).size === 2;
      });
    },
  },
  {
    name: "hostPort answers on the pod's node, asked from a pod and a node, there and on the other",
    needs: 'hostPort',
    async run(cluster) {
      const ports = [{ containerPort: PORT, hostPort: HOST_PORT }];
      const [first, second] = await cluster.nodes();
      await cluster.apply(podOf('door', first!.name, server({ ports })));
      await cluster.ready('door');
      const pods = await cluster.pods('app=web');
      const near = pods.find((pod) => pod.node === first!.name)!;
      const far = pods.find((pod) => pod.node === second!.name)!;
      const door = { host: first!.ip, port: HOST_PORT };
      assert.deepEqual(await cluster.ask(far.name, door), [`door ${far.ip}`]);
      assert.deepEqual(await cluster.ask(second!.name, door), [`door ${second!.ip}`]);
      for (const [from, host] of [
        [near.name, first!.ip],
        [first!.name, first!.ip],
        [first!.name, '127.0.0.1'],
      ] as const) {
        const [answer] = await cluster.ask(from, { host, port: HOST_PORT });
        assert.match(answer!, /^door /, `${from} asks ${host}`);
      }
    },
  },
  {
    name: 'probes by HTTP and TCP reach a pod: one that answers is Ready and not restarted, one that does not is neither',
    needs: 'probes',
    async run(cluster) {
      const probe = (port: number) => ({
        startupProbe: { tcpSocket: { port: PORT }, periodSeconds: 1 },
        readinessProbe: { httpGet: { path: '/', port }, periodSeconds: 1 },
        livenessProbe: { httpGet: { path: '/', port: PORT }, periodSeconds: 1, failureThreshold: 2 },
      });
      const names = (await cluster.nodes()).map(({ name }) => [`probed-${name}`, name] as const);
      await cluster.apply(
        ...names.map(([pod, node]) => podOf(pod, node, server(probe(PORT)))),
        podOf('deaf', names[0]![1], server(probe(PORT + 1))),
      );
      await cluster.ready(...names.map(([pod]) => pod));
      const told = async (pod: string) => {
        const status = JSON.parse(await cluster.kubectl('get', 'pod', pod, '-o', 'json')).status;
        const [{ ready, restartCount, started }] = status.containerStatuses;
        return { ready, restartCount, started };
      };
      await eventually('the third has started', async () => (await told('deaf')).started);
      assert.deepEqual(await told('deaf'), { ready: false, restartCount: 0, started: true });
      for (const [pod] of names)
        assert.deepEqual(await told(pod), { ready: true, restartCount: 0, started: true });
    },
  },
  {
    name: 'kubectl exec, logs, cp and port-forward',
    async run(cluster) {
      await cluster.apply(podOf('tools', undefined, shell('echo started; exec sleep 3600')));
      await cluster.ready('tools');
      const [tools] = await cluster.pods('app=tools');
      const shown = await cluster.kubectl('exec', 'tools', '--', 'ip', '-o', 'addr', 'show', 'eth0');
      assert.ok(shown.includes(` ${tools!.ip}/32 `), shown);
      await eventually('it has spoken', async () => (await cluster.kubectl('logs', 'tools')) === 'started\n');
      const copy = `/tmp/podway-scenario-${process.pid}`;
      try {
        await cluster.kubectl('cp', import.meta.filename, `tools:${copy}`);
        assert.equal(
          await cluster.kubectl('exec', 'tools', '--', 'cat', copy),
          readFileSync(import.meta.filename, 'utf8'),
        );
      } finally {
        await cluster.kubectl('exec', 'tools', '--', 'rm', '-f', copy);
      }
      const [pod] = await cluster.pods('app=web');
      assert.equal(await forwarded(cluster, pod!.name), `${pod!.name} 127.0.0.1`);
    },
  },
  {
    name: 'the containers of a pod talk over localhost and have one address',
    needs: 'containers',
    async run(cluster) {
      const second = server({ name: 'second', args: ['--name', 'second', '--port', `${PORT + 1}`] });
      await cluster.apply(podOf('three', undefined, server(), second, shell('sleep 3600')));
      await cluster.ready('three');
      const { ip } = (await cluster.pods('app=three'))[0]!;
      const curl = (host: string, port: number) =>
        cluster.kubectl(
          'exec',
          'three',
          '-c',
          'shell',
          '--',
          'curl',
          '-gsS',
          '-m',
          '5',
          `http://${host}:${port}/`,
        );
      assert.equal((await curl('127.0.0.1', PORT)).trim(), 'three 127.0.0.1');
      assert.equal((await curl('localhost', PORT + 1)).trim(), 'second 127.0.0.1');
      assert.equal((await curl(ip, PORT + 1)).trim(), `second ${ip}`);
      const [web] = await cluster.pods('app=web');
      const asked = [PORT, PORT + 1].map((port) => ({ host: ip, port }));
      assert.deepEqual(await cluster.ask(web!.name, ...asked), [`three ${web!.ip}`, `second ${web!.ip}`]);
    },
  },
  {
    name: 'a static pod has an address as any other, and ends with its file',
    needs: 'static pods',
    async run(cluster) {
      const [, { name: node }] = (await cluster.nodes()) as [unknown, { name: string }];
      const [web] = await cluster.pods('app=web');
      cluster.staticPod(node, 'fixed', podOf('fixed', undefined, server()));
      try {
        const pod = await eventually(
          'kubelet shows it',
          async () => (await cluster.pods('app=fixed')).find(({ ip }) => ip !== ''),
          120_000,
        );
        assert.equal(pod.name, `fixed-${node}`);
        await eventually('it answers', async () => {
          const [answer] = await cluster.ask(web!.name, { host: pod.ip, port: PORT });
          return answer === `${pod.name} ${web!.ip}`;
        });
      } finally {
        cluster.staticPod(node, 'fixed', null);
      }
      await eventually('it is gone', async () => (await cluster.pods('app=fixed')).length === 0, 120_000);
    },
  },
  {
    name: "a pod on the host network has its node's address; pods reach it by that, and by the node's own link-local ones",
    async run(cluster) {
      const [node] = await cluster.nodes();
      const pods = await cluster.pods('app=web');
      const near = pods.find((pod) => pod.node === node!.name)!;
      const far = pods.find((pod) => pod.node !== node!.name)!;
      const pod = podOf('host', node!.name, server());
      await cluster.apply({ ...pod, spec: { ...pod.spec, hostNetwork: true } });
      await cluster.ready('host');
      assert.equal((await cluster.pods('app=host'))[0]!.ip, node!.ip);
      for (const from of [near, far])
        assert.deepEqual(await cluster.ask(from.name, { host: node!.ip, port: PORT }), [`host ${from.ip}`]);
      assert.deepEqual(await cluster.ask(node!.name, { host: far.ip, port: PORT }), [
        `${far.name} ${node!.ip}`,
      ]);
      // As the agents of node-local DNS and of Pod Identity make it, but for the link's kind: not every kernel has dummy.
      await cluster.on(node!.name, 'ip', 'link', 'add', 'own', 'type', 'bridge');
      try {
        for (const address of OWN_ADDRESSES)
          await cluster.on(node!.name, 'ip', 'addr', 'add', `${address}/32`, 'dev', 'own');
        const asked = OWN_ADDRESSES.flatMap((host) =>
          (['tcp', 'udp'] as const).map((protocol) => ({ protocol, host, port: PORT })),
        );
        const answers = await cluster.ask(near.name, ...asked);
        assert.deepEqual(
          answers,
          asked.map(() => `host ${near.ip}`),
        );
      } finally {
        await cluster.on(node!.name, 'ip', 'link', 'del', 'own');
      }
      await cluster.kubectl('delete', 'pod', 'host', '--wait');
    },
  },
  {
    name: `a Job of ${SHORT_PODS} short pods ends, and their addresses come back`,
    async run(cluster) {
      await cluster.apply(job('short', SHORT_PODS));
      await cluster.kubectl('wait', '--for=condition=Complete', 'job/short', '--timeout=280s');
      await cluster.kubectl('delete', 'job', 'short', '--wait');
      await cluster.agreed();
    },
  },
  {
    name: 'podway connectivity test',
    async run(cluster) {
      await cluster.podway('connectivity', 'test');
    },
  },
  {
    name: 'when the pods are deleted, journal, kernel, EC2 and API agree that none is held',
    async run(cluster) {
      await cluster.kubectl('delete', 'deployment/web', 'service/web', '--wait');
      await cluster.kubectl('delete', 'pods', '--all', '--wait');
      await eventually('the pods are gone', async () => (await cluster.pods('')).length === 0, 120_000);
      await cluster.agreed();
    },
  },
];

/** What the pod answers through a port of this machine. */
async function forwarded(cluster: Cluster, pod: string): Promise<string> {
  const [program, ...args] = cluster.command('port-forward', `pod/${pod}`, `:${PORT}`);
  const child = spawn(program!, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  try {
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
    const port = await eventually(
      'kubectl forwards a port',
      () => /127\.0\.0\.1:(\d+) ->/.exec(said)?.[1],
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${said}`);
    });
    const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(20_000) });
    return (await answer.text()).trim();
  } finally {
    child.kill('SIGKILL');
  }
}
