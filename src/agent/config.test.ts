import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PodwayError } from '../base/errors.ts';
import { parseAgentConfig } from './config.ts';

const least = { nodeName: 'node-1', runDir: '/run/podway' };

test('defaults', () => {
  const config = parseAgentConfig(least);
  assert.deepEqual(config.settings, {
    cooldownMs: 30_000,
    snat: 'node',
    snat6: 'none',
    families: 'ipv4',
    primaryFamily: 'auto',
    egress4: 'none',
    repair: 'enforce',
    policy: 'enforce',
    policyTimeout: 'fail',
    flowLog: 'denied',
    existingConnections: 'cut',
    podSecurityGroupEnforcingMode: 'strict',
    missingGroups: 'refuse',
    addressing: 'secondary',
    excludeSnatCidrs: [],
  });
  assert.equal(config.listen, undefined);
});

const refused: [string, unknown, RegExp][] = [
  ['not an object', [], /whole file/],
  ['no node name', { runDir: '/run/podway' }, /nodeName is undefined, and must be given/],
  ['no run directory', { nodeName: 'n' }, /runDir/],
  ['empty text', { ...least, kubeconfig: '' }, /kubeconfig is ""/],
  ['port', { ...least, listen: ':70000' }, /listen is ":70000", not ADDRESS:PORT/],
  ['negative warm', { ...least, settings: { warm: -1 } }, /warm is -1/],
  ['fraction', { ...least, settings: { cooldownMs: 1.5 } }, /cooldownMs is 1.5/],
  ['snat', { ...least, settings: { snat: 'maybe' } }, /snat is "maybe", not node, none or random/],
  [
    'missing groups',
    { ...least, settings: { missingGroups: 'ignore' } },
    /missingGroups is "ignore", not refuse or allow/,
  ],
  [
    'mode',
    { ...least, settings: { podSecurityGroupEnforcingMode: 'Standard' } },
    /podSecurityGroupEnforcingMode is "Standard", not strict or standard/,
  ],
  ['repair', { ...least, settings: { repair: 'off' } }, /repair is "off", not enforce or report/],
  [
    'addressing',
    { ...least, settings: { addressing: 'both' } },
    /addressing is "both", not secondary, prefix/,
  ],
  ['podMtu', { ...least, settings: { podMtu: 100 } }, /podMtu is 100/],
  ['CIDR with host bits', { ...least, settings: { excludeSnatCidrs: ['10.0.0.1/8'] } }, /10\.0\.0\.1\/8/],
];
for (const [name, source, message] of refused) {
  test(`refuses: ${name}`, () => {
    assert.throws(() => parseAgentConfig(source), message);
    if (name !== 'CIDR with host bits') {
      assert.throws(
        () => parseAgentConfig(source),
        (error) => error instanceof PodwayError && error.code === 'INVALID_CONFIG',
      );
    }
  });
}
