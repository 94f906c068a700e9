// What stands in the kernel, seen by a process that remembers nothing: whose, and with which address.
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { formatIp } from '../base/ip.ts';
import { createDatapath, type Datapath } from './datapath.ts';
import { eni0, eni1, INTERNET, needsRoot, quiet, TestPods, TestVpc } from './testing.ts';

describe('standing', needsRoot, () => {
  let vpc: TestVpc;
  let pods: TestPods;
  /** The agent that comes after the journal was lost. */
  let next: Datapath;
  before(async () => {
    vpc = new TestVpc();
    next = createDatapath({ netns: vpc.node, log: quiet });
    assert.deepEqual(next.standing(), { pods: [], named: new Set(), any: false });
    pods = new TestPods(vpc);
    await pods.datapath.syncNode(pods.state());
    pods.add('named', '10.0.0.77', eni0);
    pods.add('earlier', '10.0.0.120', eni1, { alias: undefined });
  });
  after(async () => {
    await Promise.all([pods.datapath.close(), next.close()]);
    vpc[Symbol.dispose]();
  });

  const link = (where: string) => pods.held.get(where)!.hostIfname;
  const seen = (where: string) => {
    const found = next.standing().pods.find((pod) => pod.hostIfname === link(where));
    return found && [found.attachment?.pod?.name ?? null, found.ips.map(formatIp).join(), found.by, found.up];
  };

  it('a pod is named by its link’s alias; one of an earlier version has none', () => {
    assert.deepEqual(seen('named'), ['named', '10.0.0.77', 'route', true]);
    assert.deepEqual(seen('earlier'), [null, '10.0.0.120', 'route', true]);
    assert.equal(next.standing().any, true);
  });

  it('its address is that of its route, else its element, else its own end', () => {
    const both = (by: string) => {
      for (const where of ['named', 'earlier'])
        assert.deepEqual(seen(where)?.slice(1, 3), [formatIp(pods.held.get(where)!.ips[0]!), by]);
    };
    for (const where of ['named', 'earlier']) vpc.ip('node', `route flush table 20480 dev ${link(where)}`);
    both('element');
    vpc.nft('node', 'flush map inet podway pods4');
    both('pod');
    assert.deepEqual([...next.standing().named].map(formatIp).sort(), ['10.0.0.120', '10.0.0.77']);
  });

  it('a sync of those that hold them puts back what was taken', async () => {
    await pods.datapath.syncNode(pods.state());
    assert.deepEqual(seen('earlier')?.slice(1, 3), ['10.0.0.120', 'route']);
    for (const where of ['named', 'earlier']) assert.ok(vpc.ping(where, INTERNET), where);
  });

  it('a link set down by somebody stands when it says whose it is', () => {
    for (const where of ['named', 'earlier']) vpc.ip('node', `link set ${link(where)} down`);
    assert.deepEqual(seen('named')?.slice(1), ['10.0.0.77', 'element', false]);
    assert.equal(seen('earlier'), undefined);
    for (const where of ['named', 'earlier']) vpc.ip('node', `link set ${link(where)} up`);
  });

  it('a sync that knows no pod cuts none that is up', async () => {
    await next.syncNode(pods.state({ pods: [] }));
    for (const where of ['named', 'earlier']) assert.equal(seen(where)?.at(3), true, where);
    await pods.datapath.syncNode(pods.state());
    for (const where of ['named', 'earlier']) assert.ok(vpc.ping(where, INTERNET), where);
  });

  it('a cut link stands no more, also when somebody sets it up again', () => {
    pods.datapath.cutPod({ hostIfname: link('named') });
    assert.equal(seen('named'), undefined);
    vpc.ip('node', `link set ${link('named')} up`);
    assert.equal(seen('named'), undefined);
  });
});

it(
  'a map of the version before, with names for links, tells as much; a DEL and a sync take it',
  needsRoot,
  async () => {
    using vpc = new TestVpc();
    const pods = new TestPods(vpc);
    await pods.datapath.syncNode(pods.state());
    pods.add('stays', '10.0.0.77', eni0);
    pods.add('leaves', '10.0.0.78', eni0);
    const link = (where: string) => pods.held.get(where)!.hostIfname;
    const elements = ['stays', 'leaves'].map(
      (where) => `"${link(where)}" . ${formatIp(pods.held.get(where)!.ips[0]!)} : goto eni_0_0`,
    );
    vpc.nft(
      'node',
      `delete table inet podway
     table inet podway {
       chain eni_0_0 { accept
       }
       map pods4 { type ifname . ipv4_addr : verdict; elements = { ${elements.join(', ')} }; }
     }\n`,
    );
    vpc.ip('node', 'route flush table 20480');
    const found = pods.datapath
      .standing()
      .pods.map((pod) => `${pod.hostIfname} ${pod.ips.map(formatIp)} ${pod.by}`);
    assert.deepEqual(
      found.sort(),
      [`${link('leaves')} 10.0.0.78 element`, `${link('stays')} 10.0.0.77 element`].sort(),
    );
    pods.datapath.cutPod({ hostIfname: link('leaves') });
    pods.held.delete('leaves');
    await pods.datapath.syncNode(pods.state());
    assert.ok(vpc.ping('stays', INTERNET));
    assert.match(vpc.run('node', ['nft', 'list', 'map', 'inet', 'podway', 'pods4']), /iface_index/);
    await pods.datapath.close();
  },
);
