// branch-first: from a pod's branch annotation to its running, of the first pod with a branch on a node, whose trunk
// the agent has to learn of, beside a later one of the same node, which finds all of it there. Both from one watch of
// one client, so that its own delay is in both. EC2 answers as slowly as AWS's does.
import { setTimeout as sleep } from 'node:timers/promises';
import { DescribeSecurityGroupsCommand } from '@aws-sdk/client-ec2';
import {
  follow,
  KubeClient,
  nodes,
  POD_ENI,
  type Pod,
  pods,
  readKubeConfig,
  securityGroupPolicies,
} from '../src/kube/index.ts';
import { ec2ClientOf } from '../test/support/ec2.ts';
import { podway } from './run.ts';
import { type BenchResult, round, summarise } from './stats.ts';

const LAB = 'bench-branch';
const NODES = 4;
const BOUND_MS = 120_000;
const onLab = (...args: string[]) => podway(...args, '--lab', LAB);

type Times = { annotated?: number; running?: number };

export async function bench(): Promise<BenchResult[]> {
  onLab('lab', 'down');
  try {
    onLab(
      'lab',
      'up',
      '--nodes',
      String(NODES),
      '--set',
      'ec2Latency=realistic',
      '--set',
      'controller=process',
    );
    return await measured();
  } finally {
    onLab('lab', 'down');
  }
}

async function measured(): Promise<BenchResult[]> {
  const { kubeconfig } = JSON.parse(onLab('lab', 'status', '-o', 'json')) as { kubeconfig: string };
  const client = new KubeClient(await readKubeConfig(kubeconfig));
  const over = new AbortController();
  try {
    const group = await someGroup();
    const times = new Map<string, Times>();
    const watched = follow(
      client,
      pods,
      {
        keep: ({ metadata, status: its }: Pod) => [
          metadata.annotations?.[POD_ENI] !== undefined,
          its?.phase === 'Running',
        ],
        onChange: (kept) => {
          const now = performance.now();
          for (const [name, [isAnnotated, isRunning]] of kept) {
            const known: Times = times.get(name) ?? {};
            if (isAnnotated) known.annotated ??= now;
            if (isRunning) known.running ??= now;
            times.set(name, known);
          }
        },
        onAway: () => {},
      },
      over.signal,
    );
    await client.create(securityGroupPolicies, {
      metadata: { name: 'web', namespace: 'default' },
      spec: { podSelector: {}, securityGroups: { groupIds: [group] } },
    });
    const names = (await client.list(nodes)).items.map(({ metadata }) => metadata.name!);
    await until('the webhook is asked', () => hasWebhook(client));
    const rounds: number[][] = [];
    for (const turn of ['first', 'later']) {
      for (const node of names)
        await client.create(pods, {
          metadata: { name: `${turn}-${node}`, namespace: 'default' },
          spec: { nodeName: node, containers: [{ name: 'c', image: 'pod-server' }] },
        });
      const of = () => names.map((node) => times.get(`default/${turn}-${node}`));
      await until(`${turn} pods run`, () =>
        of().every((one) => one?.running !== undefined && one.annotated !== undefined),
      );
      rounds.push(of().map((one) => one!.running! - one!.annotated!));
    }
    over.abort();
    await watched;
    const [first, later] = rounds.map(summarise);
    const row = (name: string, { n, p50, max }: ReturnType<typeof summarise>) => [
      name,
      n,
      round(p50, 0),
      round(max, 0),
    ];
    return [
      {
        title: `branch-first: ms from the annotation to a running pod, ${NODES} nodes, ec2Latency=realistic`,
        head: ['pod', 'n', 'p50', 'max'],
        rows: [row('first of its node', first!), row('later on the same node', later!)],
        numbers: { first, later },
      },
    ];
  } finally {
    over.abort();
    client.close();
  }
}

/** A group of the lab's VPC. */
async function someGroup(): Promise<string> {
  const text = onLab('lab', 'env');
  const env = Object.fromEntries(
    [...text.matchAll(/^export (\w+)='([^']*)'$/gm)].map((match) => [match[1]!, match[2]!]),
  );
  const ec2 = ec2ClientOf(env);
  try {
    const Filters = [{ Name: 'group-name', Values: ['nodes'] }];
    return (await ec2.send(new DescribeSecurityGroupsCommand({ Filters }))).SecurityGroups![0]!.GroupId!;
  } finally {
    ec2.destroy();
  }
}

async function hasWebhook(client: KubeClient): Promise<boolean> {
  const path = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/podway-webhook';
  const found = (await client.getPath(path).catch(() => ({}))) as { webhooks?: unknown[] };
  return found.webhooks?.length === 1;
}

async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + BOUND_MS;
  while (!(await isSo())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${BOUND_MS / 1000} s`);
    await sleep(20);
  }
}
