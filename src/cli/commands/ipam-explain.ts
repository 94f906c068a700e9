// podway ipam explain NODE|POD: what the pool decides now and why; for a pod without an address its cause and place.
import type { Command } from 'commander';
import type { Explanation } from '../../ipam/views/explain.ts';
import { openPlace, type PlaceOptions, withPlace } from '../cluster/place.ts';
import { act, command, podOf } from '../command.ts';
import { bold, dim, print, printJson, yellow } from '../output.ts';
import { limitsText } from '../views.ts';

export function ipamExplainCommand(): Command {
  return withPlace(
    command('explain', "a node's decision now with its inputs, or why a pod has no address", [
      'podway ipam explain node-1',
      'podway ipam explain web',
      'kubectl podway ipam explain kube-system/dns -o json',
      'podway ipam explain --local',
    ]),
  )
    .argument('[node-or-pod]', 'a node, a pod, or namespace/pod')
    .option('-n, --namespace <namespace>', 'of the pod', 'default')
    .action(
      act(async (subject: string | undefined, options: PlaceOptions & { namespace: string }) => {
        // A node's name reads as a pod's.
        if (subject !== undefined) podOf(subject, options.namespace);
        const place = await openPlace(options);
        const told = await place.explain(subject, options.namespace).finally(() => place.close());
        if (options.output === 'json') printJson(told);
        else print(explanationText(told));
      }),
    );
}

function explanationText(told: Explanation): string {
  const { inputs, policy, cause } = told;
  const lines = [told.subject === told.node ? `${bold(told.node)} ${told.decision}` : bold(told.decision)];
  if (told.subject !== told.node) lines.push(row('node', told.node));
  for (const { ip, eni, since } of told.addresses ?? [])
    lines.push(row('address', `${ip} of ${eni ?? 'an ENI not known yet'}, since ${since}`));
  if (cause) {
    lines.push(row('cause', `${yellow(cause.code)}: ${cause.text}`));
    lines.push(row('podway', cause.details.does + next(cause.details.nextAt)));
    lines.push(row('you', `${cause.next} ${dim(`(podway explain ${cause.code})`)}`));
  }
  if (told.position !== undefined && told.inLine)
    lines.push(row('place', `${told.position} of ${inputs.waiting} in line`));
  if (told.expectedSeconds !== undefined)
    lines.push(row('expected', `in ${told.expectedSeconds.toFixed(1)} s`));
  const others = (['quarantined', 'incoming'] as const)
    .map((name) => (inputs[name] > 0 ? `, ${inputs[name]} ${name}` : ''))
    .join('');
  lines.push(
    row(
      'addresses',
      `${inputs.held} held, ${inputs.free} free, ${inputs.cooling} cooling, ${inputs.waiting} waiting${others}`,
    ),
    row(
      'goal',
      `${inputs.goal} free${inputs.warm === null ? '' : ` (warm ${inputs.warm})`}${inputs.forecast === null ? '' : `, the forecast asks for ${inputs.forecast}`}`,
    ),
    row(
      'policy',
      `${policy.addressing}, ${targetText(policy)}, cooldown ${policy.cooldownMs / 1000} s, idle addresses are returned after ${policy.idleReleaseMs / 1000} s; from ${told.source}`,
    ),
    ...told.notes.map((text) => row('note', text)),
    row('limits', limitsText(inputs.limits)),
    ...inputs.subnets.map((one) => row('subnet', subnetText(one))),
    row(
      'calls',
      `${inputs.callsLeft.reads} reads and ${inputs.callsLeft.changes} changes left of the node's budget`,
    ),
    ...(told.actions.length > 0 ? told.actions : ['nothing']).map((text) => row('does now', text)),
    row('next look', told.nextLook ?? 'when something changes'),
  );
  return lines.join('\n');
}

function subnetText(one: Explanation['inputs']['subnets'][number]): string {
  const parts = [`${one.id} ${one.cidr}`, `${one.enis} ${one.enis === 1 ? 'ENI' : 'ENIs'}`];
  if (one.free !== undefined) parts.push(`${one.free} free at ${one.describedAt}`);
  if (one.paused) parts.push(yellow(`left alone: ${one.paused.cause} until ${one.paused.until}`));
  if (one.noPrefixes)
    parts.push(yellow(`no prefixes: ${one.noPrefixes.cause} until ${one.noPrefixes.until}`));
  return parts.join(', ');
}

const row = (name: string, text: string): string => `  ${dim(name.padEnd(10))} ${text}`;
const next = (at: number | undefined): string =>
  at === undefined ? '' : ` Next at ${new Date(at).toISOString()}.`;

function targetText({ targets }: Explanation['policy']): string {
  switch (targets.kind) {
    case 'warm':
      return `keeps ${targets.free} free`;
    case 'forecast':
      return `forecast: ${targets.podsPerMinute} pods a minute, at most ${targets.maxIdlePercent} % idle, at least ${targets.minIdle}`;
    case 'incumbent':
      return `WARM_ENI_TARGET=${targets.warmEnis} WARM_PREFIX_TARGET=${targets.warmPrefixes} WARM_IP_TARGET=${targets.warmIps} MINIMUM_IP_TARGET=${targets.minimumIps}`;
  }
}
