// The command line: one file per command under commands/, loaded here without what they need to run, which each
// imports when it is called. Exit 0 done, 1 failed, 2 wrong usage.
import { type Command, CommanderError } from 'commander';
import { command } from './command.ts';
import { agentCommand } from './commands/agent.ts';
import { cniCommand } from './commands/cni.ts';
import { connectivityCommand } from './commands/connectivity.ts';
import { controllerCommand } from './commands/controller.ts';
import { doctorCommand } from './commands/doctor.ts';
import { explainCommand } from './commands/explain.ts';
import { ipamCommand } from './commands/ipam.ts';
import { labCallsCommand } from './commands/lab-calls.ts';
import { labDownCommand } from './commands/lab-down.ts';
import { labEnvCommand } from './commands/lab-env.ts';
import { labExecCommand } from './commands/lab-exec.ts';
import { labFaultCommand } from './commands/lab-fault.ts';
import { labKubernetesCommand } from './commands/lab-kubernetes.ts';
import { labListCommand } from './commands/lab-list.ts';
import { labLogsCommand } from './commands/lab-logs.ts';
import { labStatusCommand } from './commands/lab-status.ts';
import { labThrottleCommand } from './commands/lab-throttle.ts';
import { labUpCommand } from './commands/lab-up.ts';
import { nodeCommand } from './commands/node.ts';
import { observeCommand } from './commands/observe.ts';
import { podCommand } from './commands/pod.ts';
import { policyCommand } from './commands/policy.ts';
import { probeCommand } from './commands/probe.ts';
import { sgCommand } from './commands/sg.ts';
import { statusCommand } from './commands/status.ts';
import { sysdumpCommand } from './commands/sysdump.ts';
import { versionCommand } from './commands/version.ts';
import { report, usageError } from './errors.ts';
import { writeOut } from './output.ts';

function group(name: string, summary: string, examples: string[], commands: Command[]): Command {
  const made = command(name, summary, examples);
  for (const each of commands) made.addCommand(each);
  return made;
}

const lab = group(
  'lab',
  'a VPC, nodes and pods on this machine',
  ['podway lab up --demo', 'podway lab status', 'podway lab down'],
  [
    labUpCommand(),
    labDownCommand(),
    labListCommand(),
    labStatusCommand(),
    labLogsCommand(),
    labExecCommand(),
    labEnvCommand(),
    labFaultCommand(),
    labThrottleCommand(),
    labCallsCommand(),
    labKubernetesCommand(),
  ],
);

const program = command('podway', 'Pods with real VPC addresses, and a VPC in a box to run them in', [
  'podway lab up --demo',
  'podway pod run web',
  'podway connectivity test',
  'podway ipam show',
]);
for (const each of [
  lab,
  podCommand(),
  nodeCommand(),
  ipamCommand(),
  policyCommand(),
  observeCommand(),
  sgCommand(),
  statusCommand(),
  connectivityCommand(),
  doctorCommand(),
  sysdumpCommand(),
  explainCommand(),
  versionCommand(),
  cniCommand(),
  agentCommand(),
  controllerCommand(),
  probeCommand(),
]) {
  program.addCommand(each);
}

function settle(each: Command): void {
  each.exitOverride().configureOutput({ writeErr: () => {}, writeOut });
  for (const child of each.commands) settle(child);
}
settle(program);

const wantsJson = (): boolean => {
  const args = process.argv.slice(2);
  const end = args.indexOf('--');
  const own = end < 0 ? args : args.slice(0, end);
  return own.some(
    (arg, index) =>
      arg === '-ojson' ||
      arg === '--output=json' ||
      ((arg === '-o' || arg === '--output') && own[index + 1] === 'json'),
  );
};

/** commander's own words, made a sentence of ours. */
function usage(error: CommanderError): number {
  if (error.exitCode === 0) return 0;
  if (error.code === 'commander.help') {
    const path = args.filter((arg) => !arg.startsWith('-'));
    return report(
      usageError(
        `podway ${path.join(' ')} needs a command`.replace('  ', ' '),
        `podway ${[...path, '--help'].join(' ')}`,
      ),
      wantsJson(),
    );
  }
  if (error.code === 'commander.unknownOption' && /'--from/.test(error.message)) {
    const words = args.slice(
      0,
      Math.max(
        0,
        args.findIndex((arg) => arg.startsWith('-')),
      ),
    );
    return report(
      usageError(
        `podway ${words.join(' ')} cannot be answered by a dump`,
        'leave out --from; commands that read have it in their --help',
      ),
      wantsJson(),
    );
  }
  return report(usageError(error.message.replace(/^error: /, ''), 'see --help of the command'), wantsJson());
}

/** `podway help lab up` is `podway lab up --help`. */
const asked = process.argv.slice(2);
const args = asked[0] === 'help' ? [...asked.slice(1), '--help'] : asked;

/** The first word that names no command, of those that are to be helped with. */
function unknownTopic(words: string[]): string | undefined {
  let at: Command = program;
  for (const word of words) {
    const found = at.commands.find((each) => each.name() === word);
    if (!found) return word;
    at = found;
  }
  return undefined;
}

try {
  const unknown =
    asked[0] === 'help' ? unknownTopic(asked.slice(1).filter((word) => !word.startsWith('-'))) : undefined;
  if (unknown !== undefined)
    throw usageError(`there is no command "${unknown}" to help with`, 'podway --help');
  await program.parseAsync(args, { from: 'user' });
} catch (error) {
  process.exitCode = error instanceof CommanderError ? usage(error) : report(error, wantsJson());
}
