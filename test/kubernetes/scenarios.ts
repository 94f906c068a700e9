// Our own scenarios on a cluster with real kubelets: what an operator would look at. Each asks the cluster by kubectl and
// EC2 by the stock client, and throws what it saw. They run in this order and share one namespace, which goes at the end.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { DescribeNetworkInterfacesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { labImage } from '../../src/lab/kubernetes/images.ts';
import { execute, executeOk, PODWAY, told } from '../e2e/command.ts';
import { eventually } from '../support/wait.ts';
import type { Case } from './junit.ts';

const NAMESPACE = 'scenarios';
const PODS = 20;
const PORT = 8080;
const HOST_PORT = 30_080;
const SHORT_PODS = 50;
/** Pods of a Deployment on two cores that others use too. */
const READY_BOUND_MS = 300_000;

export type Cluster = { lab: string; kubectl: string; kubeconfig: string };
type Pod = { name: string; node: string; ip: string };

class Asker {
  readonly cluster: Cluster;
  constructor(cluster: Cluster) {
    this.cluster = cluster;
  }

  #command = (args: string[]): string[] => {
    const { kubectl, kubeconfig } = this.cluster;
    return [kubectl, '--kubeconfig', kubeconfig, '-n', NAMESPACE, ...args];
  };

  kubectl = (args: string[], boundMs = READY_BOUND_MS): Promise<string> =>
    executeOk(this.#command(args), {}, boundMs);

  async create(object: object): Promise<void> {
    const child = spawn(this.#command([])[0]!, this.#command(['apply', '-f', '-']).slice(1), {
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    child.stdin.end(JSON.stringify(object));
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    if (code !== 0) throw new Error(`kubectl apply: exit ${code}: ${said}`);
  }

  async pods(selector: string): Promise<Pod[]> {
    const { items } = JSON.parse(await this.kubectl(['get', 'pods', '-l', selector, '-o', 'json'])) as {
      items: { metadata: { name: string }; spec: { nodeName: string }; status: { podIP?: string } }[];
    };
    return items.map((pod) => ({
      name: pod.metadata.name,
      node: pod.spec.nodeName,
      ip: pod.status.podIP ?? '',
    }));
  }

  async nodes(): Promise<{ name: string; ip: string; instance: string }[]> {
    const { items } = JSON.parse(await this.kubectl(['get', 'nodes', '-o', 'json'])) as {
      items: {
        metadata: { name: string };
        spec: { providerID: string };
        status: { addresses: { type: string; address: string }[] };
      }[];
    };
    return items.map((node) => ({
      name: node.metadata.name,
      ip: node.status.addresses.find((each) => each.type === 'InternalIP')!.address,
      instance: node.spec.providerID.split('/').at(-1)!,
    }));
  }

  /** In a pod; curl gives up after five seconds. */
  curl = async (pod: string, url: string): Promise<string> =>
    (await this.kubectl(['exec', pod, '--', 'curl', '-gsS', '-m', '5', url])).trim();

  podway = (...args: string[]): Promise<string> =>
    executeOk([PODWAY, ...args, '--lab', this.cluster.lab], {}, READY_BOUND_MS);

  /** Addresses that EC2 lists on the ENIs of an instance. */
  async listed(instance: string): Promise<Set<string>> {
    const env = JSON.parse(await this.podway('lab', 'env', '-o', 'json')) as Record<string, string>;
    const ec2 = new EC2Client({
      endpoint: env['AWS_ENDPOINT_URL_EC2']!,
      region: env['AWS_REGION']!,
      credentials: {
        accessKeyId: env['AWS_ACCESS_KEY_ID']!,
        secretAccessKey: env['AWS_SECRET_ACCESS_KEY']!,
      },
    });
    try {
      const { NetworkInterfaces } = await ec2.send(
        new DescribeNetworkInterfacesCommand({
          Filters: [{ Name: 'attachment.instance-id', Values: [instance] }],
        }),
      );
      return new Set(
        NetworkInterfaces!.flatMap((eni) => eni.PrivateIpAddresses!.map((each) => each.PrivateIpAddress!)),
      );
    } finally {
      ec2.destroy();
    }
  }
}

const container = (args: string[], more: object = {}) => ({
  name: 'main',
  image: labImage('agnhost'),
  imagePullPolicy: 'Never',
  args,
  ...more,
});

const server = (more: object = {}) =>
  container(['netexec', `--http-port=${PORT}`], {
    readinessProbe: { httpGet: { path: '/healthz', port: PORT }, periodSeconds: 1 },
    ...more,
  });

type Scenario = { name: string; run(ask: Asker): Promise<void> };

/** In their order: later ones ask the pods of the first. */
export const scenarios = (count: number): Scenario[] => [
  {
    name: `a Deployment of ${count} pods runs on both nodes, each pod with an address that EC2 lists on an ENI of its node`,
    async run(ask) {
      const labels = { app: 'web' };
      await ask.create({
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'web' },
        spec: {
          replicas: count,
          selector: { matchLabels: labels },
          template: {
            metadata: { labels },
            spec: { terminationGracePeriodSeconds: 1, containers: [server()] },
          },
        },
      });
      await ask.create({
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { name: 'web' },
        spec: { selector: labels, ports: [{ port: 80, targetPort: PORT }] },
      });
      await ask.kubectl(['rollout', 'status', 'deployment/web', `--timeout=${READY_BOUND_MS / 1000}s`]);
      const pods = await ask.pods('app=web');
      assert.equal(pods.length, count);
      assert.equal(new Set(pods.map((pod) => pod.ip)).size, count, 'every pod has an address of its own');
      for (const { name, instance } of await ask.nodes()) {
        const onNode = pods.filter((pod) => pod.node === name);
        const listed = await ask.listed(instance);
        assert.ok(onNode.length > 0, `${name} runs none of the pods`);
        for (const pod of onNode)
          assert.ok(listed.has(pod.ip), `${pod.ip} of ${pod.name} is on no ENI of ${name}`);
      }
    },
  },
  {
    name: "a pod reaches every other by its address and is seen by its own, on its node and on the other's",
    async run(ask) {
      const pods = await ask.pods('app=web');
      for (const node of new Set(pods.map((pod) => pod.node))) {
        const from = pods.find((pod) => pod.node === node)!;
        for (const to of pods.filter((pod) => pod !== from))
          assert.equal(
            (await ask.curl(from.name, `http://${to.ip}:${PORT}/clientip`)).replace(/:\d+$/, ''),
            from.ip,
            `${from.name} on ${from.node} to ${to.name} on ${to.node}`,
          );
      }
    },
  },
  {
    name: 'a Service answers by its name, from pods of both nodes',
    async run(ask) {
      const pods = await ask.pods('app=web');
      const nodes = new Set<string>();
      await eventually('pods of both nodes answer', async () => {
        const name = await ask.curl(pods[0]!.name, `http://web.${NAMESPACE}.svc.cluster.local/hostname`);
        const pod = pods.find((each) => each.name === name);
        assert.ok(pod, `${name} is none of the pods`);
        return nodes.add(pod.node).size === 2;
      });
    },
  },
  {
    name: "hostPort answers on the pod's node, asked from a pod there and from the other node",
    async run(ask) {
      const ports = [{ containerPort: PORT, hostPort: HOST_PORT }];
      await ask.create({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: 'door', labels: { app: 'door' } },
        spec: { terminationGracePeriodSeconds: 1, containers: [server({ ports })] },
      });
      await ask.kubectl(['wait', '--for=condition=Ready', 'pod/door', '--timeout=120s']);
      const [door] = await ask.pods('app=door');
      const node = (await ask.nodes()).find((each) => each.name === door!.node)!;
      const pods = await ask.pods('app=web');
      for (const near of [true, false]) {
        const from = pods.find((pod) => (pod.node === node.name) === near)!;
        const answer = await ask.curl(from.name, `http://${node.ip}:${HOST_PORT}/hostname`);
        assert.equal(answer, 'door', `from ${from.name} on ${from.node} to ${node.ip}:${HOST_PORT}`);
      }
    },
  },
  {
    name: 'kubectl logs, cp and port-forward',
    async run(ask) {
      const [pod] = await ask.pods('app=web');
      assert.match(await ask.kubectl(['logs', pod!.name]), /http/i);
      await ask.kubectl(['cp', process.argv[1]!, `${pod!.name}:/tmp/copied`]);
      assert.match(await ask.kubectl(['exec', pod!.name, '--', 'ls', '-l', '/tmp/copied']), /copied/);
      assert.equal(await forwarded(ask, pod!.name), pod!.name);
    },
  },
  {
    name: `a Job of ${SHORT_PODS} short pods ends, and their addresses come back`,
    async run(ask) {
      await ask.create({
        apiVersion: 'batch/v1',
        kind: 'Job',
        metadata: { name: 'short' },
        spec: {
          completions: SHORT_PODS,
          parallelism: 10,
          template: {
            spec: { restartPolicy: 'Never', containers: [{ ...container([]), command: ['/bin/true'] }] },
          },
        },
      });
      await ask.kubectl(['wait', '--for=condition=Complete', 'job/short', '--timeout=280s']);
      await ask.kubectl(['delete', 'job', 'short', '--wait']);
      await agreed(ask);
    },
  },
  {
    name: 'podway connectivity test',
    async run(ask) {
      await ask.podway('connectivity', 'test');
    },
  },
  {
    name: 'when the pods are deleted, journal, kernel, EC2 and API agree that none is held',
    async run(ask) {
      await ask.kubectl(['delete', 'deployment/web', 'pod/door', '--wait']);
      await eventually(
        'the pods are gone',
        async () => (await ask.pods('app in (web, door)')).length === 0,
        120_000,
      );
      await agreed(ask);
    },
  },
];

async function agreed(ask: Asker): Promise<void> {
  const command = [PODWAY, 'ipam', 'check', '--lab', ask.cluster.lab];
  let last = '';
  await eventually(
    'ipam check is clean',
    async () => {
      const ran = await execute(command);
      last = told(command, ran);
      return ran.code === 0;
    },
    90_000,
  ).catch((error: Error) => {
    throw new Error(`${error.message}\n${last}`);
  });
}

/** What the pod answers through a port of this machine. */
async function forwarded({ cluster }: Asker, pod: string): Promise<string> {
  const args = ['--kubeconfig', cluster.kubeconfig, '-n', NAMESPACE, 'port-forward', pod, `:${PORT}`];
  const child = spawn(cluster.kubectl, args, { stdio: ['ignore', 'pipe', 'pipe'] });
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
    const answer = await fetch(`http://127.0.0.1:${port}/hostname`, { signal: AbortSignal.timeout(20_000) });
    return (await answer.text()).trim();
  } finally {
    child.kill('SIGKILL');
  }
}

/** Runs all; one that fails does not end the others. */
export async function runScenarios(cluster: Cluster, chosen: Scenario[] = scenarios(PODS)): Promise<Case[]> {
  const ask = new Asker(cluster);
  await execute([cluster.kubectl, '--kubeconfig', cluster.kubeconfig, 'create', 'namespace', NAMESPACE]);
  const cases: Case[] = [];
  try {
    for (const { name, run } of chosen) {
      const started = performance.now();
      const failure = await run(ask).then(
        () => undefined,
        (error: Error) => error,
      );
      const seconds = (performance.now() - started) / 1000;
      cases.push(
        failure
          ? { name, state: 'failed', seconds, message: failure.message.split('\n').slice(0, 3).join(' | ') }
          : { name, state: 'passed', seconds },
      );
      console.log(`  ${failure ? 'FAILED' : 'ok'} ${Math.round(seconds)} s: ${name}`);
      if (failure) console.log(`    ${failure.message.replaceAll('\n', '\n    ')}`);
    }
  } finally {
    await ask.kubectl(['delete', 'namespace', NAMESPACE, '--wait']);
  }
  return cases;
}
