import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { SecurityGroupRule, VpcState } from '../vpc/model.ts';
import {
  addGroup,
  allow,
  bench,
  edit,
  eniId,
  GROUP,
  INTERNET_HOST,
  OPEN_GROUP,
  skipReason,
  threeInstances,
} from './testing.ts';

const CLIENTS = 'sg-0cccccccccccccccc';

/** a is a client, c a server with a group of its own. */
function clientAndServer(
  serverRules: SecurityGroupRule[],
  clientRules = [allow('egress', '0.0.0.0/0')],
): VpcState {
  return edit(threeInstances(), (state) => {
    addGroup(state, CLIENTS, clientRules);
    addGroup(state, OPEN_GROUP, serverRules);
    state.networkInterfaces[eniId(0x0a)]!.groupIds = [CLIENTS];
    state.networkInterfaces[eniId(0x0c)]!.groupIds = [OPEN_GROUP];
  });
}

const server = '10.0.32.10';

describe('security groups', { skip: skipReason }, () => {
  it('ask both gates: the sender may send and the receiver may receive', async () => {
    await using lab = bench();
    const out8080 = allow('egress', '10.0.32.0/19', 'tcp', [8080, 8080]);
    const in8080 = allow('ingress', '10.0.0.10/32', 'tcp', [8000, 8090]);
    await lab.fabric.apply(clientAndServer([in8080], [out8080]));
    await lab.serve('c', 8080);
    await lab.serve('c', 8081);
    assert.equal(await lab.ask('a', server, 8080), `10.0.0.10 ${server} hello`);
    assert.equal(await lab.ask('a', server, 8081), null, 'the sender may not send to 8081');
    await lab.fabric.apply(clientAndServer([], [out8080]));
    assert.equal(await lab.ask('a', server, 8080), null, 'what the sender may do opens no receiver');
    await lab.fabric.apply(clientAndServer([in8080], []));
    assert.equal(await lab.ask('a', server, 8080), null, 'nor the other way round');
    assert.equal(await lab.ask('b', server, 8080), null, 'another client, in another group');
  });

  it('name groups as peers: members come and go with ENIs and their addresses', async () => {
    await using lab = bench();
    const rules = [allow('ingress', CLIENTS, 'tcp', [8080, 8080])];
    const state = clientAndServer(rules);
    await lab.fabric.apply(state);
    await lab.serve('c', 8080);
    assert.notEqual(await lab.ask('a', server, 8080), null);
    assert.equal(await lab.ask('b', server, 8080), null);
    const both = edit(state, (copy) => {
      copy.networkInterfaces[eniId(0x0b)]!.groupIds = [GROUP, CLIENTS];
    });
    await lab.fabric.apply(both);
    assert.notEqual(await lab.ask('b', server, 8080), null, 'a member of two groups');
    await lab.fabric.apply(state);
    assert.equal(await lab.ask('b', server, 8080), null);
  });

  it('stop new connections at once, and let tracked flows go on', async () => {
    await using lab = bench();
    const open = clientAndServer([allow('ingress', CLIENTS, 'tcp', [8080, 8080])]);
    await lab.fabric.apply(open);
    await lab.serve('c', 8080);
    const flow = await lab.stream('a', server, 8080);
    assert.match((await flow.echo('one')) ?? '', /one$/);
    await lab.fabric.apply(clientAndServer([]));
    assert.equal(await lab.ask('a', server, 8080), null, 'a new connection');
    assert.match((await flow.echo('two')) ?? 'lost', /two$/, 'the established one goes on');
    await lab.fabric.apply(open);
    assert.notEqual(await lab.ask('a', server, 8080), null, 'allowed again');
  });

  it('interrupt flows that AWS does not track: open to anywhere, with an open way back', async () => {
    await using lab = bench();
    const wayBack = allow('egress', '0.0.0.0/0');
    await lab.fabric.apply(clientAndServer([allow('ingress', '0.0.0.0/0', 'tcp', [8080, 8080]), wayBack]));
    await lab.serve('c', 8080);
    const flow = await lab.stream('a', server, 8080);
    assert.match((await flow.echo('one')) ?? '', /one$/);
    await lab.fabric.apply(clientAndServer([wayBack]));
    assert.equal(await flow.echo('two'), null);
  });

  it('judge ICMP by type and let the errors of a flow through', async () => {
    await using lab = bench();
    await lab.fabric.apply(clientAndServer([allow('ingress', '0.0.0.0/0', 'icmp', [8, -1])]));
    assert.equal(await lab.ping('a', server), 1);
    assert.equal(await lab.ping('c', '10.0.0.10'), 0, 'c may send nothing');
    await lab.fabric.apply(clientAndServer([allow('ingress', '0.0.0.0/0', 'udp', [9, 9])]));
    assert.equal(await lab.ping('a', server), 0);
    // A closed UDP port: the refusal is an error of the flow, and no rule of c lets ICMP out.
    const refused = await lab.sh(
      'a',
      `timeout 2 bash -c 'exec 3<>/dev/udp/${server}/9; echo x >&3; sleep 0.2; echo y >&3' 2>&1 || true`,
    );
    assert.match(refused, /refused/);
  });

  it('do not stand between an instance and its metadata, and stand before the internet', async () => {
    await using lab = bench();
    await lab.fabric.apply(
      edit(clientAndServer([], []), (state) => {
        state.publicAddresses['203.0.113.77'] = {
          publicIp: '203.0.113.77',
          networkInterfaceId: eniId(0x0a),
          tags: {},
        };
      }),
    );
    assert.equal(await lab.ping('a', '10.0.0.1'), 1);
    assert.equal(await lab.ping('a', INTERNET_HOST), 0);
  });
});
