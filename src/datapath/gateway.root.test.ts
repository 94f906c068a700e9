// The pods' gateway, which the node has on `lo`: it answers ARP and nothing else, and lends its address to nobody. And
// what a process of the node learns of an address that no pod holds.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { eni1, needsRoot, PEER, TestPods, TestVpc } from './testing.ts';

const CONNECT = `
const s = require('net').connect(80, process.argv[1]);
setTimeout(() => process.exit(console.log('silence') ?? 0), 700);
s.on('error', (error) => process.exit(console.log(error.code) ?? 0));
s.on('connect', () => process.exit(console.log('connected') ?? 0));`;

describe('the gateway', needsRoot, () => {
  let vpc: TestVpc;
  let pods: TestPods;
  before(async () => {
    vpc = new TestVpc();
    pods = new TestPods(vpc);
    await pods.datapath.syncNode(pods.state());
    pods.add('pod-b', '10.0.0.120', eni1);
  });
  after(async () => {
    await pods.datapath.close();
    vpc[Symbol.dispose]();
  });

  const outcome = (where: string, to: string): string =>
    vpc.run(where, [process.execPath, '-e', CONNECT, to]).trim();

  it('is found again by a pod whose MAC address was changed and whose neighbours are gone', () => {
    vpc.ip('pod-b', 'link set eth0 address 0a:00:00:00:00:77');
    vpc.ip('pod-b', 'neigh flush dev eth0 nud permanent');
    assert.equal(vpc.ip('pod-b', 'neigh show nud permanent'), '');
    assert.ok(vpc.ping('pod-b', PEER));
    assert.ok(vpc.ping('internet', '10.0.0.120'));
  });

  it('answers nothing but ARP', async () => {
    await vpc.serve('node', 80);
    assert.equal(outcome('pod-b', '10.0.0.10'), 'connected', 'the node itself is there');
    assert.equal(outcome('pod-b', '169.254.1.1'), 'silence');
    assert.ok(vpc.isSilent('pod-b', '169.254.1.1'));
  });

  it('is never the source of what the node sends to a pod', async () => {
    await vpc.serve('pod-b', 81);
    assert.equal(vpc.seenFrom('node', '10.0.0.120', 81), '10.0.0.10');
  });

  it('an unheld address: a process of the node is told, who sends through the node hears nothing', () => {
    assert.equal(outcome('node', '10.0.0.121'), 'EHOSTUNREACH');
    assert.equal(outcome('pod-b', '10.0.0.121'), 'silence');
    assert.equal(outcome('peer', '10.0.0.121'), 'silence');
  });
});
