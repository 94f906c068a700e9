// A lab as a user has one: started and removed by the command line, its two endpoints by the stock clients. What tests
// ask again and again is asked over the control socket, as the commands ask it, and the built-in probe is started in
// the namespace of a pod or a place, as `pod exec` and `lab exec` start it: a command costs a tenth of a second of a
// processor, and there are thousands. The commands themselves have tests of their own (cli.test.ts).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import type { EC2Client } from '@aws-sdk/client-ec2';
import { KubeConfig } from '@kubernetes/client-node';
import type { KubeClient } from '../../src/kube/index.ts';
import { ControlClient } from '../../src/lab/daemon/client.ts';
import { type LabPaths, labPaths, netnsPath } from '../../src/lab/daemon/paths.ts';
import type { IpamCheck, IpamNode, LabStatus, PodView } from '../../src/lab/daemon/protocol.ts';
import { ec2ClientOf } from '../support/ec2.ts';
import { FAMILIES } from '../support/lab.ts';
import { isAtGoal } from '../support/leaks.ts';
import { eventually } from '../support/wait.ts';
import { execute, json, ok, PROBE, podway, type Ran, told } from './command.ts';

/** `lab up` gives pods back at once and forgets idle addresses soon: for tests that do not look at rest. */
export const QUICK = ['--set', 'cooldown=0s', '--set', 'idleRelease=1s'];

/** As `pod run` and `pod delete` wait. */
const POD_MS = 60_000;

export type Answer = { answer?: string; error?: string; ttl?: number };

export class Lab {
  readonly name: string;
  readonly #options: string[];
  readonly #paths: LabPaths;
  readonly #control: ControlClient;
  #env: Promise<Record<string, string>> | undefined;
  /** Of clients. */
  readonly #ends: (() => void)[] = [];

  /** At most 8 characters: a lab's name has 20, and a process id up to 7. */
  constructor(name: string, options: string[] = QUICK) {
    this.name = `e2e-${name}-${process.pid}`;
    this.#options = options;
    this.#paths = labPaths(this.name);
    this.#control = new ControlClient(this.name, this.#paths.control);
  }

  /** Starts it, or goes on with it. */
  up(...more: string[]): Promise<string> {
    const all = [...this.#options, ...more];
    const isSet = (key: string) => all.some((each) => each.startsWith(`${key}=`));
    const families = FAMILIES && !isSet('families') ? ['--set', `families=${FAMILIES}`] : [];
    // What an agent does and says must not need the controller; tests of the controller ask for it.
    const controller = isSet('controller') ? [] : ['--set', 'controller=none'];
    this.#env = undefined;
    return ok('lab', 'up', '--lab', this.name, ...all, ...families, ...controller);
  }

  async down(): Promise<void> {
    for (const end of this.#ends.splice(0)) end();
    this.#env = undefined;
    await ok('lab', 'down', '--lab', this.name);
  }

  /** A command of podway's for this lab; `lab exec` without the command line around it. */
  podway(...args: string[]): Promise<Ran> {
    const [group, name, where, dashes, ...command] = args;
    if (group === 'lab' && name === 'exec' && dashes === '--' && !this.#isReal)
      return this.#exec(where!, command);
    return podway(...withLab(args, this.name));
  }

  async ok(...args: string[]): Promise<string> {
    const ran = await this.podway(...args);
    if (ran.code !== 0) throw new Error(told(args, ran));
    return ran.stdout;
  }

  #exec(where: string, command: string[]): Promise<Ran> {
    const { netns, kubeconfig } = this.#paths;
    return execute([...inside(netnsPath(netns(where))), ...command], { KUBECONFIG: kubeconfig });
  }

  json = <T>(...args: string[]): Promise<T> => json<T>(...args, '--lab', this.name);

  status = (): Promise<LabStatus> => this.#control.call('GET', '/v1/status');
  kubeconfig = async (): Promise<string> => (await this.status()).kubeconfig;
  pods = (): Promise<PodView[]> => this.#control.call('GET', '/v1/pods');

  /** Runs a pod and waits until it is Running; `more` are flags of `pod run`. */
  run(pod: string, ...more: string[]): Promise<PodView> {
    const [flag, node] = more;
    if (flag !== undefined && (flag !== '--node' || more.length > 2))
      return this.json('pod', 'run', pod, ...more);
    const request = {
      namespace: 'default',
      name: pod,
      labels: {},
      command: [],
      timeoutMs: POD_MS,
      wait: true,
    };
    const body = node === undefined ? request : { ...request, node };
    return this.#control.follow('POST', '/v1/pods', body, () => {});
  }

  /** Returns when they are gone and their addresses released. */
  async delete(...names: string[]): Promise<void> {
    const request = { namespace: 'default', names, timeoutMs: POD_MS };
    await this.#control.follow('POST', '/v1/pods/delete', request, () => {});
  }

  async ipam(node: string): Promise<IpamNode> {
    const [shown] = await this.#control.call<IpamNode[]>('GET', `/v1/ipam?node=${node}`);
    if (!shown) throw new Error(`ipam show has no ${node}`);
    return shown;
  }

  check = (): Promise<IpamCheck> => this.#control.call('GET', '/v1/ipam/check');

  /** Waits until journal, kernel, cloud and API agree. */
  async agreed(boundMs = 60_000): Promise<void> {
    let last: IpamCheck | undefined;
    await eventually(
      'ipam check is clean',
      async () => {
        last = undefined;
        last = await this.check();
        return last.ok;
      },
      boundMs,
    ).catch((error: Error) => {
      throw new Error(`${error.message}\n${JSON.stringify(last?.differences, null, 1)}`);
    });
  }

  /** Waits until the nodes' pools have nothing to ask for and nothing to give back: of a lab with `warm=N`. */
  async rested(): Promise<void> {
    await eventually('every pool is at its goal', async () => {
      const nodes = await this.#control.call<IpamNode[]>('GET', '/v1/ipam');
      return nodes.every((node) => node.totals.free === node.warm.target && isAtGoal(node));
    });
    await this.agreed();
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
    // A name is asked of the lab's resolver, which `pod exec` brings.
    const isNamed = question.some((each) => /[a-z]/i.test(each) && each.includes('.'));
    if (this.#isReal || isNamed)
      return answerOf(await this.podway('pod', 'exec', '-n', namespace, pod, '--', PROBE, ...question));
    const found = await this.#control.call<PodView>('GET', `/v1/pods/${namespace}/${pod}`);
    return answerOf(await execute([...inside(found.netnsPath), PROBE, ...question]));
  }

  /** `lab env` as values, which stay the same until `lab down`. */
  env(): Promise<Record<string, string>> {
    this.#env ??= this.ok('lab', 'env').then(
      (text) =>
        Object.fromEntries(
          [...text.matchAll(/^export (\w+)='([^']*)'$/gm)].map((match) => [match[1]!, match[2]!]),
        ),
      (error) => {
        this.#env = undefined;
        throw error;
      },
    );
    return this.#env;
  }

  /** Its nodes run kubelets, which have a file system of their own. */
  get #isReal(): boolean {
    return this.#options.includes('--kubernetes');
  }

  async ec2(secretAccessKey?: string): Promise<EC2Client> {
    const env = await this.env();
    return ec2ClientOf(
      secretAccessKey === undefined ? env : { ...env, AWS_SECRET_ACCESS_KEY: secretAccessKey },
      { maxAttempts: 1 },
    );
  }

  /** Of its API and its EC2, each of which `down` closes. */
  async clients(): Promise<{ api: KubeClient; ec2: EC2Client }> {
    const { KubeClient, readKubeConfig } = await import('../../src/kube/index.ts');
    const api = new KubeClient(await readKubeConfig(await this.kubeconfig()));
    this.#ends.push(() => api.close());
    const ec2 = await this.ec2();
    this.#ends.push(() => ec2.destroy());
    return { api, ec2 };
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

const inside = (path: string): string[] => ['nsenter', `--net=${path}`, '--'];

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
