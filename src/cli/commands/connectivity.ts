// podway connectivity test: real packets between pods, nodes, the plain instance and the internet, with figures.
import type { Command } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import type { Check } from '../../lab/daemon/protocol.ts';
import { type PlaceOptions, placeKind, withLivePlace } from '../cluster/place.ts';
import { act, command, withQuiet } from '../command.ts';
import { ExitCode, usageError } from '../errors.ts';
import { openLab } from '../labs.ts';
import { print, printJson, progress } from '../output.ts';
import { checkLine, failedChecks } from '../views.ts';

export function connectivityCommand(): Command {
  const made = command(
    'test',
    'prove that packets go where they should, with the addresses they should have',
    ['podway connectivity test', 'podway connectivity test -o json', 'kubectl podway connectivity test'],
  );
  const test = withQuiet(withLivePlace(made))
    .option('--image <image>', "of a cluster's test pods; it must have podway (default: the agents')")
    .action(
      act(async (options: Options) => {
        const shown = progress(options);
        let checks: Check[];
        try {
          checks = await run(options, shown.say);
        } finally {
          shown.done();
        }
        const failed = checks.filter((check) => !check.ok);
        if (options.output === 'json') printJson({ ok: failed.length === 0, checks });
        else if (!options.quiet) for (const check of checks) print(checkLine(check));
        if (failed.length === 0) return;
        throw options.output === 'json' ? new ExitCode(1) : failedChecks(failed);
      }),
    );
  return command('connectivity', 'proofs by packets', ['podway connectivity test']).addCommand(test);
}

type Options = PlaceOptions & { image?: string };

async function run(options: Options, say: (text: string) => void): Promise<Check[]> {
  switch (placeKind(options)) {
    case 'local':
      throw usageError(
        'the test needs pods of a lab or of a cluster, not --local',
        'podway connectivity test --cluster',
      );
    case 'lab': {
      if (options.image !== undefined)
        throw usageError("--image is of a cluster's test pods", 'add --cluster');
      const { control } = await openLab(options);
      const told = await control.follow<{ checks: Check[] }>('POST', '/v1/connectivity', {}, (line) => {
        if (line.kind === 'progress') say(line.text);
      });
      return told.checks;
    }
    case 'cluster': {
      const [{ Cluster }, { testCluster }] = await Promise.all([
        import('../cluster/agents.ts'),
        import('../cluster/connectivity.ts'),
      ]);
      const cluster = await Cluster.open(options);
      const stop = new AbortController();
      for (const signal of ['SIGINT', 'SIGTERM'] as const)
        process.once(signal, () =>
          stop.abort(new LabError('INTERRUPTED', `the test was ended by ${signal}`, 'run it again')),
        );
      try {
        return await testCluster(cluster, {
          say,
          signal: stop.signal,
          ...(options.image === undefined ? {} : { image: options.image }),
        });
      } finally {
        cluster.close();
      }
    }
  }
}
