// The agents of a lab, and its own process: signals to them, and waiting until they are back.
import { readFileSync } from 'node:fs';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { eventually } from './wait.ts';

const pidOf = (lab: string, node: string): number =>
  (JSON.parse(readFileSync(labPaths(lab).node(node).agentPid, 'utf8')) as { pid: number }).pid;

export function signalAgents(lab: string, nodes: readonly string[], signal: NodeJS.Signals): void {
  for (const node of nodes) process.kill(pidOf(lab, node), signal);
}

export async function agentsBack(lab: string, nodes: readonly string[]): Promise<void> {
  const isAlive = (node: string): boolean => {
    try {
      process.kill(pidOf(lab, node), 0);
      return true;
    } catch {
      return false;
    }
  };
  await eventually('agents are back', () => nodes.every(isAlive));
}

/** Of the lab: its VPC and its Kubernetes API. */
export function killDaemon(lab: string): void {
  const { pid } = JSON.parse(readFileSync(labPaths(lab).pid, 'utf8')) as { pid: number };
  process.kill(pid, 'SIGKILL');
}
