// Host ports and bandwidth of a pod in the words that the standard plugins read.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CniError } from '../../cni/errors.ts';
import type { Pod } from '../../kube/types.ts';
import { capabilitiesOf, withoutEffect } from './capabilities.ts';

const pod = (annotations: Record<string, string>, ports: object[] = []) =>
  ({
    metadata: { annotations },
    spec: { containers: [{ name: 'a', ports }, { name: 'b' }] },
  }) as unknown as Pod;
const bandwidth = (text: string) =>
  capabilitiesOf(pod({ 'kubernetes.io/egress-bandwidth': text }))['bandwidth'];

test('host ports of all containers; container ports alone are none', () => {
  const ports = [
    { containerPort: 80 },
    { containerPort: 53, hostPort: 5353, protocol: 'UDP', hostIP: '10.0.0.1' },
  ];
  assert.deepEqual(capabilitiesOf(pod({}, ports)), {
    portMappings: [{ hostPort: 5353, containerPort: 53, protocol: 'udp', hostIP: '10.0.0.1' }],
  });
  assert.deepEqual(capabilitiesOf(pod({})), {});
});

test('bandwidth is bits a second, in the notation of Kubernetes', () => {
  const cases = { '10M': 1e7, '1.5Gi': 1610612736, '2e6': 2e6, '800': 800, '5k': 5000, '1P': 1e15 };
  for (const [text, egressRate] of Object.entries(cases))
    assert.deepEqual(bandwidth(text), { egressRate, egressBurst: 2 ** 32 - 1 }, text);
  for (const text of ['', '0', '-1M', 'M', '10Mb', '10m', '9999999P', '1 M'])
    assert.throws(() => bandwidth(text), CniError, text);
});

test('what no plugin of the chain takes is told, once for each thing', () => {
  const offered = capabilitiesOf(
    pod({ 'kubernetes.io/egress-bandwidth': '1M' }, [{ containerPort: 80, hostPort: 80 }]),
  );
  assert.deepEqual(withoutEffect(offered, new Set(['portMappings', 'bandwidth'])), []);
  assert.deepEqual(
    withoutEffect(offered, new Set(['mac'])).map((text) => text.split(' ')[0]),
    ['hostPort', 'bandwidth'],
  );
  assert.deepEqual(withoutEffect(capabilitiesOf(pod({ note: 'x' })), new Set()), []);
});
