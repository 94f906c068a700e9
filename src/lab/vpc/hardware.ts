// vCPUs, cores and memory of an instance type by the rule that its name follows: a family has so many GiB for each vCPU,
// a size so many vCPUs. Families that follow none (accelerated, Mac, HPC, high memory, the first ones) are left out, and
// their answers say nothing of it. Source: Amazon EC2 instance types, user guide.
import type * as ec2 from '@aws-sdk/client-ec2';
import { instanceTypes } from './limits.ts';

type Hardware = { VCpuInfo?: ec2.VCpuInfo; MemoryInfo?: ec2.MemoryInfo };

/** GiB for each vCPU, by the family's name without its trailing options. First match counts. */
const RATIOS: readonly (readonly [RegExp, number])[] = [
  [/^c5n$/, 2.625],
  [/^c[34]$/, 1.875],
  [/^m3$/, 3.75],
  [/^r[34]$/, 7.625],
  [/^i3$/, 7.625],
  [/^a1$/, 2],
  [/^c[5-9]/, 2],
  [/^m[4-9]/, 4],
  [/^r[5-9]/, 8],
  [/^(i3en|i4i|i4g|i7ie?|i8ge?|z1d)$/, 8],
  [/^im4gn$/, 4],
  [/^is4gen$/, 6],
  [/^(x2gd|x2idn|x8g|x8i)$/, 16],
  [/^(x2iedn|x2iezn|x8aedz)$/, 32],
];

/** Burstable types have sizes of their own. */
const BURSTABLE = /^t(2|3|3a|4g)$/;
const BURSTABLE_GIB: Record<string, number> = {
  nano: 0.5,
  micro: 1,
  small: 2,
  medium: 4,
  large: 8,
  xlarge: 16,
  '2xlarge': 32,
};

/** Bare metal with more than its family's largest size. */
const UNUSUAL = new Set(['i3.metal']);

function vCpusOf(family: string, size: string): number | undefined {
  if (size === 'medium') return BURSTABLE.test(family) ? 2 : 1;
  if (size === 'large') return 2;
  if (/^(nano|micro|small)$/.test(size)) return family === 't2' ? 1 : 2;
  const times = /^(\d*)xlarge$|^metal-(\d+)xl$/.exec(size);
  if (times) return 4 * Number(times[1] || times[2] || 1);
  if (size !== 'metal') return undefined;
  const sizes = instanceTypes().flatMap((type) => {
    const [of, one = ''] = type.split('.');
    return of === family && one !== 'metal' ? (vCpusOf(family, one) ?? []) : [];
  });
  return sizes.length ? Math.max(...sizes) : undefined;
}

/** Graviton, AMD from the seventh generation, and t2: a vCPU is a core; elsewhere two share one. */
const threadsPerCore = (family: string): number => (/^(a1|t2|[a-z]+\d+g|[a-z]+[7-9]a)/.test(family) ? 1 : 2);

export function hardwareOf(instanceType: string): Hardware {
  const [family = '', size = ''] = instanceType.split('.');
  const vCpus = UNUSUAL.has(instanceType) ? undefined : vCpusOf(family, size);
  if (vCpus === undefined) return {};
  const ratio = RATIOS.find(([pattern]) => pattern.test(family))?.[1];
  const gib = BURSTABLE.test(family) ? BURSTABLE_GIB[size] : ratio && ratio * vCpus;
  if (gib === undefined) return {};
  const threads = threadsPerCore(family);
  return {
    VCpuInfo: {
      DefaultVCpus: vCpus,
      DefaultCores: Math.max(1, vCpus / threads),
      DefaultThreadsPerCore: threads,
    },
    MemoryInfo: { SizeInMiB: gib * 1024 },
  };
}
