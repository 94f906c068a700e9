// podway policy apply and diff: policies of files, written to the Kubernetes API, or compared with what it has.
import { isDeepStrictEqual } from 'node:util';
import type { Command } from 'commander';
import type { Changed } from '../../policy/change.ts';
import { type PlaceOptions, withLivePlace } from '../cluster/place.ts';
import { withApi } from '../cluster/policies.ts';
import { act, collect, command } from '../command.ts';
import { usageError } from '../errors.ts';
import { green, print, printJson, red, table, yellow } from '../output.ts';

type FileOptions = PlaceOptions & { filename?: string[]; namespace: string };

const withFiles = (made: Command): Command =>
  withLivePlace(made)
    .option('-f, --filename <file>', 'YAML or JSON, several documents; - is stdin; may be repeated', collect)
    .option('-n, --namespace <namespace>', 'of policies without one', 'default');

async function documentsOf({ filename, namespace }: FileOptions) {
  if (!filename) throw usageError('no file is named', 'podway policy apply -f policy.yaml');
  const { readPolicies } = await import('../policy-files.ts');
  return readPolicies(filename, namespace);
}

export function applyCommand(): Command {
  return withFiles(
    command(
      'apply',
      'write policies to the cluster: all of them are read first, and one that is wrong stops all',
      [
        'podway policy apply -f policy.yaml',
        'podway policy apply -n shop -f - < policy.yaml',
        'podway policy apply -f policy.yaml && podway policy wait',
      ],
    ),
  ).action(
    act(async (options: FileOptions) => {
      const documents = await documentsOf(options);
      const [{ presentOf, writePolicy }, { lint }, { readWorldForLint }] = await Promise.all([
        import('../policy-files.ts'),
        import('../../policy/lint.ts'),
        import('../../policy/world.ts'),
      ]);
      const { done, said } = await withApi(options, async (client) => {
        const done: { object: string; change: 'created' | 'changed' | 'unchanged' }[] = [];
        for (const one of documents) await writePolicy(client, one, true);
        for (const one of documents) {
          const before = await presentOf(client, one);
          const after = await writePolicy(client, one);
          const isSame = before?.metadata.resourceVersion === after.metadata.resourceVersion;
          const change = !before ? 'created' : isSame ? 'unchanged' : 'changed';
          done.push({ object: one.policy.object, change });
        }
        const own = new Set(done.map(({ object }) => object));
        return { done, said: lint(await readWorldForLint(client)).filter(({ object }) => own.has(object)) };
      });
      if (options.output === 'json') return printJson({ applied: done, lint: said });
      for (const { object, change } of done) print(`${object} ${change}`);
      for (const { object, kind, text } of said) print(`${yellow(kind)} ${object}: ${text}`);
    }),
  );
}

/** Pairs that a person is shown. */
const SHOWN = 40;

export function diffCommand(): Command {
  return withFiles(
    command('diff', 'what policies of files would change: objects, and connections between pods', [
      'podway policy diff -f policy.yaml',
      'podway policy diff -f policy.yaml -o json',
    ]),
  ).action(
    act(async (options: FileOptions) => {
      const documents = await documentsOf(options);
      const [{ changeOf }, { readWorld }] = await Promise.all([
        import('../../policy/change.ts'),
        import('../../policy/world.ts'),
      ]);
      const world = await withApi(options, readWorld);
      const before = world.decoded.flatMap(({ policy }) => (policy ? [policy] : []));
      const known = new Map(world.decoded.map((one) => [keyOf(one), one]));
      const objects = documents.map((one) => {
        const present = known.get(keyOf(one));
        const isSame = present?.policy != null && isDeepStrictEqual(present.policy, one.policy);
        return { object: one.policy.object, change: !present ? 'create' : isSame ? 'same' : 'change' };
      });
      const replaced = new Set(documents.map(({ policy }) => policy.object));
      const after = [
        ...before.filter(({ object }) => !replaced.has(object)),
        ...documents.map(({ policy }) => policy),
      ];
      const { namespaces, pods, nodePeers: nodes = new Map() } = world;
      const change = changeOf({ before, after, namespaces, nodes, pods });
      if (options.output === 'json') return printJson({ objects, ...change });
      for (const { object, change: what } of objects) print(`${object}: ${what}`);
      print(changeText(change));
    }),
  );
}

const keyOf = ({ namespace, name }: { namespace: string | null; name: string }): string =>
  `${namespace ?? ''}/${name}`;

function changeText({
  changed,
  compared,
  pods,
}: {
  changed: Changed[];
  compared: number;
  pods: number;
}): string {
  const of = compared < pods ? `, of ${compared} of ${pods} pods` : '';
  if (changed.length === 0) return `no connection between pods is decided otherwise${of}`;
  const shown = (verdict: 'allow' | 'deny') => (verdict === 'allow' ? green(verdict) : red(verdict));
  const rows = changed
    .slice(0, SHOWN)
    .map(({ from, to, protocol, port, before, after }) => [
      ...[from, to, `${port ?? 'other'}/${protocol}`, shown(before), shown(after)],
    ]);
  const more = changed.length - rows.length;
  return [
    table(['FROM', 'TO', 'PORT', 'NOW', 'THEN'], rows),
    `${changed.length} connections are decided otherwise${of}${more > 0 ? `; ${more} more: -o json` : ''}`,
  ].join('\n');
}
