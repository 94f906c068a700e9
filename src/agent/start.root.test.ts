// The order of a start: what stands in the kernel is taken over, then queued DELs are served, then the kernel is made as
// it should be; only then does the caller serve.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { hostCidr, parseCidr, parseIp } from '../base/ip.ts';
import { Journal } from '../base/journal.ts';
import { FakeCloud } from '../cloud/testing.ts';
import { encodeRequest } from '../cni/wire.ts';
import { hostLinkName } from '../datapath/marks.ts';
import { isRoot, quiet } from '../datapath/testing.ts';
import { eniRecord, nodeRecord, type PoolRecord } from '../ipam/journal/records.ts';
import { type Eni, newBlock } from '../ipam/state.ts';
import { identityOf, m5Large } from '../ipam/testkit.ts';
import { currentNetns } from '../kernel/netns.ts';
import { createApiServer } from './api-server.ts';
import { parseAgentConfig } from './config.ts';
import { createMetrics } from './metrics.ts';
import type { Parts } from './parts.ts';
import { type Serving, startNode } from './start.ts';

const FREE = parseIp('10.0.0.77');
const gone = { network: 'podway', containerId: 'gone', ifname: 'eth0' };

test('adopt, the queue, the kernel, then ADD', { skip: !isRoot && 'needs root' }, async () => {
  const runDir = mkdtempSync(join(tmpdir(), 'podway-start-'));
  const stop = new AbortController();
  const order: string[] = [];
  const cloud = new FakeCloud();
  const identity = identityOf(cloud, m5Large);
  const path = join(runDir, 'journal');
  const { eniId, ip, ...primary } = identity.primary;
  const eni: Eni = {
    ...{ ...primary, id: eniId, primaryIp: ip, primary: true, deviceIndex: 0, networkCard: 0 },
    ...{ groupIds: [], interfaceType: 'interface', attachmentId: null, deleteOnTermination: false },
    ...{ phase: 'ready', since: 0, settledAt: 0, unsettled: null, missingSince: null },
    subnetCidr: parseCidr('10.0.0.0/24'),
    blocks: new Map([[FREE, newBlock(hostCidr(FREE), 0)]]),
    returned: new Map(),
  };
  const before = Journal.open<PoolRecord>(path);
  before.appendSync(nodeRecord(identity), eniRecord(eni));
  before.close();
  mkdirSync(join(runDir, 'queue'));
  writeFileSync(
    join(runDir, 'queue', 'gone:eth0'),
    encodeRequest(
      [
        ['CNI_COMMAND', 'DEL'],
        ['CNI_CONTAINERID', gone.containerId],
        ['CNI_IFNAME', gone.ifname],
        ['PODWAY_QUEUED_AT', String(Date.now())],
      ],
      JSON.stringify({ cniVersion: '1.0.0', name: gone.network }),
    ),
  );
  const report = { changes: [], missingPods: [], absent: [], retryAt: null };
  const config = parseAgentConfig({ nodeName: 'node-1', runDir, region: 'us-west-2' });
  const netns = currentNetns();
  const parts = {
    config,
    log: quiet,
    metrics: createMetrics(),
    api: createApiServer(config),
    events: { pod() {}, node() {} },
    faults: undefined,
    load: { adds: 0, requests: 0, serving: 0 },
    netns,
    journal: Journal.open<PoolRecord>(path),
    datapath: {
      standing: () => {
        order.push('adopt');
        const link = { hostIfname: hostLinkName(gone), attachment: gone, up: true, ips: [], by: 'none' };
        return { pods: [link], named: new Set(), any: true };
      },
      cutPod: ({ hostIfname }: { hostIfname: string }) => order.push(`cut ${hostIfname}`),
      reapLinks: async () => {},
      watch: () => ({ close() {} }),
      syncNode: async () => order.push('sync') && report,
      repair: async () => order.push('sync') && report,
      onLinks: () => new Map(),
    },
    imds: { vpcCidrs: async () => [] },
    tell() {},
    whose: {},
    cloudFor: () => cloud,
  } as unknown as Parts;
  let serving: Serving | undefined;
  try {
    serving = await startNode(parts, stop.signal);
    order.push('serve');
    assert.deepEqual(order, ['adopt', `cut ${hostLinkName(gone)}`, 'sync', 'serve']);
    // The journal lacks a link that stands: no address is ready until the ENIs that EC2 lists are in the kernel.
    assert.ok(serving.pool.unsure);
    assert.equal(serving.pool.state.enis.get(eniId)!.blocks.get(FREE)!.pending, true);
  } finally {
    stop.abort();
    serving?.rehearsal?.close();
    parts.journal.close();
    rmSync(runDir, { recursive: true, force: true });
  }
});
