// A pod that opens 700 connections to instance metadata and to EC2 and says nothing on them: its node, whose address its
// packets have there, is heard all the same, and so are its neighbours.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import { Lab } from './lab.ts';

const lab = new Lab('greedy');
const CONNECTIONS = 700;
/** Opens them to HOST:PORT and opens one more for each that is closed, for as long as it lives. */
const GREEDY = (host: string) => `
const { connect } = require('node:net');
let open = 0;
const one = () => {
  const socket = connect(80, '${host}', () => ++open === ${CONNECTIONS} && console.log('all are open'));
  socket.on('error', () => {}).on('close', () => setTimeout(one, 500));
};
for (let i = 0; i < ${CONNECTIONS}; i++) one();
`;

before(async () => {
  if (!skip) await lab.up('--nodes', '2');
});
after(async () => {
  if (!skip) await lab.down();
});

const asks: Record<string, string> = {
  '169.254.169.254':
    'TOKEN=$(curl -sf -m 30 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 60" http://169.254.169.254/latest/api/token) && curl -sf -m 30 -H "X-aws-ec2-metadata-token: $TOKEN" http://169.254.169.254/latest/meta-data/instance-id',
  '169.254.169.10': 'curl -s -m 30 -o /dev/null -w "%{http_code}" http://169.254.169.10/',
};

for (const [host, ask] of Object.entries(asks)) {
  test(`700 silent connections of a pod to ${host} keep nobody out`, { skip }, async () => {
    const pod = `greedy-${host.split('.').at(-1)}`;
    await lab.ok('pod', 'run', pod, '--node', 'node-1', '--', process.execPath, '-e', GREEDY(host));
    await eventually('the connections are open', async () =>
      (await lab.ok('pod', 'logs', pod)).includes('all are open'),
    );
    for (let i = 0; i < 5; i += 1) {
      for (const where of ['node-1', 'node-2']) {
        const { code, stdout, stderr } = await lab.podway('lab', 'exec', where, '--', 'sh', '-c', ask);
        assert.equal(code, 0, `${where} is not heard: exit ${code} ${stdout} ${stderr}`);
        assert.match(stdout, /^(i-[0-9a-f]{17}|[24]\d\d)$/);
      }
    }
    await lab.run(`${pod}-neighbour`, '--node', 'node-1');
    await lab.delete(pod, `${pod}-neighbour`);
    await lab.agreed();
  });
}
