// A lab as a user has one: started, asked and removed by the command line, its two endpoints by the stock clients. The
// questions that pods ask each other are put by the built-in probe, started by `pod exec` and `lab exec`.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { EC2Client } from '@aws-sdk/client-ec2';
import { KubeConfig } from '@kubernetes/client-node';
import type { IpamCheck, IpamNode, LabStatus, PodView } from '../../src/lab/daemon/protocol.ts';
import { ec2ClientOf } from '../support/ec2.ts';
import { FAMILIES } from '../support/lab.ts';
import { eventually } from '../support/wait.ts';
import { json, ok, PROBE, podway, type Ran } from './command.ts';

/** `lab up` gives pods back at once and forgets idle addresses soon: for tests that do not look at rest. */
export const QUICK = ['--set', 'cooldown=0s', '--set', 'idleRelease=1s'];

export type Answer = { answer?: string; error?: string; ttl?: number };

export class Lab {
  readonly name: string;
  readonly #options: string[];

  /** At most 8 characters: a lab's name has 20, and a process id up to 7. */
  constructor(name: string, options: string[] = QUICK) {
    this.name = `e2e-${name}-${process.pid}`;
    this.#options = options;
  }

  /** Starts it, or goes on with it. */
  up(...more: string[]): Promise<string> {
    const all = [...this.#options, ...more];
    const isSet = (key: string) => all.some((each) => each.startsWith(`${key}=`));
    const families = FAMILIES && !isSet('families') ? ['--set', `families=${FAMILIES}`] : [];
    // What an agent does and says must not need the controller; tests of the controller ask for it.
    const controller = isSet('controller') ? [] : ['--set', 'controller=none'];
    return ok('lab', 'up', '--lab', this.name, ...all, ...families, ...controller);
  }

  async down(): Promise<void> {
    await ok('lab', 'down', '--lab', this.name);
  }

  podway = (...args: string[]): Promise<Ran> => podway(...withLab(args, this.name));
  ok = (...args: string[]): Promise<string> => ok(...withLab(args, this.name));
  json = <T>(...args: string[]): Promise<T> => json<T>(...args, '--lab', this.name);

  status = (): Promise<LabStatus> => this.json('lab', 'status');
  kubeconfig = async (): Promise<string> => (await this.status()).kubeconfig;
  pods = (): Promise<PodView[]> => this.json('pod', 'list');
  run = (pod: string, ...more: string[]): Promise<PodView> => this.json('pod', 'run', pod, ...more);
  delete = (...pods: string[]): Promise<string> => this.ok('pod', 'delete', ...pods);

  async ipam(node: string): Promise<IpamNode> {
    const [shown] = await this.json<IpamNode[]>('ipam', 'show', '--node', node);
    if (!shown) throw new Error(`ipam show has no ${node}`);
    return shown;
  }

  /** Waits until journal, kernel, cloud and API agree. */
  async agreed(boundMs = 30_000): Promise<void> {
    let last = '';
    await eventually(
      'ipam check is clean',
      async () => {
        const ran = await this.podway('ipam', 'check', '-o', 'json');
        last = ran.stdout;
        return ran.code === 0 && (JSON.parse(last) as IpamCheck).ok;
      },
      boundMs,
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${last}`);
    });
  }

  /** What the probe says when it asks from a place (`lab exec`). */
  async ask(where: string, ...question: string[]): Promise<Answer> {
    return answerOf(await this.podway('lab', 'exec', where, '--', PROBE, ...question));
  }

  /** What the probe says when it asks from a pod. */
  askFrom(pod: string, ...question: string[]): Promise<Answer> {
    return this.askFromIn('default', pod, ...question);
  }

  async askFromIn(namespace: string, pod: string, ...question: string[]): Promise<Answer> {
    return answerOf(await this.podway('pod', 'exec', '-n', namespace, pod, '--', PROBE, ...question));
  }

  /** `lab env` as values. */
  async env(): Promise<Record<string, string>> {
    const text = await this.ok('lab', 'env');
    return Object.fromEntries(
      [...text.matchAll(/^export (\w+)='([^']*)'$/gm)].map((match) => [match[1]!, match[2]!]),
    );
  }

  async ec2(secretAccessKey?: string): Promise<EC2Client> {
    const env = await this.env();
    return ec2ClientOf(
      secretAccessKey === undefined ? env : { ...env, AWS_SECRET_ACCESS_KEY: secretAccessKey },
      { maxAttempts: 1 },
    );
  }

  async kube(): Promise<KubeConfig> {
    const config = new KubeConfig();
    config.loadFromString(readFileSync((await this.env())['KUBECONFIG']!, 'utf8'));
    return config;
  }
}

/** `--lab` goes before `--`, where the user's own command begins. */
function withLab(args: string[], lab: string): string[] {
  const end = args.indexOf('--');
  return end < 0 ? [...args, '--lab', lab] : [...args.slice(0, end), '--lab', lab, ...args.slice(end)];
}

function answerOf(ran: Ran): Answer {
  try {
    return JSON.parse(ran.stdout) as Answer;
  } catch {
    return { error: `exit ${ran.code}: ${ran.stdout}${ran.stderr}` };
  }
}

export function assertAnswer({ answer, error }: Answer, expected: string): void {
  assert.equal(answer ?? error, expected);
}

/** Removes all, also when one of them cannot be. */
export async function downAll(labs: Lab[]): Promise<void> {
  const ends = await Promise.allSettled(labs.map((lab) => lab.down()));
  const failed = ends.filter((end) => end.status === 'rejected');
  if (failed.length > 0)
    throw new AggregateError(
      failed.map((end) => end.reason),
      'labs are left',
    );
}
