// What the metadata service says while it lags behind EC2: a new interface's directory comes before its keys, its keys
// before its further addresses, and what was taken away lingers. Pure over past states.
import type { LabState } from '../context.ts';
import type { NetworkInterface, VpcState } from '../model.ts';

/** Milliseconds. */
export type ImdsLag = {
  /** From attached to listed. */
  directory: number;
  /** From attached to the keys of its directory. */
  keys: number;
  /** From assigned to listed, secondary addresses and prefixes. */
  added: number;
  /** From unassigned or detached to not listed. */
  removed: number;
};
export const noLag: ImdsLag = { directory: 0, keys: 0, added: 0, removed: 0 };
export const longestLag = (lag: ImdsLag): number => Math.max(lag.directory, lag.keys, lag.added, lag.removed);

/** `bare`: interfaces whose directory is there and its keys are not. */
export type ImdsView = { state: VpcState; bare: ReadonlySet<string> };

export function laggingView(
  at: (time: number) => LabState,
  now: number,
  lag: ImdsLag,
  instanceId: string,
): ImdsView {
  const state = at(now);
  const then = {
    directory: at(now - lag.directory),
    keys: at(now - lag.keys),
    added: at(now - lag.added),
    removed: at(now - lag.removed),
  };
  const shown = { ...state.networkInterfaces };
  const bare = new Set<string>();
  for (const eni of Object.values(state.networkInterfaces)) {
    // The primary interface is there before the instance runs.
    if (!isShown(eni, instanceId) || eni.attachment?.deviceIndex === 0) continue;
    if (!isShown(then.directory.networkInterfaces[eni.id], instanceId)) delete shown[eni.id];
    else if (!isShown(then.keys.networkInterfaces[eni.id], instanceId)) bare.add(eni.id);
  }
  for (const eni of Object.values(then.removed.networkInterfaces)) {
    // Detached or deleted since.
    if (isShown(eni, instanceId) && !isShown(state.networkInterfaces[eni.id], instanceId))
      shown[eni.id] = eni;
  }
  for (const eni of Object.values(shown)) {
    const now = state.networkInterfaces[eni.id];
    if (now === undefined || !isShown(now, instanceId)) continue;
    const before = then.removed.networkInterfaces[eni.id];
    const earlier = then.added.networkInterfaces[eni.id];
    const known = isShown(earlier, instanceId) || eni.attachment?.deviceIndex === 0 ? earlier : undefined;
    const [primary, ...others] = now.privateIps;
    shown[eni.id] = {
      ...now,
      privateIps: [
        ...(primary === undefined ? [] : [primary]),
        ...merged(others, known?.privateIps, before?.privateIps.slice(1)),
      ],
      ipv4Prefixes: merged(now.ipv4Prefixes, known?.ipv4Prefixes, before?.ipv4Prefixes),
      ipv6Addresses: merged(now.ipv6Addresses, known?.ipv6Addresses, before?.ipv6Addresses),
      ipv6Prefixes: merged(now.ipv6Prefixes, known?.ipv6Prefixes, before?.ipv6Prefixes),
    };
  }
  return { state: { ...state, networkInterfaces: shown }, bare };
}

const isShown = (eni: NetworkInterface | undefined, instanceId: string): eni is NetworkInterface =>
  eni?.attachment?.instanceId === instanceId && eni.attachment.status !== 'attaching';

/** What is there and was there long enough, and what was there a moment ago. */
const merged = (now: string[], earlier: string[] = [], before: string[] = []): string[] => [
  ...now.filter((item) => earlier.includes(item)),
  ...before.filter((item) => !now.includes(item)),
];
