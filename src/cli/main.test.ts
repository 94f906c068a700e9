import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { causes } from '../base/causes.ts';
import { labCauses } from '../lab/daemon/causes.ts';
import { packageRoot } from '../lab/daemon/parts.ts';

const launcher = join(packageRoot, 'bin', 'podway');
const podway = (...args: string[]) =>
  spawnSync(process.execPath, [launcher, ...args], {
    encoding: 'utf8',
    timeout: 30_000,
    env: { ...process.env, PODWAY_LAB: '' },
  });

test('every command has help with examples', () => {
  const groups: Record<string, string[]> = {
    '': [''],
    lab: ['up', 'down', 'list', 'status', 'logs', 'exec', 'env'],
    pod: ['run', 'delete', 'list', 'logs', 'exec'],
    node: ['list'],
    ipam: ['show', 'explain', 'subnets', 'defrag', 'release-idle', 'check', 'max-pods', 'migrate-report'],
    connectivity: ['test'],
    doctor: [''],
    explain: [''],
    version: [''],
    cni: ['add', 'del', 'check', 'gc', 'status', 'version'],
  };
  for (const [group, names] of Object.entries(groups)) {
    for (const name of names) {
      const { status, stdout, stderr } = podway(...[group, name].filter((word) => word !== ''), '--help');
      assert.equal(status, 0, `${group} ${name}: ${stderr}`);
      assert.match(stdout, /Examples:\n {2}/, `${group} ${name}`);
    }
  }
});

test('lab up says which lab it means, and what the settings are', () => {
  const { stdout } = podway('lab', 'up', '--help');
  assert.match(stdout, /--lab <name> +the lab \(else PODWAY_LAB, else default\)/);
  const settings = stdout.split('Settings:\n')[1]!.trimEnd().split('\n');
  const columns = settings.map((line) => /^ {2}\S+ {2,}/.exec(line)?.[0].length);
  assert.equal(new Set(columns).size, 1, stdout);
});

const wrong: string[][] = [
  ['nonsense'],
  ['lab'],
  ['lab', 'nonsense'],
  ['lab', 'up', '--nodes', 'x'],
  ['lab', 'up', '--nodes', '0'],
  ['lab', 'up', '--set', 'colour=red'],
  ['lab', 'up', '--set', 'cooldown'],
  ['lab', 'up', '--instance-type', 'm5.nano'],
  ['lab', 'up', '--lab', 'Not A Name'],
  ['lab', 'up', '-f', '/nonexistent.yaml'],
  ['lab', 'status', '--colour'],
  ['ipam', 'explain'],
  ['ipam', 'subnets', '--over', '0s'],
  ['ipam', 'subnets', '--over', 'soon'],
  ['ipam', 'subnets', '--region', 'us-west-2'],
  ['ipam', 'defrag', 'plan', '--aws'],
  ['ipam', 'release-idle', '10.0.0.7'],
  ['ipam', 'release-idle', '--node', 'node-1'],
  ['lab', 'status', '--lab', 'a', '--name', 'b'],
  ['pod', 'run'],
  ['pod', 'run', 'A B'],
  ['pod', 'run', 'a', '--timeout', 'soon'],
  ['lab', 'exec', 'node-1'],
  ['lab', 'status', '-o', 'yaml'],
];
for (const args of wrong) {
  test(`wrong usage is exit 2 and one line: podway ${args.join(' ')}`, () => {
    const { status, stdout, stderr } = podway(...args);
    assert.equal(status, 2, stderr);
    assert.match(stderr, /^podway: [A-Z_]+: .+ \(.+\)\n$/);
    assert.equal(stdout, '');
  });
}

test('a failure is also JSON where JSON is asked for', () => {
  const { status, stdout, stderr } = podway('lab', 'status', '--lab', 'pwt-absent', '-o', 'json');
  assert.equal(status, 1);
  const { error } = JSON.parse(stdout) as { error: { code: string; message: string; next: string } };
  assert.deepEqual(Object.keys(error), ['code', 'message', 'next']);
  assert.equal(error.code, 'LAB_NOT_UP');
  assert.match(stderr, /^podway: LAB_NOT_UP: /);
});

test('explain takes names and numbers', () => {
  const one = JSON.parse(podway('explain', 'address_limit', '-o', 'json').stdout) as {
    code: string;
    number: number;
  };
  assert.deepEqual([one.code, one.number], ['ADDRESS_LIMIT', 100]);
  assert.ok((JSON.parse(podway('explain', '11', '-o', 'json').stdout) as unknown[]).length > 1);
  assert.equal(podway('explain', 'NONSENSE').status, 1);
  // What a CAUSE column can show of the lab itself.
  for (const cause of ['UNSCHEDULABLE', 'NODE_STOPPED', 'EXITED'])
    assert.match(podway('explain', cause).stdout, /of the lab.*\n {2}.+\n {2}Next: /);
});

test('cni answers with a CNI error object alone', () => {
  const { status, stdout } = podway(
    'cni',
    'add',
    '--conf',
    '/nonexistent.conflist',
    '--netns',
    '/run/netns/x',
    '--container-id',
    'c',
  );
  assert.equal(status, 1);
  assert.equal((JSON.parse(stdout) as { code: number }).code, 7);
});

test('cni gc asks for the list of what lives before it removes anything', () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-cli-'));
  const conf = join(dir, 'a.conflist');
  writeFileSync(conf, JSON.stringify({ cniVersion: '1.1.0', name: 'a', plugins: [{ type: 'absent' }] }));
  const cases: [string[], RegExp][] = [
    [[], /--valid and --valid-none are missing/],
    [['--valid', 'c/eth0', '--valid-none'], /exclude each other/],
    [['--valid', 'c'], /--valid has "c", not ID\/IFNAME/],
    [['--valid', 'c/'], /not ID\/IFNAME/],
  ];
  for (const [flags, says] of cases) {
    const { status, stdout } = podway('cni', 'gc', '--conf', conf, '--cache-dir', dir, ...flags);
    const { code, msg } = JSON.parse(stdout) as { code: number; msg: string };
    assert.deepEqual([status, code], [1, 4], flags.join(' '));
    assert.match(msg, says);
  }
  rmSync(dir, { recursive: true });
});

test('exec of a lab that is not there is 125 and says that it is not up', () => {
  for (const [group, where] of [
    ['lab', 'node-1'],
    ['pod', 'x'],
  ] as const) {
    const { status, stderr } = podway(group, 'exec', '--lab', 'pwt-absent', where, '--', 'true');
    assert.equal(status, 125);
    assert.match(stderr, /^podway: LAB_NOT_UP: /);
  }
});

test('down of a lab that is not there is done', {
  skip: process.getuid?.() === 0 ? false : 'needs root',
}, () => {
  assert.equal(podway('lab', 'down', '--lab', 'pwt-absent').status, 0);
});

test('help COMMAND is COMMAND --help', () => {
  for (const words of [[], ['lab'], ['lab', 'up'], ['pod', 'run'], ['explain']]) {
    const [asked, given] = [podway('help', ...words), podway(...words, '--help')];
    assert.equal(asked.status, 0, asked.stderr);
    assert.equal(asked.stdout, given.stdout, words.join(' '));
  }
  const { status, stderr } = podway('help', 'lab', 'nonsense');
  assert.equal(status, 2);
  assert.match(stderr, /^podway: USAGE: there is no command "nonsense"/);
});

test('a pod is named by [NAMESPACE/]POD', () => {
  for (const words of [
    ['sg', 'show'],
    ['policy', 'show'],
    ['ipam', 'explain'],
    ['observe', '--pod'],
  ])
    for (const name of ['a/b/c', '/b', 'a/']) {
      const { status, stderr } = podway(...words, name);
      assert.equal(status, 2, `${words.join(' ')} ${name}`);
      assert.match(stderr, /^podway: USAGE: "[^"]+" is not \[NAMESPACE\/\]POD \(see --help\)\n$/);
    }
});

test('ipam release takes an address', () => {
  const { status, stderr } = podway('ipam', 'release', 'web', '--node', 'node-1');
  assert.deepEqual(
    [status, stderr],
    [2, 'podway: USAGE: "web" is not an address (podway ipam show lists them)\n'],
  );
});

test('an answer that nobody can have is a failure; one that a reader has had enough of is not', () => {
  const shell = (script: string) =>
    spawnSync('bash', ['-c', `set -o pipefail; ${script}`, launcher], { encoding: 'utf8', timeout: 30_000 });
  for (const command of ['version', 'explain 11 -o json', '--help', 'lab up --help', 'lab list']) {
    for (const where of ['>&-', '>/dev/full']) {
      const { status, stderr } = shell(`"$0" ${command} ${where}`);
      assert.equal(status, 1, `${command} ${where}`);
      assert.match(stderr, /^podway: OUTPUT_LOST: [^\n]+\n$/, `${command} ${where}`);
    }
    const { status, stderr } = shell(`"$0" ${command} >/dev/null && { "$0" ${command} 3>&- | true; }`);
    assert.deepEqual([status, stderr], [0, ''], command);
  }
  // Progress that nobody reads stops nothing: the failure is still the exit code.
  assert.equal(shell('"$0" lab status --lab pwt-absent 2>&-').status, 1);
  assert.equal(shell('"$0" lab status --lab pwt-absent 2>/dev/full').status, 1);
});

test('what commands fail with is known to explain', () => {
  for (const code of [
    'SHAPE_DIFFERS',
    'IPAM_DIFFERENCES',
    'LAB_NOT_UP',
    'OUTPUT_LOST',
    'CNI_11',
    'cni_999',
    'BAD_SHAPE',
  ]) {
    const { status, stdout } = podway('explain', code);
    assert.equal(status, 0, code);
    assert.match(
      stdout,
      new RegExp(`^${code.toUpperCase()} \\(.+\\)\\n {2}.+\\n {2}Next: .+\\n( {2}See docs.+\\n)?$`),
    );
  }
  assert.match(podway('explain', 'CNI_11').stdout, /passes by itself/);
  assert.equal(podway('explain', 'CNI_x').status, 1);
});

test('every code that a command of the lab fails with is known to explain', () => {
  const source = join(import.meta.dirname, '..');
  const files = readdirSync(source, { recursive: true, encoding: 'utf8' });
  const made = /new LabError\(\s*(?:[\w?.]+ \?\? )?'([A-Z_]+)'/g;
  const codes = files
    .filter((file) => /(?<!\.test)\.ts$/.test(file))
    .flatMap((file) => [...readFileSync(join(source, file), 'utf8').matchAll(made)].map(([, code]) => code!));
  assert.ok(codes.length > 30, `${codes.length} found`);
  const unknown = codes.filter((code) => !Object.hasOwn(labCauses, code) && !Object.hasOwn(causes, code));
  assert.deepEqual([...new Set(unknown)], []);
});

test('a Kubernetes API that is not there is told by a cause', () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-api-'));
  const file = join(dir, 'kubeconfig');
  const config = {
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'x' },
    clusters: [{ name: 'c', cluster: { server: 'https://127.0.0.1:1' } }],
    users: [{ name: 'u', user: { token: 'x' } }],
    contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
  };
  writeFileSync(file, JSON.stringify(config));
  assert.match(podway('policy', 'lint', '--kubeconfig', file).stderr, /^podway: NO_CLUSTER: .*ECONNREFUSED/);
  rmSync(dir, { recursive: true });
  assert.match(podway('controller', 'clear', '--kubeconfig', file).stderr, /^podway: NO_CLUSTER: .*ENOENT/);
});
