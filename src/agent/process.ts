// What main.ts loads once the process has the flags that bound its memory: the agent itself.
import { runProcess } from '../base/process.ts';
import { runAgent } from './agent.ts';
import { readAgentOptions } from './options.ts';

export const runAgentProcess = (args: readonly string[]): Promise<never> =>
  runProcess(() => readAgentOptions(args, process.env), runAgent);
