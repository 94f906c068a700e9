// Decides what a failed call to EC2 pauses: the whole cloud, one subnet, or the ENI itself. Logs once per streak of
// failures. A failure that may mean that EC2 differs from the pool asks for a describe.
import { CloudError } from '../../cloud/port.ts';
import { type Core, pause } from '../core.ts';
import { prefixKey } from '../plan/census.ts';

/** `prefixes`: the call asked for /28s, so a subnet without one is paused for those alone. */
export function failed(
  core: Core,
  thrown: unknown,
  keys: string[],
  subnetId: string | null,
  fields: object,
  prefixes = false,
) {
  if (core.signal.aborted) return pauseNothing(thrown);
  const code = thrown instanceof CloudError ? thrown.code : 'INTERNAL';
  // EC2 has a bucket for each action, and our own budget an order: only this request waits.
  const busy = code === 'CLOUD_THROTTLED';
  const cloudWide = code === 'CLOUD_UNREACHABLE';
  const fullSubnet = (code === 'SUBNET_EXHAUSTED' || code === 'SUBNET_FRAGMENTED') && subnetId !== null;
  const subnetKey =
    prefixes && code === 'SUBNET_FRAGMENTED' ? prefixKey(subnetId ?? '') : `subnet:${subnetId}`;
  const paused = cloudWide ? ['cloud'] : fullSubnet ? [subnetKey] : keys;
  const errors = paused.map((key) => pause(core, key, thrown));
  const first = core.state.pauses.get(paused[0]!)?.failures === 1;
  if (first)
    core.log.warn({ ...fields, cause: errors[0]!.code, error: errors[0]!.message }, 'a call to EC2 failed');
  if (!cloudWide && !fullSubnet && !busy) core.reconcileSoon();
  return errors[0]!;
}

const pauseNothing = (thrown: unknown) =>
  thrown instanceof CloudError ? thrown : new CloudError('Stopped', 'Network', String(thrown));
