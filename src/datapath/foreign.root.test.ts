// Others in the way: chains that drop what is forwarded, and managers of links.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { NfNetlink } from '../kernel/nfnetlink.ts';
import { forwardDrops, legacyForwardDrops, linkManagers } from './foreign.ts';
import { eni0, eni1, needsRoot, PEER, TestPods, TestVpc } from './testing.ts';

describe('others in the way', needsRoot, () => {
  it('chains that drop what is forwarded are named, ours and harmless ones are not', async () => {
    using vpc = new TestVpc();
    const pods = new TestPods(vpc);
    await pods.datapath.syncNode(pods.state());
    pods.add('pod-a', '10.0.0.77', eni0);
    pods.add('pod-b', '10.0.0.120', eni1);
    using nf = NfNetlink.open(vpc.node);
    assert.deepEqual(await forwardDrops(nf), []);
    vpc.nft(
      'node',
      `table ip harmless {
        chain elsewhere { type filter hook input priority 0; policy drop; ip saddr 0.0.0.0/0 accept; }
        chain some { type filter hook forward priority 0; ct state invalid drop; }
        chain called { drop; }
      }`,
    );
    assert.deepEqual(await forwardDrops(nf), []);
    assert.ok(vpc.ping('pod-b', PEER));
    vpc.nft(
      'node',
      'table ip docker { chain FORWARD { type filter hook forward priority 0; policy drop; }; }',
    );
    vpc.nft(
      'node',
      'table inet firewall { chain forwarded { type filter hook forward priority 5; counter drop; }; }',
    );
    assert.ok(vpc.isSilent('pod-b', PEER), 'and they do stand in the way');
    assert.deepEqual(await forwardDrops(nf), [
      'chain FORWARD of nft table ip docker drops what is forwarded unless a rule accepts it',
      'chain forwarded of nft table inet firewall has a rule that drops everything forwarded',
    ]);
    // What `doctor` advises, in both tables.
    const accepts = 'iifname "pw*" counter accept; oifname "pw*" accept;';
    vpc.nft('node', `table ip docker { chain FORWARD { ${accepts} }; }`);
    vpc.nft('node', 'flush chain inet firewall forwarded');
    vpc.nft('node', `table inet firewall { chain forwarded { ${accepts} counter drop; }; }`);
    assert.deepEqual(await forwardDrops(nf), []);
    assert.ok(vpc.ping('pod-b', PEER));
    vpc.nft('node', 'flush chain inet firewall forwarded');
    vpc.nft('node', 'table inet firewall { chain forwarded { iifname "pw*" accept; drop; }; }');
    assert.equal((await forwardDrops(nf)).length, 1, 'one way is not enough');
    await pods.datapath.close();
  });

  for (const iptables of ['iptables-nft', 'iptables-legacy'])
    it(`${iptables} -P FORWARD DROP is told until pods' packets are accepted`, async (t) => {
      using vpc = new TestVpc();
      const run = (rule: string) => vpc.run('node', [iptables, '-w', ...rule.split(' ')]);
      try {
        run('-P FORWARD DROP');
      } catch (error) {
        t.skip(`${iptables} does not work here: ${(error as Error).message}`);
        return;
      }
      await told(vpc, iptables, run);
    });

  async function told(vpc: TestVpc, iptables: string, run: (rule: string) => string): Promise<void> {
    using nf = NfNetlink.open(vpc.node);
    const drops = async () => [...(await forwardDrops(nf)), ...legacyForwardDrops(vpc.node)];
    const chain =
      iptables === 'iptables-nft' ? 'FORWARD of nft table ip filter' : 'FORWARD of iptables-legacy';
    const policy = [`chain ${chain} drops what is forwarded unless a rule accepts it`];
    assert.deepEqual(await drops(), policy);
    run('-A FORWARD -i pw+ -j ACCEPT');
    run('-A FORWARD -o pw+ -p tcp -j ACCEPT');
    run('-A FORWARD -o pwx+ -j ACCEPT');
    run('-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT');
    assert.deepEqual(await drops(), policy);
    run('-A FORWARD -o pw+ -j ACCEPT');
    assert.deepEqual(await drops(), []);
    run('-I FORWARD -j DROP');
    assert.deepEqual(await drops(), [`chain ${chain} has a rule that drops everything forwarded`]);
    run('-I FORWARD -j ACCEPT');
    assert.deepEqual(await drops(), []);
    run('-F FORWARD');
    run('-P FORWARD ACCEPT');
    run('-A FORWARD -i pw+ -j DROP');
    assert.deepEqual(await drops(), []);
    run('-A FORWARD -j REJECT');
    assert.equal((await drops()).length, 1);
  }

  it('managers of links say so in files of their own', () => {
    const root = mkdtempSync(join(tmpdir(), 'pwt-managers-'));
    const write = (file: string, text: string) => {
      mkdirSync(join(root, file, '..'), { recursive: true });
      writeFileSync(join(root, file), text);
    };
    const links = new Map([
      [3, 'eth1'],
      [7, 'pw0123456789ab'],
    ]);
    assert.deepEqual(linkManagers(links, root), []);
    write('run/NetworkManager/devices/2', '[device]\nmanaged=true\n');
    write('run/NetworkManager/devices/3', '[device]\nmanaged=true\nconnection-uuid=1\n');
    write('run/NetworkManager/devices/7', '[device]\nmanaged=false\n');
    write('run/systemd/netif/links/3', 'ADMIN_STATE=unmanaged\nOPER_STATE=routable\n');
    write('run/systemd/netif/links/7', 'ADMIN_STATE=configured\n');
    assert.deepEqual(linkManagers(links, root), [
      { manager: 'NetworkManager', link: 'eth1' },
      { manager: 'systemd-networkd', link: 'pw0123456789ab' },
    ]);
    rmSync(root, { recursive: true });
  });
});
