// podway lab kubernetes install: builds the programs of a lab with a real Kubernetes.
import type { Command } from 'commander';
import { act, command, withOutput, withQuiet } from '../command.ts';
import { type OutputOptions, print, printJson, progress, table } from '../output.ts';

type Options = OutputOptions & { version?: string };

export function labKubernetesCommand(): Command {
  return command('kubernetes', 'the programs of a lab with a real Kubernetes', [
    'podway lab kubernetes install',
  ]).addCommand(installCommand());
}

function installCommand(): Command {
  const made = command('install', 'build them with Go, into the cache; goes on where it was cut off', [
    'podway lab kubernetes install',
    'podway lab kubernetes install --version v1.35.4',
    'podway lab kubernetes install kubelet kubectl',
  ])
    .argument('[programs...]', 'these alone (default all)')
    .option('--version <version>', 'of Kubernetes (default: the one that the package pins)');
  return withQuiet(withOutput(made)).action(
    act(async (programs: string[], options: Options) => {
      const { ensurePackages } = await import('../../lab/kubernetes/packages.ts');
      const { install } = await import('../../lab/kubernetes/install.ts');
      const shown = progress(options);
      const interrupt = new AbortController();
      const stop = () => interrupt.abort();
      process.once('SIGINT', stop).once('SIGTERM', stop);
      try {
        if (process.getuid?.() === 0) await ensurePackages(['runc', 'mmdebstrap'], shown.say);
        const { version, installed } = await install({
          ...(options.version === undefined ? {} : { version: options.version }),
          only: programs,
          say: shown.say,
          signal: interrupt.signal,
        });
        if (options.output === 'json') return printJson({ version, installed });
        if (options.quiet) return;
        shown.done();
        print(
          table(
            ['PROGRAM', 'VERSION', 'FILE'],
            installed.map((each) => [each.name, each.version, each.file]),
          ),
        );
      } finally {
        shown.done();
        process.off('SIGINT', stop).off('SIGTERM', stop);
      }
    }),
  );
}
