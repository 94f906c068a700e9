// Pods as a Kubernetes client sees them come and go, over HTTPS with the lab's kubeconfig: by the stock JavaScript client
// and, where it is installed, by kubectl. Every address shown is one that EC2 lists on an ENI of that pod's node.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, before, test } from 'node:test';
import { DescribeNetworkInterfacesCommand, type EC2Client } from '@aws-sdk/client-ec2';
import { CoreV1Api, type KubeConfig, makeInformer, type V1Pod, Watch } from '@kubernetes/client-node';
import { eventually } from '../support/wait.ts';
import { execute, skip } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('kube');
let ec2: EC2Client;
let config: KubeConfig;
let instanceOf: Map<string, string>;

before(async () => {
  if (skip) return;
  await lab.up();
  ec2 = await lab.ec2();
  config = await lab.kube();
  const { nodes } = await lab.status();
  instanceOf = new Map(nodes.map((node) => [node.name, node.instanceId]));
});
after(async () => {
  ec2?.destroy();
  if (!skip) await lab.down();
});

/** Secondary addresses that EC2 lists on the node's ENIs. */
async function listed(node: string): Promise<Set<string>> {
  const { NetworkInterfaces } = await ec2.send(
    new DescribeNetworkInterfacesCommand({
      Filters: [{ Name: 'attachment.instance-id', Values: [instanceOf.get(node)!] }],
    }),
  );
  return new Set(
    NetworkInterfaces!
      .flatMap((eni) => eni.PrivateIpAddresses!)
      .filter((each) => !each.Primary)
      .map((each) => each.PrivateIpAddress!),
  );
}

type Seen = { type: string; name: string; phase?: string; ip?: string; node?: string };

test('a watch over HTTPS sees pods come and go; EC2 lists what it shows', { skip }, async () => {
  const seen: Seen[] = [];
  const wrong: string[] = [];
  const looks: Promise<void>[] = [];
  let ended: unknown;
  const watch = await new Watch(config).watch(
    '/api/v1/namespaces/default/pods',
    {},
    (type: string, pod: V1Pod) => {
      const { podIP: ip, phase } = pod.status ?? {};
      const node = pod.spec?.nodeName;
      seen.push({
        type,
        name: pod.metadata!.name!,
        ...(phase ? { phase } : {}),
        ...(ip ? { ip } : {}),
        ...(node ? { node } : {}),
      });
      if (ip && node && type !== 'DELETED' && !pod.metadata?.deletionTimestamp) {
        looks.push(
          listed(node).then((ips) => {
            if (!ips.has(ip)) wrong.push(`${ip} of ${pod.metadata!.name} is on no ENI of ${node}`);
          }),
        );
      }
    },
    (error: unknown) => {
      ended = error;
    },
  );
  try {
    const names = ['w-1', 'w-2', 'w-3', 'w-4'];
    const ran = await Promise.all(
      names.map((name, index) => lab.run(name, '--node', index % 2 ? 'node-2' : 'node-1')),
    );
    await Promise.all(looks);
    await lab.delete(...names);
    await eventually('the watch tells of every deletion', () =>
      names.every((name) => seen.some((each) => each.type === 'DELETED' && each.name === name)),
    );
    for (const pod of ran) {
      const story = seen.filter((each) => each.name === pod.name);
      assert.equal(story[0]!.type, 'ADDED');
      const running = story.find((each) => each.phase === 'Running');
      assert.deepEqual([running?.ip, running?.node], [pod.ips[0], pod.node]);
      assert.equal(story.at(-1)!.type, 'DELETED');
    }
    assert.deepEqual(wrong, []);
    assert.equal(ended, undefined);
  } finally {
    watch.abort();
  }
});

test('an informer of the stock client follows', { skip }, async () => {
  const api = config.makeApiClient(CoreV1Api);
  const informer = makeInformer(config, '/api/v1/namespaces/default/pods', () =>
    api.listNamespacedPod({ namespace: 'default' }),
  );
  informer.on('error', () => {});
  await informer.start();
  try {
    const pod = await lab.run('informed');
    await eventually(
      'the informer holds the pod',
      () => informer.get('informed', 'default')?.status?.podIP === pod.ips[0],
    );
    await api.deleteNamespacedPod({ name: 'informed', namespace: 'default' });
    await eventually('the informer lets it go', () => informer.get('informed', 'default') === undefined);
  } finally {
    await informer.stop();
  }
});

test('a pod made by the API gets an address as one by the command line', { skip }, async () => {
  const api = config.makeApiClient(CoreV1Api);
  await api.createNamespacedPod({
    namespace: 'default',
    body: {
      metadata: { name: 'by-api' },
      spec: { nodeName: 'node-2', containers: [{ name: 'main', image: 'any', command: ['sleep', '600'] }] },
    },
  });
  const pod = await eventually('the pod is Running', async () => {
    const found = await api.readNamespacedPod({ name: 'by-api', namespace: 'default' });
    return found.status?.phase === 'Running' && found;
  });
  assert.ok((await listed('node-2')).has(pod.status!.podIP!));
  await lab.delete('by-api');
});

test('kubectl get pods -o wide -w', { skip }, async (t) => {
  const version = await execute(['kubectl', 'version', '--client']).catch(() => undefined);
  if (version?.code !== 0) return t.skip('kubectl is not installed');
  const { KUBECONFIG } = await lab.env();
  const kubectl = spawn('kubectl', ['get', 'pods', '-o', 'wide', '-w'], {
    env: { ...process.env, KUBECONFIG: KUBECONFIG! },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let shown = '';
  kubectl.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text;
  });
  kubectl.stderr.setEncoding('utf8').on('data', (text: string) => {
    shown += text;
  });
  try {
    const pod = await lab.run('shown', '--node', 'node-1');
    const row = new RegExp(
      `^shown +1/1 +Running +0 +\\S+ +${pod.ips[0]!.replaceAll('.', '\\.')} +node-1 `,
      'm',
    );
    await eventually('kubectl shows the pod', () => row.test(shown)).catch((error: Error) => {
      throw new Error(`${error.message}\n${shown}`);
    });
    assert.ok((await listed('node-1')).has(pod.ips[0]!));
    await lab.delete('shown');
    await eventually('kubectl shows its end', () =>
      /^shown +\S+ +(Terminating|Completed|Running)/m.test(shown),
    );
  } finally {
    kubectl.kill('SIGKILL');
  }
});

test('a stranger gets nothing', { skip }, async () => {
  const { kubernetesEndpoint } = await lab.status();
  const curl = ['curl', '-sk', '-m', '30', `${kubernetesEndpoint}/api/v1/pods`];
  const anonymous = await execute(curl);
  assert.match(anonymous.stdout, /"code": ?401/);
  const wrong = await execute([...curl, '-H', 'Authorization: Bearer wrong']);
  assert.match(wrong.stdout, /"code": ?401/);
  const untrusted = await execute(curl.with(1, '-s'));
  assert.equal(untrusted.code, 60, 'the certificate is signed by the lab alone');
});
