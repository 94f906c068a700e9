// Runs scenarios one after the other: what each came to is a value. One that fails does not end the others.
import { execute } from '../e2e/command.ts';
import { Cluster, type ClusterInput, NAMESPACE } from './cluster.ts';
import type { Scenario } from './scenarios.ts';

export type Outcome = {
  name: string;
  state: 'passed' | 'failed' | 'skipped';
  seconds: number;
  message?: string;
};

export async function runScenarios(input: ClusterInput, chosen: Scenario[]): Promise<Outcome[]> {
  const cluster = new Cluster(input);
  await execute(cluster.command('create', 'namespace', NAMESPACE));
  const outcomes: Outcome[] = [];
  try {
    for (const { name, needs, run } of chosen) {
      const lack = needs && cluster.lacks[needs];
      if (lack !== undefined) {
        outcomes.push({ name, state: 'skipped', seconds: 0, message: lack });
        continue;
      }
      const started = performance.now();
      const failure = await run(cluster).then(
        () => undefined,
        (error: Error) => error,
      );
      const seconds = (performance.now() - started) / 1000;
      const message = failure?.message.split('\n').slice(0, 3).join(' | ');
      outcomes.push({ name, state: failure ? 'failed' : 'passed', seconds, ...(message ? { message } : {}) });
      console.log(`  ${failure ? 'FAILED' : 'ok'} ${Math.round(seconds)} s: ${name}`);
      if (failure) console.log(`    ${failure.message.replaceAll('\n', '\n    ')}`);
    }
  } finally {
    cluster.close();
    await cluster.kubectl('delete', 'namespace', NAMESPACE, '--wait');
  }
  return outcomes;
}
