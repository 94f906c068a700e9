// A dump of a lab, opened with nothing but the archive: every command that reads shows what it showed live, secrets are not in
// it, and a node whose agent is silent is named and keeps nothing else out.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { CoreV1Api, NetworkingV1Api } from '@kubernetes/client-node';
import { labPaths } from '../../src/lab/daemon/paths.ts';
import { difference, timeless } from '../support/timeless.ts';
import { execute, PODWAY, podway, type Ran, skip } from './command.ts';
import { Lab } from './lab.ts';

/** Planted where a person may have put a secret, or where a program has one. */
const PLANTED = [
  'hunter2-in-env',
  'hunter3-in-args',
  'hunter4-in-annotation',
  'hunter5-in-secret',
  'AKIAIOSFODNN7EXAMPLE',
];

/** Commands whose answer is of the place's state, without and with an argument; `-o json` is added. */
const READING: string[][] = [
  ['ipam', 'show'],
  ['ipam', 'show', '--node', 'node-2'],
  ['ipam', 'show', '--node', 'nowhere'],
  ['ipam', 'check'],
  ['ipam', 'subnets'],
  ['ipam', 'defrag', 'plan'],
  ['ipam', 'explain', 'node-1'],
  ['ipam', 'explain', 'web'],
  ['ipam', 'explain', 'nobody'],
  ['pod', 'list'],
  ['pod', 'list', '-n', 'shop'],
  ['node', 'list'],
  ['lab', 'status'],
  ['status'],
  ['doctor'],
  ['sg', 'show', 'web'],
  ['sg', 'show', 'nobody'],
  ['policy', 'list'],
  ['policy', 'lint'],
  ['policy', 'show'],
  ['policy', 'show', 'default/db'],
  ['policy', 'trace', 'web', 'db:5432'],
  ['policy', 'trace', 'other', 'db:5432'],
];

const shown = ({ code, stdout }: Ran): string => `${timeless(stdout)}exit ${code}`;

describe('sysdump', { skip }, () => {
  const lab = new Lab('dump', ['--nodes', '2']);
  const folder = mkdtempSync(join(tmpdir(), 'podway-dump-'));
  const dump = join(folder, 'a.tgz');
  const live = new Map<string, string>();

  before(async () => {
    await lab.up();
    const kube = await lab.kube();
    const core = kube.makeApiClient(CoreV1Api);
    const [inEnv, inArgs, inAnnotation, inSecret, accessKey] = PLANTED;
    await core.createNamespacedPod({
      namespace: 'default',
      body: {
        metadata: {
          name: 'planted',
          annotations: { note: inAnnotation!, 'kubectl.kubernetes.io/last-applied-configuration': inEnv! },
        },
        spec: {
          containers: [
            {
              name: 'main',
              image: 'none',
              command: ['/bin/sh', '-c', `: ${inArgs}; exec sleep 3600`],
              env: [
                { name: 'PASSWORD', value: inEnv! },
                { name: 'AWS_ACCESS_KEY_ID', value: accessKey! },
              ],
            },
          ],
        },
      },
    });
    await core.createNamespacedSecret({
      namespace: 'default',
      body: { metadata: { name: 'planted' }, stringData: { password: inSecret! } },
    });
    await Promise.all([
      lab.run('web', '--label', 'app=web'),
      lab.run('other'),
      lab.run('db', '--label', 'app=db'),
    ]);
    await kube.makeApiClient(NetworkingV1Api).createNamespacedNetworkPolicy({
      namespace: 'default',
      body: {
        metadata: { name: 'db' },
        spec: {
          podSelector: { matchLabels: { app: 'db' } },
          ingress: [{ _from: [{ podSelector: { matchLabels: { app: 'web' } } }], ports: [{ port: 5432 }] }],
        },
      },
    });
    await lab.ok('policy', 'wait');
    await lab.agreed();
    for (const command of READING)
      live.set(command.join(' '), shown(await lab.podway(...command, '-o', 'json')));
    await lab.ok('sysdump', '--out', dump);
  });
  after(async () => {
    await lab.down();
    rmSync(folder, { recursive: true });
  });

  it('keeps secrets out', () => {
    const text = gunzipSync(readFileSync(dump)).toString('latin1');
    const paths = labPaths(lab.name);
    const { secretAccessKey } = JSON.parse(readFileSync(paths.keys, 'utf8')) as { secretAccessKey: string };
    for (const secret of [...PLANTED, secretAccessKey, 'BEGIN PRIVATE', 'BEGIN EC', 'BEGIN RSA'])
      assert.ok(!text.includes(secret), `${secret} is in the dump`);
    assert.ok(text.includes('planted'), 'the pod itself is there');
  });

  it('names a node whose agent is silent, and has the rest', async () => {
    const { pid: agent } = JSON.parse(readFileSync(labPaths(lab.name).node('node-2').agentPid, 'utf8')) as {
      pid: number;
    };
    const file = join(folder, 'silent.tgz');
    process.kill(agent, 'SIGSTOP');
    let ran: Ran;
    try {
      ran = await lab.podway('sysdump', '--out', file, '--timeout', '30', '-o', 'json');
    } finally {
      process.kill(agent, 'SIGCONT');
    }
    assert.equal(ran.code, 1);
    const { nodes } = JSON.parse(ran.stdout) as { nodes: { name: string; error?: { code: string } }[] };
    assert.deepEqual(
      nodes.map(({ name, error }) => [name, error?.code]),
      [
        ['node-1', undefined],
        ['node-2', 'TIMEOUT'],
      ],
    );
    for (const command of [
      ['pod', 'list'],
      ['lab', 'calls'],
      ['ipam', 'explain', 'node-1'],
      ['ipam', 'subnets', '--vpc', 'none'],
    ]) {
      const { code, stderr } = await podway(...command, '--from', file, '-o', 'json');
      assert.equal(code, command[1] === 'subnets' ? 1 : 0, stderr);
    }
  });

  it('answers as the lab did, without the lab', async () => {
    await lab.down();
    for (const command of READING) {
      const ran = await execute([PODWAY, ...command, '--from', dump, '-o', 'json']);
      const differs = difference(shown(ran), live.get(command.join(' '))!);
      assert.ok(differs === null, `${command.join(' ')}, ${differs}`);
    }
  });

  it('refuses by name what a dump cannot answer', async () => {
    for (const [command, cause] of [
      [['pod', 'run', 'x'], /USAGE: podway pod run x? ?cannot be answered by a dump/],
      [['connectivity', 'test'], /USAGE: podway connectivity test cannot be answered by a dump/],
      [['policy', 'wait'], /USAGE: podway policy wait cannot be answered by a dump/],
      [['ipam', 'subnets', '--over', '5s'], /USAGE: --over looks twice/],
      [['lab', 'calls', '--since', '5m'], /USAGE: --since counts from now/],
      [['ipam', 'show', '--lab', 'x'], /USAGE: --local, --lab, --from/],
    ] as const) {
      const { code, stderr } = await podway(...command, '--from', dump);
      assert.equal(code, 2, command.join(' '));
      assert.match(stderr, cause);
    }
  });

  it('refuses what is no dump, or is cut', async () => {
    const whole = readFileSync(dump);
    const file = join(folder, 'cut.tgz');
    for (const bytes of [Buffer.from('no archive'), whole.subarray(0, whole.length / 2), Buffer.alloc(0)]) {
      writeFileSync(file, bytes);
      const { code, stderr } = await podway('ipam', 'show', '--from', file);
      assert.equal(code, 1);
      assert.match(stderr, /BAD_DUMP: .*cut\.tgz cannot be read as a dump/);
    }
  });

  it('leaves no half a file where it cannot write', async () => {
    const { code, stderr } = await podway('sysdump', '--local', '--out', join(folder, 'none', 'x.tgz'));
    assert.equal(code, 1);
    assert.match(stderr, /DUMP_NOT_WRITTEN/);
  });
});
