// podway sg: security groups per pod. Reads the Kubernetes API of a lab or a cluster, asks the agent of the pod's
// node, which asks EC2; or reads what a dump has of both.
import type { Command } from 'commander';
import type { KubeObject, Pod, Resource } from '../../kube/index.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import { openApi } from '../cluster/api.ts';
import { openPlace, type PlaceOptions, withPlace } from '../cluster/place.ts';
import { act, command, podOf } from '../command.ts';
import { bold, dim, green, print, printJson, red, table, yellow } from '../output.ts';
import type { GroupsInput, GroupsView } from '../sg-view.ts';

export function sgCommand(): Command {
  const made = command('sg', 'security groups of pods', [
    'podway sg show web',
    'podway sg show shop/web -o json',
  ]);
  made.addCommand(showCommand());
  return made;
}

function showCommand(): Command {
  return withPlace(
    command(
      'show',
      'the groups of a pod, from which policies, its interface, and gate by gate what is in force',
      [
        'podway sg show web',
        'podway sg show shop/web -o json | jq .gates',
        'podway sg show shop/web --from podway-sysdump.tgz',
      ],
    ),
  )
    .argument('<pod>', '[NAMESPACE/]POD')
    .option('-n, --namespace <namespace>', 'of a pod without one', 'default')
    .action(
      act(async (subject: string, options: PlaceOptions & { namespace: string }) => {
        const { namespace, name } = podOf(subject, options.namespace);
        const { groupsView, newcomerText } = await import('../sg-view.ts');
        const view = groupsView(await read(options, namespace, name));
        if (options.output === 'json') printJson(view);
        else show(view, newcomerText(view));
      }),
    );
}

async function read(options: PlaceOptions, namespace: string, name: string): Promise<GroupsInput> {
  const kube = await import('../../kube/index.ts');
  const api = await openApi(options);
  // A dump has lists alone.
  const find = async <T extends KubeObject>(kind: Resource<T>, of: string, within?: string) => {
    const query = {
      fieldSelector: `metadata.name=${of}`,
      ...(within === undefined ? {} : { namespace: within }),
    };
    const { items } = await api.list(kind, query);
    return items.find(({ metadata }) => metadata.name === of && metadata.namespace === within) ?? null;
  };
  try {
    const pod = await find(kube.pods, name, namespace);
    if (!pod) throw new LabError('NO_SUCH_POD', `there is no pod ${namespace}/${name}`, 'podway pod list');
    const { nodeName, serviceAccountName = 'default' } = pod.spec;
    const [policies, node, account, told] = await Promise.all([
      api.list(kube.securityGroupPolicies, { namespace }).catch((error: unknown) => {
        if (kube.isNotFound(error)) return { items: [] };
        throw error;
      }),
      nodeName === undefined ? null : find(kube.nodes, nodeName),
      find(kube.serviceAccounts, serviceAccountName, namespace),
      kube.asksForBranch(pod) || pod.metadata.annotations?.[kube.POD_ENI] !== undefined
        ? ask(options, pod)
        : 'the pod asks for no branch',
    ]);
    const own = policies.items.filter(({ metadata }) => metadata.namespace === namespace);
    const serviceAccount = account ? (account.metadata.labels ?? {}) : null;
    return { pod, node, policies: own, serviceAccount, told };
  } finally {
    api.close();
  }
}

/** Of the agent of its node: a text when it does not answer. */
async function ask(options: PlaceOptions, { metadata, spec, status }: Pod): Promise<GroupsInput['told']> {
  if (spec.nodeName === undefined) return 'the pod has no node yet';
  if (status?.phase === 'Succeeded' || status?.phase === 'Failed') return 'the pod has ended';
  const namespace = metadata.namespace ?? 'default';
  try {
    const place = await openPlace(options);
    return await place.explain(`${namespace}/${metadata.name}`, namespace).finally(() => place.close());
  } catch (error) {
    return (error as Error).message;
  }
}

function show(view: GroupsView, newcomer: string | null): void {
  print(`${bold(`${view.namespace}/${view.name}`)}${view.node === null ? '' : ` on ${view.node}`}`);
  const rows = view.gates.map(({ gate, ok, text }) => [gate, ok ? green('yes') : red('no'), text]);
  print(table(['GATE', 'PASSED', 'WHY'], rows));
  if (view.cause !== null) print(red(view.cause));
  if (view.interface === null) return;
  const { groupIds, lack, mode } = view;
  const groups = groupIds === null ? yellow(`not known: ${lack}`) : groupIds.join(', ');
  print(`\n${dim('groups in force'.padEnd(16))} ${groups}`);
  if (newcomer !== null) print(`${''.padEnd(16)} ${yellow(newcomer)}`);
  print(`${dim('mode'.padEnd(16))} ${mode ?? 'not known'}`);
  const { eniId, mac, vlanId, ip, subnet, associationId } = view.interface;
  const row = [eniId, mac, `${vlanId}`, ip ?? '', subnet ?? '', dim(associationId)];
  print(`\n${table(['ENI', 'MAC', 'VLAN', 'ADDRESS', 'SUBNET', 'ASSOCIATION'], [row])}`);
}
