// podway pod run|delete|list|logs|exec
import type { Command } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import type { PodView, RunPodRequest } from '../../lab/daemon/protocol.ts';
import { parseDuration } from '../../lab/shape/settings.ts';
import { act, type Common, collect, command, withDump, withLab, withOutput, withQuiet } from '../command.ts';
import { ExitCode, report, usageError } from '../errors.ts';
import { openLab, readLab } from '../labs.ts';
import { print, printJson, progress } from '../output.ts';
import { OURS, runInNamespace } from '../run.ts';
import { podTable } from '../views.ts';

type Options = Common & { namespace: string };
type RunOptions = Options & { node?: string; label?: string[]; timeout: string; wait: boolean };

const POD_NAME = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

function checkName(name: string): string {
  if (!POD_NAME.test(name))
    throw usageError(`"${name}" is no name of a pod`, 'use small letters, digits, dots and dashes');
  return name;
}

const withNamespace = (made: Command): Command =>
  made.option('-n, --namespace <ns>', 'namespace of the pod', 'default');
const podPath = (namespace: string, name: string): string =>
  `/v1/pods/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;

export function podCommand(): Command {
  const group = command('pod', 'pods of a lab', [
    'podway pod run web',
    'podway pod list',
    'podway pod delete web',
  ]);
  for (const each of [runCommand(), deleteCommand(), listCommand(), logsCommand(), execCommand()])
    group.addCommand(each);
  return group;
}

function runCommand(): Command {
  const made = command('run', 'run a pod and wait until it is Running', [
    'podway pod run web',
    'podway pod run web --node node-1 --label app=web',
    'podway pod run once -- sh -c "ip address; sleep 60"',
  ])
    .argument('<name>', 'name of the pod')
    .argument(
      '[cmd...]',
      "command, after --, as root in this machine's file system; else the built-in server on TCP and UDP 8080",
    )
    .option('--node <node>', 'the node to run on (else the scheduler chooses)')
    .option('--label <k=v>', 'a label', collect)
    .option('--timeout <time>', 'how long to wait', '60s')
    .option('--no-wait', 'return when the pod is accepted');
  return withQuiet(withOutput(withLab(withNamespace(made)))).action(
    act(async (name: string, cmd: string[], options: RunOptions) => {
      const timeoutMs = parseDuration(options.timeout);
      if (timeoutMs === undefined)
        throw usageError(`--timeout is "${options.timeout}", not a duration`, 'for example --timeout 60s');
      const labels: Record<string, string> = {};
      for (const label of options.label ?? []) {
        const at = label.indexOf('=');
        if (at < 1) throw usageError(`--label is "${label}", not KEY=VALUE`, 'for example --label app=web');
        labels[label.slice(0, at)] = label.slice(at + 1);
      }
      const request: RunPodRequest = {
        namespace: options.namespace,
        name: checkName(name),
        labels,
        command: cmd,
        timeoutMs,
        wait: options.wait,
        ...(options.node === undefined ? {} : { node: options.node }),
      };
      const { control } = await openLab(options);
      const shown = progress(options);
      let pod: PodView;
      try {
        pod = await control.follow<PodView>(
          'POST',
          '/v1/pods',
          request,
          (line) => line.kind === 'progress' && shown.say(`pod ${name}: ${line.text}`),
        );
      } finally {
        shown.done();
      }
      if (options.output === 'json') printJson(pod);
      else if (!options.quiet)
        print(
          `pod ${pod.name} is ${pod.phase}${pod.ips.length > 0 ? ` at ${pod.ips.join(', ')}` : ''}${pod.node ? ` on ${pod.node}` : ''}`,
        );
    }),
  );
}

function deleteCommand(): Command {
  const made = command('delete', 'delete pods; returns when they are gone and their addresses released', [
    'podway pod delete web',
    'podway pod delete web-1 web-2 --timeout 30s',
  ])
    .argument('<name...>', 'names of pods')
    .option('--timeout <time>', 'how long to wait', '60s');
  return withQuiet(withOutput(withLab(withNamespace(made)))).action(
    act(async (names: string[], options: Options & { timeout: string }) => {
      const timeoutMs = parseDuration(options.timeout);
      if (timeoutMs === undefined)
        throw usageError(`--timeout is "${options.timeout}", not a duration`, 'for example --timeout 60s');
      const { control } = await openLab(options);
      const request = { namespace: options.namespace, names: names.map(checkName), timeoutMs };
      const { deleted } = await control.follow<{ deleted: string[] }>(
        'POST',
        '/v1/pods/delete',
        request,
        () => {},
      );
      if (options.output === 'json') printJson({ deleted });
      else if (!options.quiet)
        for (const name of names)
          print(deleted.includes(name) ? `pod ${name} deleted` : `pod ${name} is not there`);
    }),
  );
}

function listCommand(): Command {
  const made = command('list', 'the pods of a lab', [
    'podway pod list',
    'podway pod list -n default -o json',
  ]).option('-n, --namespace <ns>', 'only of this namespace');
  return withDump(withOutput(withLab(made))).action(
    act(async (options: Common & { namespace?: string }) => {
      const lab = await readLab(options);
      const all = await lab.call<PodView[]>('GET', '/v1/pods');
      const pods =
        options.namespace === undefined ? all : all.filter((pod) => pod.namespace === options.namespace);
      if (options.output === 'json') printJson(pods);
      else print(podTable(pods));
    }),
  );
}

function logsCommand(): Command {
  const made = command('logs', 'what a pod wrote', ['podway pod logs web', 'podway pod logs web --follow'])
    .argument('<name>', 'name of the pod')
    .option('-f, --follow', 'go on as it grows');
  return withLab(withNamespace(made)).action(
    act(async (name: string, options: Options & { follow?: boolean }) => {
      const { control } = await openLab(options);
      const { file } = await control.call<{ file: string }>(
        'GET',
        `${podPath(options.namespace, checkName(name))}/log`,
      );
      const { tail } = await import('../tail.ts');
      await tail(file, options.follow === true);
    }),
  );
}

function execCommand(): Command {
  const made = command('exec', 'run a command in the network of a pod', [
    'podway pod exec web -- ip route',
    'podway pod exec web -- ping -c 1 10.0.0.1',
  ])
    .argument('<name>', 'name of the pod')
    .argument('<cmd...>', 'the command, after --');
  return withLab(withNamespace(made)).action(
    act(async (name: string, cmd: string[], options: Options) => {
      try {
        const { control, paths } = await openLab(options);
        const pod = await control.call<PodView>('GET', podPath(options.namespace, checkName(name)));
        if (pod.netns === '')
          throw new LabError(
            'POD_NOT_RUNNING',
            `pod ${name} has no network yet: it is ${pod.phase}`,
            'podway pod list tells why',
          );
        return await runInNamespace(pod.netnsPath, cmd, {}, { resolvConf: paths.resolvConf });
      } catch (error) {
        throw new ExitCode(report(error, false) === 2 ? 2 : OURS);
      }
    }),
  );
}
