// The versions of the CNI specification: which there are, how they compare, which verb came when.
// A version is one of the seven or it is not spoken here; text that is no version at all is another error.
import { PodwayError } from '../base/errors.ts';

export const SUPPORTED_VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type CniVersion = (typeof SUPPORTED_VERSIONS)[number];
export const LATEST_VERSION: CniVersion = '1.1.0';
/** What a config without cniVersion means. */
export const IMPLIED_VERSION: CniVersion = '0.1.0';

export const VERBS = ['ADD', 'DEL', 'CHECK', 'GC', 'STATUS', 'VERSION'] as const;
export type Verb = (typeof VERBS)[number];

const since: Record<Verb, CniVersion> = {
  ADD: '0.1.0',
  DEL: '0.1.0',
  VERSION: '0.1.0',
  CHECK: '0.4.0',
  GC: '1.1.0',
  STATUS: '1.1.0',
};

/** `x`, `x.y` or `x.y.z` in digits; null when the text is no version. The plugin has the same rule. */
export function parseVersion(text: string): [number, number, number] | null {
  if (text.length > 31 || !/^[0-9]+(\.[0-9]+){0,2}$/.test(text)) return null;
  const [major = 0, minor = 0, patch = 0] = text.split('.').map(Number);
  return [major, minor, patch];
}

/** Negative, zero or positive as `a` is before, equal to or after `b`. Text that is no version comes before all. */
export function compareVersions(a: string, b: string): number {
  const left = parseVersion(a) ?? [-1, 0, 0];
  const right = parseVersion(b) ?? [-1, 0, 0];
  return left[0] - right[0] || left[1] - right[1] || left[2] - right[2];
}

export const isSupported = (version: string): version is CniVersion =>
  (SUPPORTED_VERSIONS as readonly string[]).includes(version);
export const atLeast = (version: string, least: CniVersion): boolean => compareVersions(version, least) >= 0;
export const hasVerb = (version: string, verb: Verb): boolean => atLeast(version, since[verb]);

/** The version of a config for this verb. Throws BAD_JSON for what is no version, INCOMPATIBLE_VERSION for the rest. */
export function versionFor(verb: Verb, raw: unknown): CniVersion {
  if (raw === undefined || raw === null || raw === '') raw = IMPLIED_VERSION;
  if (typeof raw !== 'string' || !parseVersion(raw)) {
    throw new PodwayError('BAD_JSON', `cniVersion ${JSON.stringify(raw).slice(0, 66)} is not a version`, {
      object: 'cniVersion',
    });
  }
  if (!isSupported(raw)) {
    throw new PodwayError('INCOMPATIBLE_VERSION', `cniVersion ${raw} is not supported`, {
      object: 'cniVersion',
      has: raw,
    });
  }
  if (!hasVerb(raw, verb)) {
    throw new PodwayError(
      'INCOMPATIBLE_VERSION',
      `${verb} needs cniVersion ${since[verb]}, the config says ${raw}`,
      {
        object: 'cniVersion',
        has: raw,
        limit: since[verb],
      },
    );
  }
  return raw;
}

/** The answer to VERSION; `asked` is the cniVersion of its stdin. */
export const versionAnswer = (asked?: unknown): { cniVersion: string; supportedVersions: CniVersion[] } => ({
  cniVersion: typeof asked === 'string' && parseVersion(asked) ? asked : LATEST_VERSION,
  supportedVersions: [...SUPPORTED_VERSIONS],
});
