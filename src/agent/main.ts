// The agent's process: reads its configuration, runs until SIGTERM or SIGINT, and leaves the node's pods as they are.
// Started without the flags that bound its memory, it starts itself again with them.
import { AGENT_NODE_FLAGS } from '../base/node-flags.ts';

const args = process.argv.slice(2);
const nameOf = (flag: string): string => flag.split('=')[0]!;
const lacking = AGENT_NODE_FLAGS.filter(
  (flag) => !process.execArgv.some((given) => nameOf(given) === nameOf(flag)),
);
if (args.includes('--help') || args.includes('-h')) {
  const { agentHelp } = await import('./options.ts');
  console.log(agentHelp());
} else if (lacking.length > 0 && process.execve) {
  process.removeAllListeners('warning');
  const quiet = '--disable-warning=ExperimentalWarning';
  process.execve(
    process.execPath,
    [process.execPath, ...process.execArgv, ...lacking, quiet, import.meta.filename, ...args],
    process.env,
  );
} else await (await import('./process.ts')).runAgentProcess(args);
