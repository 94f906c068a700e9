// podway sysdump: one archive with the state of all nodes, which the commands that read take by --from.
import type { Command } from 'commander';
import { type PlaceOptions, placeKind, withLivePlace } from '../cluster/place.ts';
import { act, collect, command, wholeNumber, withQuiet } from '../command.ts';
import { reportFailed } from '../errors.ts';
import { print, printJson, progress } from '../output.ts';

type Options = PlaceOptions & { out?: string; timeout: number; pod?: string[]; region?: string };

export function sysdumpCommand(): Command {
  return withQuiet(
    withLivePlace(
      command('sysdump', 'one archive with the state of all nodes, for podway COMMAND --from FILE', [
        'podway sysdump',
        'podway sysdump --out /tmp/lab.tgz',
        'kubectl podway sysdump',
        'podway ipam show --from podway-sysdump.tgz',
      ]),
    ),
  )
    .option('--out <file>', 'where it is written, readable by you alone (else podway-sysdump-TIME.tgz)')
    .option('--timeout <seconds>', 'for all nodes together', wholeNumber('--timeout', 1, 3600), 300)
    .option('--region <region>', 'of EC2, in a cluster (else AWS_REGION)')
    .option(
      '--pod <pod>',
      'with --local: also what the agent says of this NAMESPACE/POD; may be given again',
      collect,
    )
    .action(
      act(async (options: Options) => {
        const kind = placeKind(options);
        const isJson = options.output === 'json';
        if (kind === 'local' && isJson && options.out === undefined) {
          const { nodePart } = await import('../sysdump/node-part.ts');
          printJson(await nodePart(options.pod));
          return 0;
        }
        const { dumpCluster, dumpLab, dumpNode } = await import('../sysdump/collect.ts');
        const told = progress(options);
        const file =
          options.out ?? `podway-sysdump-${new Date().toISOString().replace(/[-:]|\..*/g, '')}.tgz`;
        const collecting = { file, timeoutMs: options.timeout * 1000, say: (text: string) => told.say(text) };
        const made = await (kind === 'local'
          ? dumpNode(collecting)
          : kind === 'cluster'
            ? dumpCluster(options, collecting)
            : dumpLab(options, collecting)
        ).finally(() => told.done());
        const { fromBody } = await import('../sysdump/dump.ts');
        if (isJson) printJson(made);
        else
          print(
            `${made.file}: ${made.nodes.length} ${made.nodes.length === 1 ? 'node' : 'nodes'}, ${made.files} files, ${Math.ceil(made.bytes / 1024)} KiB unpacked${made.cut.length > 0 ? `, cut: ${made.cut.join(', ')}` : ''}`,
          );
        return reportFailed(made.nodes.flatMap(({ error }) => (error ? [fromBody(error)] : [])));
      }),
    );
}
