import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import type { LabError } from '../daemon/errors.ts';
import { findBinaries, kubePrograms } from './binaries.ts';

const RUNTIME = ['etcd', 'containerd', 'containerd-shim-runc-v2', 'ctr', 'runc'];
let root: string;
let env: NodeJS.ProcessEnv;
let cache: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'podway-binaries-'));
  env = { XDG_CACHE_HOME: join(root, 'cache'), PATH: `${join(root, 'path-a')}::${join(root, 'path-b')}` };
  cache = join(root, 'cache/podway/kubernetes/v1.36.3');
});
afterEach(() => rmSync(root, { recursive: true }));

function put(folder: string, names: readonly string[], mode = 0o755): void {
  for (const name of names) {
    const file = join(folder, name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, '');
    chmodSync(file, mode);
  }
}

const failure = (dir?: string): LabError => {
  try {
    findBinaries({ version: 'v1.36.3', env, ...(dir ? { dir } : {}) });
  } catch (error) {
    return error as LabError;
  }
  throw new Error('nothing is missing');
};

test('the cache comes before the search path, a component of its own before both', () => {
  put(join(cache, 'bin'), kubePrograms);
  put(join(cache, 'components/containerd-v2.4.2'), ['containerd', 'containerd-shim-runc-v2', 'ctr']);
  put(join(cache, 'components/containerd-v2.10.0'), ['containerd']);
  put(join(root, 'path-b'), [...RUNTIME, 'kubectl', 'helm']);
  put(join(cache, 'images'), ['pause.tar', '.agnhost.tar', 'notes']);
  const { source, programs, images } = findBinaries({ version: 'v1.36.3', env });
  assert.equal(source, 'cache');
  assert.equal(programs.kubectl, join(cache, 'bin/kubectl'));
  assert.equal(programs.containerd, join(cache, 'components/containerd-v2.10.0/containerd'));
  assert.equal(programs.ctr, join(cache, 'components/containerd-v2.4.2/ctr'));
  assert.equal(programs.runc, join(root, 'path-b/runc'));
  assert.equal(programs.helm, join(root, 'path-b/helm'));
  assert.equal(programs.agnhost, undefined);
  assert.deepEqual(images, [join(cache, 'images/pause.tar')]);
});

test("Kubernetes' programs come from one place", () => {
  put(join(cache, 'bin'), ['kube-apiserver', 'kubelet']);
  put(join(root, 'path-a'), [...kubePrograms, ...RUNTIME]);
  const { source, programs } = findBinaries({ version: 'v1.36.3', env });
  assert.equal(source, 'path');
  assert.equal(programs.kubelet, join(root, 'path-a/kubelet'));
});

test('a named folder is the only place for them', () => {
  put(join(root, 'mine'), kubePrograms.slice(1));
  put(join(root, 'path-a'), [...kubePrograms, ...RUNTIME]);
  const error = failure(join(root, 'mine'));
  assert.equal(error.code, 'KUBERNETES_MISSING');
  assert.match(error.message, /needs kube-apiserver, not found in .*mine$/);
  put(join(root, 'mine'), kubePrograms);
  put(join(root, 'mine'), ['ctr']);
  const { source, programs } = findBinaries({ env, dir: join(root, 'mine') });
  assert.equal(source, 'directory');
  assert.equal(programs.ctr, join(root, 'mine/ctr'));
  assert.equal(programs.containerd, join(root, 'path-a/containerd'));
});

test('what is missing is named, with the way to get each', () => {
  put(join(cache, 'bin'), kubePrograms.slice(0, 5));
  put(join(root, 'path-a'), ['kubectl', 'etcd', 'containerd', 'containerd-shim-runc-v2']);
  put(join(root, 'path-a'), ['ctr'], 0o644);
  const error = failure();
  assert.equal(
    error.message,
    'Kubernetes v1.36.3 needs kubectl, ctr, runc, not found in the cache and on the search path',
  );
  assert.match(
    error.next,
    /podway lab kubernetes install --version v1\.36\.3 .*--kube-bin.*; apt-get install runc$/,
  );
});
