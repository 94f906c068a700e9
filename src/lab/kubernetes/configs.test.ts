import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  containerdConfig,
  kubeletArguments,
  kubeletConfig,
  kubeProxyConfig,
  type NodeConfigFacts,
  type Runtime,
} from './configs.ts';

const runtime: Runtime = {
  major: 1,
  containerd: '/usr/bin/containerd',
  ctr: '/usr/bin/ctr',
  runc: '/usr/sbin/runc',
  snapshotter: 'overlayfs',
  restrictOomScoreAdj: true,
};
const facts: NodeConfigFacts = {
  node: 'node-1',
  zone: 'us-west-2a',
  region: 'us-west-2',
  instanceId: 'i-0123',
  instanceType: 'm5.large',
  address: '10.0.0.10',
  maxPods: 29,
  hasController: false,
};

test('each containerd gets the configuration that it reads, with what the machine can', () => {
  const one = containerdConfig(runtime);
  assert.match(one, /^version = 2$/m);
  assert.match(one, /^ {2}snapshotter = "overlayfs"$/m);
  assert.match(one, /^ {2}restrict_oom_score_adj = true$/m);
  const two = containerdConfig({ ...runtime, major: 2, snapshotter: 'native', restrictOomScoreAdj: false });
  assert.match(two, /^version = 3$/m);
  assert.match(two, /^ {2}snapshotter = "native"$/m);
  assert.match(two, /^ {2}restrict_oom_score_adj = false$/m);
  assert.match(two, /^ {2}use_internal_loopback = true$/m);
});

test('kubelet asks for no cgroups of its own and writes nothing to the machine', () => {
  const config = JSON.parse(kubeletConfig(facts)) as Record<string, unknown>;
  assert.equal(config['cgroupsPerQOS'], false);
  assert.equal(config['failCgroupV1'], false);
  assert.equal(config['protectKernelDefaults'], true);
  assert.equal(config['maxPods'], 29);
  assert.equal(config['providerID'], 'aws:///us-west-2a/i-0123');
  assert.deepEqual(config['authentication'], {
    anonymous: { enabled: false },
    webhook: { enabled: true },
    x509: { clientCAFile: '/etc/kubernetes/pki/ca.crt' },
  });
  assert.ok(kubeletArguments(facts).includes('--node-ip=10.0.0.10'));
  assert.ok(kubeletArguments({ ...facts, address6: 'fd00::a' }).includes('--node-ip=10.0.0.10,fd00::a'));
});

test("kube-proxy leaves the machine's connection tracking alone", () => {
  const config = JSON.parse(kubeProxyConfig(facts)) as { mode: string; conntrack: unknown };
  assert.equal(config.mode, 'nftables');
  assert.deepEqual(config.conntrack, {
    maxPerCore: 0,
    min: 0,
    tcpEstablishedTimeout: '0s',
    tcpCloseWaitTimeout: '0s',
  });
});
