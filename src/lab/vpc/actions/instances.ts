// Instances after their launch: describe, start, stop, reboot, terminate.
// Fails with IncorrectInstanceState, OperationNotPermitted under termination protection, InvalidInstanceID.NotFound.
import type * as ec2 from '@aws-sdk/client-ec2';
import { type Context, later, wordsOf } from '../context.ts';
import { conflict, Ec2Error, notFound } from '../errors.ts';
import type { Instance, InstanceState } from '../model.ts';
import { select } from '../select.ts';
import { interfacesOf } from './attachments.ts';
import { dropGivenPublicIps, givePublicIp } from './elastic-ips.ts';
import { instanceAnswer, stateAnswer } from './instance-answers.ts';
import { instanceFilters, statusFilters } from './instance-filters.ts';
import { publicAddressOf } from './interface-answers.ts';
import type { Meanings } from './types.ts';

/** All ids must exist; EC2 names every one that does not. */
function named(ctx: Context, ids: readonly string[] | undefined): Instance[] {
  if (!ids?.length) throw conflict('No instances specified');
  const { instances } = ctx.draft.state;
  const absent = ids.filter((id) => !Object.hasOwn(instances, id));
  if (absent.length) throw notFound(wordsOf('instances'), absent);
  return ids.map((id) => instances[id]!);
}

/** Moves each instance through `step`; answers what it was and what it is. */
function change(
  ctx: Context,
  ids: string[] | undefined,
  step: (instance: Instance) => InstanceState,
): ec2.InstanceStateChange[] {
  return named(ctx, ids).map((instance) => {
    const state = step(instance);
    const now = ctx.draft.state.instances[instance.id]!;
    if (now.state !== state) ctx.draft.put('instances', instance.id, { ...now, state });
    return {
      InstanceId: instance.id,
      PreviousState: stateAnswer(instance.state),
      CurrentState: stateAnswer(state),
    };
  });
}

export const wrongState = (instance: Instance, verb: string): Ec2Error =>
  new Ec2Error(
    'IncorrectInstanceState',
    `The instance '${instance.id}' is not in a state from which it can be ${verb} (it is '${instance.state}').`,
  );

const isProtected = (instance: Instance, verb: string, attribute: string): Ec2Error =>
  new Ec2Error(
    'OperationNotPermitted',
    `The instance '${instance.id}' may not be ${verb}. Modify its '${attribute}' instance attribute and try again.`,
  );

/** A transition that another one overtakes. */
const forget = (ctx: Context, instance: Instance, ...kinds: string[]): void => {
  for (const kind of kinds) ctx.draft.remove('transitions', `${kind}:${instance.id}`);
};

export const instanceActions: Meanings<
  | 'DescribeInstances'
  | 'DescribeInstanceStatus'
  | 'StartInstances'
  | 'StopInstances'
  | 'RebootInstances'
  | 'TerminateInstances'
> = {
  DescribeInstances: (ctx, input) => {
    const { state } = ctx.draft;
    if (input.InstanceIds?.length && input.MaxResults !== undefined) {
      throw conflict('The parameter instancesSet cannot be used with the parameter maxResults');
    }
    const { items, nextToken } = select<Instance>(
      {
        items: Object.values(state.instances),
        idOf: (instance) => instance.id,
        tagsOf: (instance) => instance.tags,
        words: wordsOf('instances'),
        filters: instanceFilters(ctx),
      },
      { ...input, ids: input.InstanceIds },
    );
    const reservations = Map.groupBy(items, (instance) => instance.reservationId);
    return {
      Reservations: [...reservations].map(([id, instances]) => ({
        ReservationId: id,
        OwnerId: state.accountId,
        Groups: [],
        Instances: instances.map((instance) => instanceAnswer(state, instance)),
      })),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  DescribeInstanceStatus: (ctx, input) => {
    const { state } = ctx.draft;
    const all = Object.values(state.instances);
    const { items, nextToken } = select<Instance>(
      {
        items:
          input.IncludeAllInstances || input.InstanceIds?.length
            ? all
            : all.filter((i) => i.state === 'running'),
        idOf: (instance) => instance.id,
        words: wordsOf('instances'),
        filters: statusFilters(ctx),
      },
      { ...input, ids: input.InstanceIds },
    );
    const shown = input.IncludeAllInstances ? items : items.filter((i) => i.state === 'running');
    return {
      InstanceStatuses: shown.map((instance) => {
        const Status = instance.state === 'running' ? ('ok' as const) : ('not-applicable' as const);
        return {
          InstanceId: instance.id,
          AvailabilityZone: instance.zone,
          InstanceState: stateAnswer(instance.state),
          InstanceStatus: { Status, Details: [] },
          SystemStatus: { Status, Details: [] },
        };
      }),
      ...(nextToken ? { NextToken: nextToken } : {}),
    };
  },

  StartInstances: (ctx, input) => ({
    StartingInstances: change(ctx, input.InstanceIds, (instance) => {
      if (instance.state === 'running' || instance.state === 'pending') return instance.state;
      if (instance.state !== 'stopped') throw wrongState(instance, 'started');
      const primary = interfacesOf(ctx.draft.state, instance.id)[0];
      if (
        primary &&
        instance.publicIpOnStart &&
        !publicAddressOf(ctx.draft.state, primary.id, primary.privateIps[0])
      ) {
        givePublicIp(ctx, primary);
      }
      const { endedByUserAt: _, ...started } = instance;
      ctx.draft.put('instances', instance.id, { ...started, launchTime: ctx.now });
      later(ctx, 'instance-running', instance.id, ctx.latencies.run);
      return 'pending';
    }),
  }),

  StopInstances: (ctx, input) => ({
    StoppingInstances: change(ctx, input.InstanceIds, (instance) => {
      if (instance.state === 'stopped' || instance.state === 'stopping') return instance.state;
      if (instance.state !== 'running' && instance.state !== 'pending') throw wrongState(instance, 'stopped');
      if (instance.disableApiStop) throw isProtected(instance, 'stopped', 'disableApiStop');
      ctx.draft.put('instances', instance.id, { ...instance, endedByUserAt: ctx.now });
      forget(ctx, instance, 'instance-running');
      for (const eni of interfacesOf(ctx.draft.state, instance.id)) dropGivenPublicIps(ctx, eni.id);
      later(ctx, 'instance-stopped', instance.id, ctx.latencies.stop);
      return 'stopping';
    }),
  }),

  RebootInstances: (ctx, input) => {
    for (const instance of named(ctx, input.InstanceIds)) {
      if (instance.state !== 'running') throw wrongState(instance, 'rebooted');
      ctx.draft.put('instances', instance.id, {
        ...instance,
        rebootedAt: Math.max(ctx.now, (instance.rebootedAt ?? 0) + 1),
      });
    }
    return {};
  },

  TerminateInstances: (ctx, input) => ({
    TerminatingInstances: change(ctx, input.InstanceIds, (instance) => {
      if (instance.state === 'terminated' || instance.state === 'shutting-down') return instance.state;
      if (instance.disableApiTermination) throw isProtected(instance, 'terminated', 'disableApiTermination');
      ctx.draft.put('instances', instance.id, { ...instance, endedByUserAt: ctx.now });
      forget(ctx, instance, 'instance-running', 'instance-stopped');
      later(ctx, 'instance-terminated', instance.id, ctx.latencies.terminate);
      return 'shutting-down';
    }),
  }),
};
