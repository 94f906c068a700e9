// The plain manifest is the chart's, and the DaemonSet is what a node needs: not more rights, the mounts that a netns and a
// sysctl need, and variables that the agent knows.
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { agentOptions, readAgentOptions } from '../../src/agent/options.ts';
import { readControllerOptions } from '../../src/controller/options.ts';
import { chart, chartHash, helm, helms, manifest, rendered } from '../../tools/chart.ts';
import { manifests, one, parsed } from './manifest.ts';

const root = join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const programs = helms();
const skip = programs.length === 0 ? 'no helm (podway lab kubernetes install builds one)' : false;

test('deploy/podway.yaml is made of the chart as it is', () => {
  const [, hash] = /^# Chart: sha256:(\w+)$/m.exec(readFileSync(manifest, 'utf8')) ?? [];
  assert.equal(hash, chartHash(), 'npm run chart makes it anew');
});

test('the chart has the custom resources of deploy/crds, and versions of the package', () => {
  const crds = globSync('*.yaml', { cwd: join(root, 'deploy/crds') }).sort();
  assert.deepEqual(globSync('*', { cwd: join(chart, 'crds') }).sort(), crds);
  for (const file of crds)
    assert.equal(read(`deploy/chart/podway/crds/${file}`), read(`deploy/crds/${file}`), file);
  const { version } = JSON.parse(read('package.json')) as { version: string };
  const about = parse(read('deploy/chart/podway/Chart.yaml')) as { version: string; appVersion: string };
  assert.deepEqual([about.version, about.appVersion], [version, version]);
});

test('the agent has the node’s network and two capabilities, and is not privileged', () => {
  const { spec } = one(manifests(), 'DaemonSet').spec!.template;
  assert.equal(spec['hostNetwork'], true);
  assert.equal(spec['hostPID'] ?? false, false);
  assert.equal(spec['hostIPC'] ?? false, false);
  assert.equal(spec['priorityClassName'], 'system-node-critical');
  assert.deepEqual(spec['tolerations'], [{ operator: 'Exists' }]);
  assert.equal(spec.containers.length, 1);
  const { securityContext } = spec.containers[0]!;
  assert.equal(securityContext['privileged'], false);
  assert.equal(securityContext['readOnlyRootFilesystem'], true);
  assert.deepEqual(securityContext.capabilities, { drop: ['ALL'], add: ['NET_ADMIN', 'SYS_ADMIN'] });
  assert.deepEqual(securityContext['seccompProfile'], { type: 'RuntimeDefault' });
});

test('namespaces that come later are seen, sysctls have a writable mount, and the run directory is the host’s', () => {
  const { spec } = one(manifests(), 'DaemonSet').spec!.template;
  const { volumeMounts } = spec.containers[0]!;
  const mounts = volumeMounts.map(({ name, mountPath, mountPropagation = 'None' }) => {
    const volume = spec.volumes.find((each) => each.name === name);
    return `${volume?.hostPath.path} ${mountPath} ${mountPropagation}`;
  });
  assert.deepEqual(mounts, [
    '/run/podway /run/podway None',
    '/opt/cni/bin /host/opt/cni/bin None',
    '/etc/cni/net.d /host/etc/cni/net.d None',
    '/proc/sys/net /host/proc/sys/net None',
    '/run/netns /run/netns HostToContainer',
    '/var/run/netns /var/run/netns HostToContainer',
  ]);
  assert.ok(volumeMounts.every(({ readOnly }) => readOnly !== true));
});

/** Not options of the agent: PODWAY_PROC_SYS is src/kernel's, the other Node's. */
const OTHERS = [
  'PODWAY_PROC_SYS',
  'NODE_COMPILE_CACHE',
  'HOST_IP',
  'KUBERNETES_SERVICE_HOST',
  'KUBERNETES_SERVICE_PORT',
];

test('the agent knows every variable that the chart may set', () => {
  const known = new Set([...agentOptions.flatMap(({ env }) => env), ...OTHERS]);
  const templates = ['_helpers.tpl', 'agent.yaml']
    .map((file) => read(`deploy/chart/podway/templates/${file}`))
    .join('\n');
  const set = [...templates.matchAll(/name: ([A-Z][A-Z0-9_]+)\b/g)].map((match) => match[1]!);
  assert.ok(set.length > 15);
  for (const name of set) assert.ok(known.has(name), `nobody reads ${name}`);
  const flags = one(manifests(), 'DaemonSet').spec!.template.spec.containers[0]!.args!.slice(1);
  for (const flag of flags)
    assert.ok(
      agentOptions.some((option) => option.flag === flag),
      flag,
    );
});

test('probes and metrics meet where the agent listens', () => {
  const [agent] = one(manifests(), 'DaemonSet').spec!.template.spec.containers;
  const port = agent!.ports.find(({ name }) => name === 'metrics')!.containerPort;
  const listen = agent!.env.find(({ name }) => name === 'PODWAY_LISTEN')!.value;
  assert.equal(listen, `127.0.0.1:${port}`);
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
    const { httpGet } = agent![probe] as { httpGet: { host: string; port: string; path: string } };
    assert.deepEqual([httpGet.host, httpGet.port], ['127.0.0.1', 'metrics'], probe);
    assert.equal(httpGet.path, probe === 'readinessProbe' ? '/readyz' : '/healthz');
  }
});

const template = (program: string, ...args: string[]) => {
  const { ok, stdout, stderr } = helm(program, ['template', 'podway', chart, '-n', 'kube-system', ...args]);
  assert.ok(ok, stderr);
  return parsed(stdout);
};

test('each Helm renders the manifest, and finds nothing to say', { skip, timeout: 120_000 }, () => {
  for (const program of programs) {
    assert.deepEqual(parsed(rendered(program)), manifests(), program);
    const { ok, stdout } = helm(program, ['lint', '--strict', chart]);
    assert.ok(ok, stdout);
  }
});

test('values have their effect', { skip, timeout: 120_000 }, () => {
  const [program] = programs as [string];
  const set = [
    '--set',
    'metrics.address=node,podMonitor.enabled=true,prometheusRule.enabled=true,dashboard.enabled=true',
  ];
  const all = template(
    program,
    ...set,
    '--set',
    'settings.warm=0,settings.cooldown=5s,env.WARM_IP_TARGET="3",chain={portmap,tuning}',
  );
  const [agent] = one(all, 'DaemonSet').spec!.template.spec.containers;
  const value = (name: string) => agent!.env.find((each) => each.name === name)?.value;
  assert.equal(value('PODWAY_LISTEN'), '[$(HOST_IP)]:9464');
  for (const host of ['10.0.0.1', '2600:1f14::1']) {
    const env = { NODE_NAME: 'n', PODWAY_LISTEN: value('PODWAY_LISTEN')!.replace('$(HOST_IP)', host) };
    assert.deepEqual(readAgentOptions([], env).listen, { host, port: 9464 });
    assert.deepEqual(readControllerOptions([], { ...env, KUBERNETES_SERVICE_HOST: '::1' }).listen, {
      host,
      port: 9464,
    });
  }
  assert.equal(value('PODWAY_WARM'), '0');
  assert.equal(value('PODWAY_COOLDOWN'), '5s');
  assert.equal(value('PODWAY_CHAIN'), 'portmap,tuning');
  for (const kind of ['PodMonitor', 'PrometheusRule']) one(all, kind);
  const map = one(all, 'ConfigMap', 'podway-dashboard') as unknown as { data: Record<string, string> };
  assert.deepEqual(
    JSON.parse(map.data['podway.json']!),
    JSON.parse(read('deploy/chart/podway/files/dashboard.json')),
  );
  const refused = helm(program, ['template', 'podway', chart, '--set', 'podMonitor.enabled=true']);
  assert.match(refused.stderr, /needs metrics.address=node/);
});

test('uninstalling replaces the agent, on the nodes that are named', { skip, timeout: 120_000 }, () => {
  const [program] = programs as [string];
  const sets = (objects: ReturnType<typeof parsed>) => objects.filter(({ kind }) => kind === 'DaemonSet');
  assert.deepEqual(
    sets(template(program)).map(({ metadata }) => metadata.name),
    ['podway-agent'],
  );
  const everywhere = template(program, '--set', 'uninstall.enabled=true');
  assert.deepEqual(
    sets(everywhere).map(({ metadata }) => metadata.name),
    ['podway-uninstall'],
  );
  const some = template(program, '--set', 'uninstall.enabled=true,uninstall.nodeSelector.pool=old');
  const terms = (name: string) =>
    JSON.stringify(one(some, 'DaemonSet', name).spec!.template.spec['affinity']);
  assert.match(terms('podway-agent'), /"key":"pool","operator":"NotIn","values":\["old"\]/);
  assert.doesNotMatch(terms('podway-uninstall'), /pool/);
  assert.deepEqual(one(some, 'DaemonSet', 'podway-uninstall').spec!.template.spec['nodeSelector'], {
    pool: 'old',
  });
});
