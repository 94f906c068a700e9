// The builds themselves are `npm run test:kubernetes`; here are the values they start from, and their failures.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { writeArchive } from './archive.ts';
import { buildsOf, ldflags } from './builds.ts';
import { Go } from './go.ts';
import { imageRecipe, images } from './images.ts';
import { install } from './install.ts';
import { goModFor } from './module.ts';
import { cachePaths, KUBERNETES_VERSION, kubernetesVersion } from './version.ts';

let root: string;
before(() => {
  root = mkdtempSync(join(tmpdir(), 'podway-install-'));
});
after(() => rmSync(root, { recursive: true }));

const say = () => {};

test('a version with and without its v; what is none', () => {
  assert.equal(kubernetesVersion('1.36.3'), 'v1.36.3');
  assert.equal(kubernetesVersion('v1.35.10'), 'v1.35.10');
  for (const none of ['1.36', 'v2.0.0', 'v1.36.3-rc.1', '../1.36.3', ''])
    assert.equal(kubernetesVersion(none), undefined);
});

test('what the module pins is the default version', () => {
  const goMod = readFileSync(join(import.meta.dirname, '../../../test/kubernetes/programs/go.mod'), 'utf8');
  assert.match(goMod, new RegExp(`k8s\\.io/kubernetes ${KUBERNETES_VERSION.replaceAll('.', '\\.')}$`, 'm'));
});

test('the module of another version names every staging module of it', () => {
  const upstream = `module k8s.io/kubernetes\n\ngo 1.24.0\n\ngodebug default=go1.24\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tk8s.io/kubelet => ./staging/src/k8s.io/kubelet\n)\n`;
  assert.equal(
    goModFor('v1.34.4', upstream),
    'module podway.io/kubernetes-programs\ngo 1.24.0\ngodebug default=go1.24\nrequire k8s.io/kubernetes v1.34.4\nreplace (\n\tk8s.io/api => k8s.io/api v0.34.4\n\tk8s.io/kubelet => k8s.io/kubelet v0.34.4\n)\n',
  );
});

test('every program is stamped with its version, and has a file of its own', () => {
  const module = { version: 'v1.36.3', time: '2026-07-22T18:07:38Z', sum: 'h1:abc=' };
  const builds = buildsOf(module, cachePaths('v1.36.3', { XDG_CACHE_HOME: '/c' }));
  const flags = ldflags(builds.find((build) => build.name === 'kubelet')!);
  for (const value of [
    'gitVersion=v1.36.3',
    'gitMajor=1',
    'gitMinor=36',
    'gitCommit=h1:abc=',
    'buildDate=2026-07-22T18:07:38Z',
  ])
    assert.ok(flags.includes(`-X=k8s.io/component-base/version.${value}`), value);
  assert.equal(new Set(builds.map((build) => build.file)).size, builds.length);
  assert.equal(new Set(builds.map((build) => build.name)).size, builds.length);
});

test('an image is made again when a program in it is', () => {
  const agnhost = images.find((image) => image.name === 'agnhost')!;
  const recipe = (text: string) => imageRecipe(agnhost, { 'components/agnhost': { recipe: text } });
  assert.equal(recipe('a'), recipe('a'));
  assert.notEqual(recipe('a'), recipe('b'));
});

test('an archive has its names, and the same bytes every time', async () => {
  const rootfs = join(root, 'rootfs');
  mkdirSync(rootfs);
  writeFileSync(join(rootfs, 'program'), 'x');
  const write = async (name: string) => {
    const scratch = join(root, `scratch-${name}`);
    mkdirSync(scratch);
    const file = join(root, `${name}.tar`);
    await writeArchive(file, rootfs, {
      names: ['a/x:1', 'b/y:2'],
      config: { Entrypoint: ['/program'] },
      scratch,
    });
    return file;
  };
  const [one, two] = [await write('one'), await write('two')];
  assert.deepEqual(readFileSync(one), readFileSync(two));
  const index = JSON.parse(execFileSync('tar', ['-xOf', one, 'index.json'], { encoding: 'utf8' })) as {
    manifests: { annotations: Record<string, string> }[];
  };
  assert.deepEqual(
    index.manifests.map((each) => each.annotations['io.containerd.image.name']),
    ['a/x:1', 'b/y:2'],
  );
});

test('what is no version is refused', async () => {
  await assert.rejects(install({ version: 'latest', say }), { code: 'BAD_VERSION', exit: 2 });
});

test('no Go: the sentence says how to get the programs', async () => {
  await assert.rejects(Go.find(undefined, join(root, 'nothing')), {
    code: 'GO_MISSING',
    next: /go\.dev.*--kube-bin DIR/,
  });
});

/** A go that does what the shell text says. */
function fakeGo(text: string): string {
  const folder = mkdtempSync(join(root, 'go-'));
  writeFileSync(join(folder, 'go'), `#!/bin/sh\n[ "$1" = env ] && { echo go1.26.0; exit; }\n${text}\n`);
  chmodSync(join(folder, 'go'), 0o755);
  return folder;
}

test("a build that fails says go's last lines", async () => {
  const go = await Go.find(
    undefined,
    fakeGo('echo "go: downloading x" >&2; echo "no space left" >&2; exit 1'),
  );
  assert.equal(go.version, 'go1.26.0');
  await assert.rejects(go.run(['build', '-o', 'x', 'k8s.io/kubelet'], '/'), {
    code: 'KUBERNETES_BUILD',
    message: 'go build k8s.io/kubelet failed: no space left',
  });
});

test('an interrupt ends go and what go started, and removes what it has compiled', async () => {
  const pid = join(root, 'pid');
  const interrupt = new AbortController();
  const go = await Go.find(
    interrupt.signal,
    fakeGo(
      `touch $GOTMPDIR/object; echo $GOTMPDIR >${pid}.folder; sleep 1000 & echo $! > ${pid}.part; mv ${pid}.part ${pid}; wait`,
    ),
  );
  const running = go.run(['build', 'x'], '/');
  while (!exists(pid)) await new Promise((resolve) => setImmediate(resolve));
  interrupt.abort();
  await assert.rejects(running, { code: 'KUBERNETES_BUILD', message: /interrupted/ });
  const child = Number(readFileSync(pid, 'utf8'));
  while (isAlive(child)) await new Promise((resolve) => setImmediate(resolve));
  const folder = readFileSync(`${pid}.folder`, 'utf8').trim();
  assert.match(folder, /podway-go-/);
  assert.equal(existsSync(folder), false);
});

const exists = (file: string): boolean => {
  try {
    return readFileSync(file, 'utf8') !== '';
  } catch {
    return false;
  }
};

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
