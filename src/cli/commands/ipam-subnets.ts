// podway ipam subnets, ipam defrag plan, ipam release-idle: the room in the subnets, what stands in the way of prefixes, and
// the way to remove it.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { LabError } from '../../lab/daemon/errors.ts';
import type { IpamNode } from '../../lab/daemon/protocol.ts';
import { act, type Common, collect, command, withDump, withLab, withOutput } from '../command.ts';
import { usageError } from '../errors.ts';
import { namedLab, openLab } from '../labs.ts';
import { bold, print, printJson, table, yellow } from '../output.ts';
import {
  commandsOf,
  defragOf,
  reportSubnet,
  type SubnetOptions,
  type SubnetReport,
  survey,
  withForecast,
} from '../subnets.ts';
import { Dump } from '../sysdump/dump.ts';

/** `release-idle` waits this long for EC2 to have the addresses back. */
const RETURN_MS = 20_000;
const LOOK_MS = 200;
const LONGEST_LOOK_S = 600;

const withScope = (made: Command): Command =>
  withDump(withOutput(withLab(made)))
    .option('--aws', 'ask AWS, with the region and credentials of the environment, not a lab')
    .option('--region <region>', 'of AWS (else AWS_REGION)')
    .option('--vpc <id>', 'only subnets of this VPC')
    .option('--subnet <id>', 'only this subnet; may be given again', collect);

export function ipamSubnetsCommand(): Command {
  return withScope(
    command(
      'subnets',
      'room in each subnet: free addresses, the largest free run, whole /28s, idle per node',
      [
        'podway ipam subnets',
        'podway ipam subnets --over 30s',
        'podway ipam subnets --aws --vpc vpc-0a1b2c3d -o json',
      ],
    ),
  )
    .option('--over <duration>', 'look twice this long apart, and tell when each subnet is full at that rate')
    .action(
      act(async (options: Common & SubnetOptions & { over?: string }) => {
        const over = options.over === undefined ? null : seconds(options.over);
        if (over !== null && options.from !== undefined)
          throw usageError('--over looks twice, and a dump was made once', 'leave out --over');
        const before = over === null ? null : await survey(options);
        if (over !== null) await sleep(over * 1000);
        const { subnets, nodes } = await survey(options);
        const now = subnets.map((subnet) => reportSubnet(subnet, nodes));
        const reports = before && over !== null ? withForecast(now, before.subnets, over) : now;
        if (options.output === 'json') printJson(reports);
        else print(subnetsText(reports, over !== null));
      }),
    );
}

function seconds(text: string): number {
  const [, number, unit] = /^(\d+)(s|m)$/.exec(text) ?? [];
  const value = Number(number) * (unit === 'm' ? 60 : 1);
  if (!(value >= 1 && value <= LONGEST_LOOK_S))
    throw usageError(`--over is "${text}", not 1s to ${LONGEST_LOOK_S}s`, 'such as --over 30s');
  return value;
}

function subnetsText(reports: readonly SubnetReport[], withRate: boolean): string {
  if (reports.length === 0) return 'no subnets';
  const rows = reports.map((one) => [
    one.id,
    one.cidr,
    one.zone,
    String(one.usable),
    one.free === 0 ? yellow('0') : String(one.free),
    String(one.largestFreeRun),
    one.freePrefixes === 0 ? yellow('0') : String(one.freePrefixes),
    one.reserved === null ? '?' : String(one.reserved.prefix + one.reserved.explicit),
    ...(withRate ? [one.exhaustedInSeconds === undefined ? '-' : lasts(one.exhaustedInSeconds)] : []),
    one.idle.map(({ node, addresses }) => `${node} ${addresses}`).join(', ') || '-',
  ]);
  const head = ['SUBNET', 'CIDR', 'ZONE', 'USABLE', 'FREE', 'RUN', '/28S', 'RESERVED'];
  return table([...head, ...(withRate ? ['FULL IN'] : []), 'IDLE'], rows);
}

const lasts = (s: number): string =>
  s < 120 ? `${s} s` : s < 7_200 ? `${Math.round(s / 60)} min` : `${Math.round(s / 3_600)} h`;

export function ipamDefragCommand(): Command {
  const plan = withScope(
    command('plan', 'idle addresses whose return frees whole /28s, those that free most per address first', [
      'podway ipam defrag plan',
      'podway ipam defrag plan --subnet subnet-0a1b2c3d -o json',
    ]),
  ).action(
    act(async (options: Common & SubnetOptions) => {
      if (options.aws)
        throw usageError('--aws cannot tell what is idle: only the agents know', 'leave it out, for a lab');
      const lab = options.from === undefined ? namedLab(options) : dumpedLab(options.from);
      const surveyed = await survey(options);
      const plans = surveyed.subnets.map((subnet) => defragOf(subnet, surveyed.nodes));
      const commands = commandsOf(surveyed, plans, lab === undefined ? '' : ` --lab ${lab}`);
      if (options.output === 'json') return printJson({ subnets: plans, commands });
      const steps = plans.flatMap((one) =>
        one.steps.map(({ prefix, addresses }) => [
          one.id,
          prefix,
          String(addresses.length),
          addresses.map((one) => `${one.ip} (${'node' in one ? one.node : one.interface})`).join(', '),
        ]),
      );
      for (const one of plans)
        print(
          `${bold(one.id)} ${one.cidr}: ${one.freePrefixes} whole /28s free, ${one.freePrefixesAfter} after this`,
        );
      if (steps.length === 0) return print('no idle addresses stand alone in the way of a whole /28');
      print(`\n${table(['SUBNET', 'FREES', 'COST', 'BY RETURNING'], steps)}\n\nTo follow it:`);
      for (const line of commands) print(`  ${line}`);
      if (commands.some((line) => line.startsWith('aws ')))
        print('\nAn interface that is attached to nothing may be kept for something: look at it first.');
    }),
  );
  return command('defrag', 'whole /28s in fragmented subnets', ['podway ipam defrag plan']).addCommand(plan);
}

/** The name of the lab that a dump was made of. Throws USAGE where the nodes' idle addresses are not beside EC2's. */
function dumpedLab(file: string): string {
  const dump = Dump.open(file);
  dump.needLab();
  return dump.place.name;
}

export function ipamReleaseIdleCommand(): Command {
  return withLab(
    command('release-idle', 'return idle addresses of a node to EC2; all of those named, or none', [
      'podway ipam release-idle 10.0.3.7 10.0.3.9 --node node-1',
      'podway ipam release-idle 10.0.4.16/28 --node node-1',
    ]),
  )
    .argument('<address...>', 'idle addresses, or idle prefixes; held and cooling ones are refused')
    .requiredOption('--node <node>', 'the node that has them')
    .action(
      act(async (addresses: string[], options: Common & { node: string }) => {
        const { control } = await openLab(options);
        const { node } = options;
        await control.call('POST', '/v1/ipam/release-idle', { node, addresses });
        const left = () =>
          control
            .call<IpamNode[]>('GET', `/v1/ipam?node=${encodeURIComponent(node)}`)
            .then(stillThere(addresses));
        const until = performance.now() + RETURN_MS;
        let there = await left();
        while (there.length > 0 && performance.now() < until) {
          await sleep(LOOK_MS);
          there = await left();
        }
        if (there.length > 0)
          throw new LabError(
            'TIMEOUT',
            `EC2 has not taken ${there.join(', ')} of ${node} back within ${RETURN_MS / 1000} s; the node goes on trying`,
            `podway ipam explain ${node} tells what it waits for`,
          );
        print(
          `${addresses.length} ${addresses.length === 1 ? 'is' : 'are'} back in EC2: ${addresses.join(', ')}`,
        );
      }),
    );
}

const stillThere =
  (addresses: readonly string[]) =>
  (nodes: readonly IpamNode[]): string[] => {
    // Given back and got again meanwhile, it has no `leaving`.
    const leaving = new Set(
      nodes.flatMap(({ enis }) =>
        enis.flatMap((eni) => [
          ...eni.addresses.filter((one) => one.leaving).map((one) => one.ip),
          ...eni.prefixes.filter((one) => one.leaving).map((one) => one.cidr),
        ]),
      ),
    );
    return addresses.filter((address) => leaving.has(address));
  };
