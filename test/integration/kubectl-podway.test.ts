// kubectl podway against a server that speaks what it needs of the API: a DaemonSet's list, its pods, and pods/exec over
// TLS and a WebSocket. Each exec runs the real command line with --local, against a stand-in of an agent's socket per node.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { createServer as createTls } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { type WebSocket, WebSocketServer } from 'ws';
import { makeAuthority, signCertificate } from '../../src/lab/certificates.ts';
import { execute, PODWAY, type Ran } from '../e2e/command.ts';

const TOKEN = 'the-token';
const NODES = ['node-1', 'node-2'];
let dir: string;
let api: ReturnType<typeof createTls>;
const agents: Server[] = [];
/** What was asked for, and how the exec behaves. */
let execs: string[] = [];
let behave: 'runs' | 'refuses' | 'breaks off' = 'runs';
let daemonSets = 1;
/** By node: what its agent answers on its socket instead. */
const broken = new Set<string>();

const view = (node: string) => ({
  node,
  version: '0.1.0',
  pid: 1,
  cause:
    node === 'node-2' ? { code: 'STATUS_UNAVAILABLE', message: 'no pod can start', next: 'Wait.' } : null,
  totals: { held: 3, free: 2, cooling: 1 },
  enis: 2,
  host: {
    binDir: '/opt/cni/bin',
    confDir: '/etc/cni/net.d',
    plugin: 'installed',
    conflist: 'installed',
    chain: ['portmap'],
    error: null,
    others:
      node === 'node-1'
        ? [
            {
              file: '00-other.conf',
              network: 'other',
              plugins: ['bridge'],
              wins: true,
              damaged: null,
              text: '00-other.conf wins',
            },
          ]
        : [],
  },
});
const ipam = (node: string) => ({
  ...{ node, instanceType: 'm5.large', family: 'ipv4', enis: [], addressing: 'secondary' },
  limits: { enis: 3, ipv4PerEni: 10, pods: 29 },
  warm: { target: 1, cooldownSeconds: 30 },
  totals: { held: 3, free: 2, cooling: 1, quarantined: 0, foreign: 0 },
});

const runDir = (node: string) => join(dir, node);
const podName = (node: string) => `podway-agent-${node}`;
const podObject = (node: string) => ({
  metadata: { name: podName(node), namespace: 'podway-system' },
  spec: { nodeName: node, containers: [{ name: 'agent' }] },
  status: { phase: 'Running' },
});

async function serveAgent(node: string): Promise<void> {
  mkdirSync(runDir(node));
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    const value = path.startsWith('/v1/node')
      ? view(node)
      : path.startsWith('/v1/ipam')
        ? ipam(node)
        : path.startsWith('/v1/check')
          ? {
              ok: false,
              differences: [{ kind: 'address', object: '10.0.0.9', journal: 'held', cloud: null }],
            }
          : { error: { code: 'AGENT_STARTING', message: `${node} starts`, next: 'Wait.' } };
    response.writeHead('error' in value ? 500 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(value));
  });
  agents.push(server);
  await new Promise<void>((resolve) => server.listen(join(runDir(node), 'api.sock'), resolve));
}

function exec(socket: WebSocket, url: URL): void {
  const words = url.searchParams.getAll('command');
  execs.push(`${url.pathname.split('/')[6]} ${words.join(' ')}`);
  if (behave === 'breaks off') {
    socket.terminate();
    return;
  }
  const node = NODES.find((one) => url.pathname.includes(podName(one)))!;
  const env = { ...process.env, NO_COLOR: '1', PODWAY_RUN_DIR: broken.has(node) ? '/nowhere' : runDir(node) };
  const child = spawn(PODWAY, words.slice(1), { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const send = (channel: number) => (bytes: Buffer) =>
    socket.send(Buffer.concat([Buffer.from([channel]), bytes]));
  child.stdout.on('data', send(1));
  child.stderr.on('data', send(2));
  child.once('close', (code) => {
    const causes = [{ reason: 'ExitCode', message: String(code) }];
    const status =
      code === 0
        ? { status: 'Success' }
        : { status: 'Failure', reason: 'NonZeroExitCode', details: { causes } };
    send(3)(Buffer.from(JSON.stringify(status)));
    socket.close();
  });
}

before(async () => {
  dir = mkdtempSync(join(tmpdir(), 'podway-kubectl-'));
  for (const node of NODES) await serveAgent(node);
  const now = Date.now();
  const ca = await makeAuthority('test', now);
  const { key, cert } = await signCertificate(ca, now, { user: 'server', groups: [], names: ['127.0.0.1'] });
  api = createTls({ key, cert }, (request, response) => {
    const { pathname } = new URL(request.url!, 'https://api');
    const answer = (code: number, value: unknown) => {
      response.writeHead(code, { 'content-type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    const status = (code: number, message: string) =>
      answer(code, { kind: 'Status', status: 'Failure', code, message });
    if (request.headers.authorization !== `Bearer ${TOKEN}`) return status(401, 'Unauthorized');
    const template = { spec: { containers: [{ name: 'agent', image: 'podway:test' }] } };
    const found = {
      metadata: { name: 'podway-agent', namespace: 'podway-system' },
      spec: { selector: { matchLabels: { app: 'agent' } }, template },
    };
    if (pathname === '/apis/apps/v1/daemonsets')
      return answer(200, { metadata: {}, items: Array(daemonSets).fill(found) });
    if (pathname === '/api/v1/namespaces/podway-system/pods') {
      const node = /nodeName%3D([\w-]+)/.exec(request.url!)?.[1];
      return answer(200, {
        metadata: {},
        items: NODES.filter((one) => (node ?? one) === one).map(podObject),
      });
    }
    if (pathname === '/api/v1/namespaces/team/pods/web')
      return answer(200, { metadata: { name: 'web' }, spec: { nodeName: 'node-2', containers: [] } });
    status(404, `no ${pathname}`);
  });
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: (offered) => [...offered][0]! });
  api.on('upgrade', (request, stream, head) => {
    if (behave === 'refuses') {
      const body = JSON.stringify({
        kind: 'Status',
        message: 'pods "x" is forbidden: User "u" cannot create pods/exec',
      });
      return void stream.end(
        `HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      );
    }
    sockets.handleUpgrade(request, stream, head, (socket) =>
      exec(socket, new URL(request.url!, 'https://api')),
    );
  });
  await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
  const server = `https://127.0.0.1:${(api.address() as AddressInfo).port}`;
  // The user is known by a command, as on EKS.
  const command = join(dir, 'get-token');
  const credential = JSON.stringify({ kind: 'ExecCredential', status: { token: TOKEN } });
  writeFileSync(command, `#!/bin/sh\n[ -n "$KUBERNETES_EXEC_INFO" ] && echo '${credential}'\n`, {
    mode: 0o755,
  });
  writeFileSync(
    join(dir, 'kubeconfig'),
    JSON.stringify({
      'current-context': 'none',
      contexts: [{ name: 'lab', context: { cluster: 'c', user: 'u' } }],
      clusters: [
        {
          name: 'c',
          cluster: { server, 'certificate-authority-data': Buffer.from(ca.cert).toString('base64') },
        },
      ],
      users: [{ name: 'u', user: { exec: { apiVersion: 'client.authentication.k8s.io/v1', command } } }],
    }),
  );
  symlinkSync(PODWAY, join(dir, 'kubectl-podway'));
});
after(async () => {
  for (const server of agents) server.close();
  api?.close();
  api?.closeAllConnections();
  rmSync(dir, { recursive: true, force: true });
});

function kubectl(...args: string[]): Promise<Ran> {
  execs = [];
  return execute([join(dir, 'kubectl-podway'), ...args, '--context', 'lab'], {
    KUBECONFIG: join(dir, 'kubeconfig'),
  });
}

test('status asks every agent through pods/exec, and names those that do not serve', async () => {
  const ran = await kubectl('status');
  assert.deepEqual(
    execs.sort(),
    NODES.map((node) => `${podName(node)} podway status -o json --local`),
  );
  assert.match(ran.stdout, /node-1 +yes +0\.1\.0 +2 +3 +2 +1 +behind 00-other\.conf/);
  assert.match(ran.stdout, /node-2 +no .* installed +STATUS_UNAVAILABLE: no pod can start/);
  assert.equal(ran.code, 1);
});

test('ipam show, check and explain are the same commands, of all nodes or of one', async () => {
  const shown = JSON.parse((await kubectl('ipam', 'show', '-o', 'json')).stdout) as { node: string }[];
  assert.deepEqual(
    shown.map((one) => one.node),
    NODES,
  );
  const one = await kubectl('ipam', 'show', '--node', 'node-2');
  assert.match(one.stdout, /^node-2 \(m5\.large\): 3 held/);
  const check = await kubectl('ipam', 'check', '-o', 'json');
  assert.equal(check.code, 1);
  assert.deepEqual(
    (JSON.parse(check.stdout) as { differences: { object: string }[] }).differences.map(
      ({ object }) => object,
    ),
    ['node-1: 10.0.0.9', 'node-2: 10.0.0.9'],
  );
  const explained = await kubectl('ipam', 'explain', 'web', '-n', 'team');
  assert.deepEqual(execs, [`${podName('node-2')} podway ipam explain team/web -o json --local`]);
  assert.match(explained.stderr, /podway: AGENT_STARTING: node-2: node-2 starts \(Wait\)/);
  const unknown = await kubectl('ipam', 'explain', 'nothing');
  assert.match(unknown.stderr, /NO_SUCH_POD: .*default\/nothing/);
});

test('doctor has the rows of each node', async () => {
  const ran = await kubectl('doctor', '-o', 'json');
  const { ok, checks } = JSON.parse(ran.stdout) as {
    ok: boolean;
    checks: { node: string; name: string; state: string; detail: string }[];
  };
  assert.equal(ok, false);
  const rows = (node: string) =>
    checks.filter((row) => row.node === node).map(({ name, state }) => `${name} ${state}`);
  assert.ok(rows('node-1').includes('other network missing'), ran.stdout);
  assert.ok(rows('node-1').includes('plugin ok'));
  assert.ok(rows('node-2').includes('agent missing'));
});

test('an agent that does not answer does not keep the others from it', async () => {
  broken.add('node-1');
  try {
    const ran = await kubectl('ipam', 'show');
    assert.match(ran.stdout, /^node-2/);
    assert.match(ran.stderr, /AGENT_UNREACHABLE: node-1: .*\/nowhere\/api\.sock/);
    assert.equal(ran.code, 1);
  } finally {
    broken.clear();
  }
});

test('a refusal of the API and a connection that breaks off are told with the pod', async () => {
  behave = 'refuses';
  const refused = await kubectl('ipam', 'show', '--node', 'node-1');
  assert.match(
    refused.stderr,
    /EXEC_FAILED: podway cannot be run in pod podway-system\/podway-agent-node-1: .*cannot create pods\/exec/,
  );
  behave = 'breaks off';
  const broke = await kubectl('ipam', 'show', '--node', 'node-1');
  assert.match(broke.stderr, /EXEC_FAILED: .*the connection ended before the command did/);
  behave = 'runs';
});

test('no agents, two installations, no context, two places: each is told', async () => {
  daemonSets = 0;
  assert.match(
    (await kubectl('status')).stderr,
    /NO_AGENTS: the cluster at https:.* has no DaemonSet podway-agent/,
  );
  daemonSets = 2;
  assert.match(
    (await kubectl('status')).stderr,
    /NO_AGENTS: .*in the namespaces podway-system and podway-system/,
  );
  daemonSets = 1;
  const env = { KUBECONFIG: join(dir, 'kubeconfig') };
  const lost = await execute([join(dir, 'kubectl-podway'), 'status'], env);
  assert.match(lost.stderr, /NO_CLUSTER: .*contexts has no "none"/);
  const both = await kubectl('status', '--local');
  assert.equal(both.code, 2);
  assert.match(both.stderr, /several places/);
  const local = await kubectl('connectivity', 'test', '--lab', 'x');
  assert.equal(local.code, 2);
});
