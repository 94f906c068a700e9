// The agent's process: reads its config, runs until SIGTERM or SIGINT, and leaves the node's pods as they are.
import { asPodwayError } from '../base/errors.ts';
import { runAgent } from './agent.ts';
import { readAgentConfig } from './config.ts';

const usage = 'usage: podway-agent --config FILE';
const at = process.argv.indexOf('--config');
const file = at >= 0 ? process.argv[at + 1] : undefined;
if (process.argv.includes('--help')) {
  console.log(
    `${usage}\n\nRuns the agent of one node in the foreground. FILE is JSON; ARCHITECTURE.md lists its keys.`,
  );
  process.exit(0);
}
if (file === undefined) {
  console.error(`podway: USAGE: no config given (${usage})`);
  process.exit(2);
}
const stop = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const)
  process.once(signal, () => stop.abort(new Error(signal)));
try {
  await runAgent(readAgentConfig(file), stop.signal);
  process.exit(0);
} catch (thrown) {
  const error = asPodwayError(thrown);
  console.error(`podway: ${error.code}: ${error.message} (${error.details.next})`);
  if (error.code === 'INTERNAL') console.error(error.stack, error.cause ?? '');
  process.exit(1);
}
