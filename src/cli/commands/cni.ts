// podway cni VERB: the runtime side of CNI for one attachment, as libcni does it. Stdout is exactly the result or the
// error object; exit 0 or 1.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Command } from 'commander';
import { command } from '../command.ts';
import { ExitCode } from '../errors.ts';
import { print } from '../output.ts';

type Options = {
  conf: string;
  netns?: string;
  containerId?: string;
  ifname: string;
  binDir?: string;
  cacheDir?: string;
  args?: string;
  cap?: string;
  valid?: string[];
  validNone?: boolean;
};
const VERBS = ['add', 'del', 'check', 'gc', 'status', 'version'] as const;
type VerbName = (typeof VERBS)[number];

const SUMMARY: Record<VerbName, string> = {
  add: 'attach a container to the network',
  del: 'undo an attachment',
  check: 'see that an attachment is as it was made',
  gc: 'remove attachments that are not in the list given',
  status: 'ask whether ADD would be served',
  version: 'the versions that the plugins support',
};

const OF_ONE = '--netns /run/netns/test --container-id test1';
const EXAMPLES: Record<VerbName, string[]> = {
  add: [`podway cni add --conf FILE ${OF_ONE}`],
  del: [`podway cni del --conf FILE ${OF_ONE}`],
  check: [`podway cni check --conf FILE ${OF_ONE}`],
  gc: ['podway cni gc --conf FILE --valid test1/eth0 test2/eth0', 'podway cni gc --conf FILE --valid-none'],
  status: ['podway cni status --conf FILE'],
  version: ['podway cni version --conf FILE'],
};

export function cniCommand(): Command {
  const group = command('cni', 'call CNI plugins as a container runtime does', [
    'podway cni add --conf net.d/10-podway.conflist --netns /run/netns/test --container-id test1',
    'podway cni gc --conf net.d/10-podway.conflist --valid test1/eth0',
  ]);
  for (const verb of VERBS) group.addCommand(verbCommand(verb));
  return group;
}

function verbCommand(verb: VerbName): Command {
  const made = command(verb, SUMMARY[verb], EXAMPLES[verb])
    .requiredOption('--conf <file>', 'a .conflist, .conf or .json, or a conf dir')
    .option('--netns <path>', 'path of the namespace')
    .option('--container-id <id>', 'id of the container')
    .option('--ifname <name>', 'interface in the container', 'eth0')
    .option(
      '--bin-dir <dir>',
      'where the plugins are, several with `:` (else CNI_PATH, else the lab node of --conf)',
    )
    .option('--cache-dir <dir>', 'where results are kept (else the lab node of --conf, else /var/lib/cni)')
    .option('--args <K=V;…>', 'CNI_ARGS')
    .option('--cap <json>', 'capability arguments, as JSON');
  if (verb === 'gc') {
    made.option('--valid <id/ifname...>', 'attachments to keep').option('--valid-none', 'keep none');
  }
  return made.action(async (options: Options) => {
    try {
      process.exitCode = await run(verb, options);
    } catch (error) {
      if (!(error instanceof ExitCode)) throw error;
      process.exitCode = error.code;
    }
  });
}

async function run(verb: VerbName, options: Options): Promise<number> {
  const cni = await import('../../cni/runtime/index.ts');
  const { CniError } = await import('../../cni/errors.ts');
  const { ListError } = cni;
  let version = '1.1.0';
  try {
    const list = cni.loadNetworkList(options.conf);
    version = list.cniVersion;
    const invalid = (text: string) => new CniError(4, `BAD_ENVIRONMENT: ${text}`);
    const runtime = places(options, list.file);
    if (verb === 'status') await cni.statusNetworkList(list, runtime);
    else if (verb === 'version') {
      const versions = await Promise.all(list.plugins.map((plugin) => cni.versionOf(plugin.type, runtime)));
      const common = versions.reduce(
        (all, each) => all.filter((one) => each.includes(one)),
        versions[0] ?? [],
      );
      print(JSON.stringify({ cniVersion: version, supportedVersions: common }));
    } else if (verb === 'gc') {
      if (options.valid && options.validNone) throw invalid('--valid and --valid-none exclude each other');
      // Without a list libcni DELs all that its cache holds: of a lab's node that is every running pod.
      if (!options.valid && !options.validNone)
        throw invalid(
          '--valid and --valid-none are missing: without the list of what lives nothing is removed',
        );
      const valid = options.validNone ? [] : options.valid!.map((text) => attachment(text, invalid));
      await cni.gcNetworkList(list, { ...runtime, valid });
    } else {
      if (options.containerId === undefined) throw invalid('--container-id is missing');
      if (options.netns === undefined && verb !== 'del') throw invalid('--netns is missing');
      const call = {
        ...runtime,
        containerId: options.containerId,
        netns: options.netns ?? '',
        ifname: options.ifname,
        ...(options.args === undefined ? {} : { args: argumentsOf(options.args, invalid) }),
        ...(options.cap === undefined ? {} : { capabilityArgs: capabilities(options.cap, invalid) }),
      };
      if (verb === 'add') print(JSON.stringify((await cni.addNetworkList(list, call)).json, null, 4));
      else if (verb === 'del') await cni.delNetworkList(list, call);
      else await cni.checkNetworkList(list, call);
    }
    return 0;
  } catch (error) {
    const known =
      error instanceof CniError
        ? error
        : new CniError(
            error instanceof ListError ? 7 : 999,
            `${error instanceof ListError ? 'INVALID_CONFIG' : 'INTERNAL'}: ${(error as Error).message}`,
          );
    print(JSON.stringify(known.toObject(version), null, 4));
    return 1;
  }
}

/** A conf of a lab's node brings its own plugins and cache: they lie beside it, and one cache must see all calls. */
function places(options: Options, file: string): { binDirs: string[]; cacheDir?: string } {
  const beside = dirname(dirname(file));
  const given = options.binDir ?? (process.env['CNI_PATH'] || undefined);
  const nodeBin = join(beside, 'bin');
  const binDirs = given !== undefined ? given.split(':') : existsSync(nodeBin) ? [nodeBin] : labBinDirs(file);
  if (options.cacheDir !== undefined) return { binDirs, cacheDir: options.cacheDir };
  return existsSync(join(beside, 'cache')) ? { binDirs, cacheDir: join(beside, 'cache') } : { binDirs };
}

/** A copy of a lab node's conf names the node's socket, and the node's plugins lie beside that. */
function labBinDirs(conf: string): string[] {
  const socket = readText(conf)?.match(/"agentSocket"\s*:\s*"([^"]+)"/)?.[1];
  const node = socket === undefined ? undefined : join(dirname(dirname(socket)), 'cni', 'bin');
  return node !== undefined && existsSync(node) ? [node] : ['/opt/cni/bin'];
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function attachment(text: string, invalid: (text: string) => Error): { containerId: string; ifname: string } {
  const at = text.lastIndexOf('/');
  if (at < 1 || at === text.length - 1) throw invalid(`--valid has ${JSON.stringify(text)}, not ID/IFNAME`);
  return { containerId: text.slice(0, at), ifname: text.slice(at + 1) };
}

function argumentsOf(text: string, invalid: (text: string) => Error): [string, string][] {
  return text
    .split(';')
    .filter((pair) => pair !== '')
    .map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw invalid(`--args has ${JSON.stringify(pair)}, not KEY=VALUE`);
      return [pair.slice(0, at), pair.slice(at + 1)];
    });
}

function capabilities(text: string, invalid: (text: string) => Error): Record<string, never> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, never>;
  } catch {
    // Told below.
  }
  throw invalid('--cap is not a JSON object');
}
