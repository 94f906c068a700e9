import assert from 'node:assert/strict';
import { it } from 'node:test';
import { parseCidr, parseIp } from '../base/ip.ts';
import { assignMarks } from './enis.ts';
import { podKey, renderRebuild, renderTable, renderUpdate } from './nft.ts';
import { eni0, eni1, nodeState } from './testing.ts';
import type { NodeDatapath } from './types.ts';

const render = (over: Partial<NodeDatapath> = {}) => {
  const node = nodeState(over);
  const names = [
    ['0/0', 'ens5'],
    ['0/1', 'ens6'],
  ] as const;
  return renderTable({ node, marks: assignMarks(node.enis, []), linkNames: new Map(names) });
};

it('the table of a node with two ENIs', () => {
  assert.equal(
    render({ excludeSnatCidrs: [parseCidr('192.168.0.0/16'), parseCidr('10.0.4.0/24')] }),
    `table inet podway {
  set exempt4 { type ipv4_addr; flags interval; elements = { 10.0.0.0/16, 192.168.0.0/16 }; }
  map pods4 { type iface_index . ipv4_addr : verdict; }
  chain use_0_1 {
    meta mark set meta mark & 0xffffff80 | 0x1 accept
  }
  chain by_ct {
    ct mark & 0x7f vmap { 0x7f : accept, 0x7e : accept, 0x1 : goto use_0_1 }
  }
  chain outside {
    ct mark set ct mark & 0xffffff80 | 0x7f accept
  }
  chain begin {
    ip daddr 169.254.1.1 drop
    ip daddr 169.254.0.0/16 goto outside
    ip daddr != @exempt4 goto outside
  }
  chain eni_0_0 {
    ct mark & 0x7f != 0 goto by_ct
    ct state new ct direction original jump begin
  }
  chain eni_0_1 {
    ct mark & 0x7f != 0 goto by_ct
    ct state new ct direction original jump begin
    goto use_0_1
  }
  chain from_pod {
    iif . ip saddr vmap @pods4
    drop
  }
  chain arrive_0_0 {
    fib daddr type local ct mark set ct mark & 0xffffff80 | 0x7e
  }
  chain arrive_0_1 {
    fib daddr type local ct mark set ct mark & 0xffffff80 | 0x1
  }
  chain arrivals {
    type nat hook prerouting priority -150; policy accept;
    iifname vmap { "ens5" : goto arrive_0_0, "ens6" : goto arrive_0_1 }
  }
  chain ways {
    type filter hook prerouting priority -90; policy accept;
    meta iifgroup & 0xffffffe0 == 0x5000 goto from_pod
    ct direction reply ct mark & 0x7f != 0 goto by_ct
  }
  chain own {
    type route hook output priority -150; policy accept;
    ip saddr vmap { 10.0.0.40 : goto use_0_1 }
  }
  chain source {
    type nat hook postrouting priority 100; policy accept;
    oifname "pw*" accept
    ct mark & 0x7f == 0x7f meta nfproto ipv4 snat ip to 10.0.0.10
  }
}
`,
  );
});

it('snat random: random ports; none: only link-local services are translated', () => {
  assert.match(render({ snat: 'random' }), /snat ip to 10\.0\.0\.10 fully-random\n/);
  const none = render({ snat: 'none' });
  assert.doesNotMatch(none, /@exempt4/);
  assert.equal(none.match(/169\.254\.0\.0\/16 goto outside/g)?.length, 1);
});

it('a node with the primary ENI alone', () => {
  const text = render({ enis: [eni0] });
  assert.doesNotMatch(text, /use_|0_1/);
  assert.match(text, /chain own \{\n {4}type route hook output priority -150; policy accept;\n {2}\}/);
});

it('an ENI without a link takes no arrivals', () => {
  const node = nodeState();
  const text = renderTable({
    node,
    marks: assignMarks(node.enis, []),
    linkNames: new Map([['0/0', 'eth0']]),
  });
  assert.match(text, /iifname vmap \{ "eth0" : goto arrive_0_0 \}/);
});

it('the ENIs’ subnets are inside, also when nobody knows the VPC', () => {
  assert.match(render({ vpcCidrs: [] }), /elements = \{ 10\.0\.0\.0\/24 \}/);
});

it('a node without a primary ENI is an error', () => {
  assert.throws(() => render({ enis: [eni1] }), RangeError);
});

it('an update keeps the map of pods and deletes stale chains last; a rebuild keeps nothing', () => {
  const table = render();
  const update = renderUpdate(table, ['eni_0_2']);
  assert.ok(update.startsWith('add table inet podway\n'));
  assert.doesNotMatch(update, /flush map|delete table/);
  assert.ok(update.endsWith('}\ndelete chain inet podway eni_0_2\n'));
  assert.ok(renderRebuild(table).startsWith('add table inet podway\ndelete table inet podway\n'));
});

it('a key is the link’s index in the machine’s order and the address in network order', () => {
  assert.equal(Buffer.from(podKey(0x1234, parseIp('10.0.0.77'))).toString('hex'), '341200000a00004d');
});
