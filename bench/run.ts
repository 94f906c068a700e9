// Running programs for the benchmarks: everything they start is waited for, and a failure carries the program's words.
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export const root = join(import.meta.dirname, '..');
const MAX_OUTPUT = 64 << 20;

/** Runs a program to its end and gives its stdout; throws with stderr when it fails. */
export function run(
  command: string,
  args: string[],
  options: { input?: string; env?: NodeJS.ProcessEnv } = {},
): string {
  const done = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: MAX_OUTPUT,
    env: { ...process.env, ...options.env },
    ...(options.input === undefined ? {} : { input: options.input }),
  });
  if (done.error) throw done.error;
  if (done.status !== 0)
    throw new Error(`${command} ${args.join(' ')}: exit ${done.status}: ${done.stderr || done.stdout}`);
  return done.stdout;
}

/** The same without blocking the event loop. */
export function runAsync(
  command: string,
  args: string[],
  input?: string,
  env: NodeJS.ProcessEnv = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      { encoding: 'utf8', maxBuffer: MAX_OUTPUT, env: { ...process.env, ...env } },
      (error, stdout, stderr) => {
        if (error) reject(new Error(`${command} ${args.join(' ')}: ${stderr || stdout || error.message}`));
        else resolve(stdout);
      },
    );
    // A program that does not read its input may have ended before the write.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input ?? '');
  });
}

export const podway = (...args: string[]): string => run(join(root, 'bin/podway'), args);

/** lab.yaml of one VPC with one subnet, `a`; each instance as YAML's `{ name: …, type: …, subnet: a }`. */
export const oneSubnet = (...instances: string[]): string => `
vpcs:
  - name: vpc
    cidrs: [10.0.0.0/16]
    subnets: [{ name: a, cidr: 10.0.0.0/19, zone: us-west-2a }]
instances:
${instances.map((instance) => `  - ${instance}`).join('\n')}
`;

/** Makes the launcher in a scratch directory that goes when the benchmark ends. */
export function scratch(): { dir: string; launcher: string; remove: () => void } {
  const dir = mkdtempSync(join(tmpdir(), 'podway-bench-'));
  const launcher = join(dir, 'launch');
  run('cc', ['-O2', '-Wall', '-Wextra', '-Werror', '-o', launcher, join(root, 'bench/launch.c')]);
  return { dir, launcher, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/** The same with two subnets in two zones, `a` and `b`, and a security group `nodes` that lets its members talk. */
export const twoSubnets = (...instances: string[]): string => twoSubnetsOf(['nodes'], instances);

/** The same with these security groups, all of whose members may talk. */
export const twoSubnetsOf = (groups: readonly string[], instances: readonly string[]): string => `
vpcs:
  - name: vpc
    cidrs: [10.0.0.0/16]
    subnets:
      - { name: a, cidr: 10.0.0.0/19, zone: us-west-2a }
      - { name: b, cidr: 10.0.32.0/19, zone: us-west-2b }
    securityGroups:
${groups.map((name) => `      - { name: ${name}, ingress: [${groups.map((from) => `{ from: ${from} }`).join(', ')}] }`).join('\n')}
instances:
${instances.map((instance) => `  - ${instance}`).join('\n')}
`;
