// For property tests: environments and configs that are nearly right, so that every check gets its turn to refuse.
import fc from 'fast-check';
import { VERBS } from '../versions.ts';

const word = fc.oneof(
  fc.string({ maxLength: 20 }),
  fc.constantFrom(
    '',
    'eth0',
    'abc',
    '..',
    'podway',
    '1.1.0',
    '0.2.0',
    '10.0.0.1/24',
    '02:00:00:00:00:01',
    'IgnoreUnknown=1',
    'a=b;;',
    '__proto__',
  ),
);
const keys = fc.constantFrom(
  'cniVersion',
  'name',
  'mtu',
  'dns',
  'routes',
  'args',
  'cni',
  'runtimeConfig',
  'prevResult',
  'mac',
  'ips',
  'interfaces',
  'interface',
  'address',
  'dst',
  'gw',
  'ip4',
  'ip',
  'cni.dev/valid-attachments',
  'containerID',
  'ifname',
  'agentSocket',
  '__proto__',
  'toString',
);
const { json } = fc.letrec<{ json: unknown }>((tie) => ({
  json: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    word,
    fc.constantFrom(null, true, 0, -1, 1.5, 1e99),
    fc.array(tie('json'), { maxLength: 3 }),
    fc.array(fc.tuple(keys, tie('json')), { maxLength: 5 }).map((entries) => Object.fromEntries(entries)),
  ),
}));
export const nearlyConf = fc
  .tuple(json, fc.constantFrom({}, { name: 'podway' }, { name: 'podway', cniVersion: '1.1.0' }), fc.boolean())
  .map(([value, base, whole]) =>
    JSON.stringify(whole || typeof value !== 'object' ? value : { ...value, ...base }),
  );
export const environment = fc.record(
  {
    CNI_COMMAND: fc.oneof(
      { weight: 4, arbitrary: fc.constantFrom(...VERBS) },
      { weight: 1, arbitrary: word },
    ),
    CNI_CONTAINERID: fc.oneof(fc.constant('abc'), word),
    CNI_NETNS: fc.oneof(fc.constant('/x'), word),
    CNI_IFNAME: fc.oneof(fc.constant('eth0'), word),
    CNI_ARGS: word,
  },
  { requiredKeys: ['CNI_COMMAND'] },
);
