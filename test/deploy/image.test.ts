// What is in the image that `npm run image` wrote, where it did; and that the Dockerfile names nothing of one place.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

const root = join(import.meta.dirname, '../..');
const archive = join(root, 'build/podway.oci.tar');
const skip = existsSync(archive) ? false : 'no image (npm run image)';
/** Bytes of all layers and the configuration, compressed. */
const MOST = 110e6;

type Descriptor = { digest: string; size: number; annotations?: Record<string, string> };
const folder = mkdtempSync(join(tmpdir(), 'podway-image-'));
const blob = (digest: string) => join(folder, 'blobs/sha256', digest.replace('sha256:', ''));
const json = <T>(file: string) => JSON.parse(readFileSync(file, 'utf8')) as T;
let manifest: { config: Descriptor; layers: Descriptor[] };
let name: string | undefined;
/** `mode path` of each entry. */
let entries: string[];

before(() => {
  if (skip) return;
  execFileSync('tar', ['-xf', archive, '-C', folder]);
  const [top] = json<{ manifests: Descriptor[] }>(join(folder, 'index.json')).manifests;
  name = top?.annotations?.['io.containerd.image.name'];
  manifest = json(blob(top!.digest));
  entries = manifest.layers.flatMap(({ digest }) =>
    execFileSync('tar', ['-tvzf', blob(digest)], { encoding: 'utf8', maxBuffer: 1 << 26 })
      .trim()
      .split('\n')
      .map((line) => line.replace(/^(\S+) .*? \d\d:\d\d (\S+).*$/, '$1 $2')),
  );
});
after(() => rmSync(folder, { recursive: true }));

const has = (path: string) => entries.some((entry) => entry.endsWith(` ${path}`));

test('it is small, and has the name that the chart asks for', { skip }, () => {
  const size = [manifest.config, ...manifest.layers].reduce((sum, each) => sum + each.size, 0);
  assert.ok(size < MOST, `${size} bytes`);
  const { version } = json<{ version: string }>(join(root, 'package.json'));
  assert.equal(name, `localhost/podway:${version}`);
});

test('it has the agent, the plugin and the command line, and nothing of the lab or of EC2’s SDK', {
  skip,
}, () => {
  const own = [
    'bin/podway',
    'bin/kubectl-podway',
    'bin/node',
    'build/podway-cni',
    'dist/src/agent/main.js',
    'dist/src/cli/main.js',
    // `--cluster` from a job in the cluster.
    'node_modules/ws/package.json',
  ];
  for (const path of own) assert.ok(has(`opt/podway/${path}`), path);
  const left = entries.filter((entry) =>
    /@aws-sdk|@kubernetes|typescript|dist\/src\/lab\/(daemon\/(main|lab)|kubernetes\/cluster|fabric\/apply|cluster)\b|\.d\.ts$/.test(
      entry,
    ),
  );
  assert.deepEqual(left, []);
});

test('every user may read it, and no file runs as another', { skip }, () => {
  const closed = entries.filter(
    (entry) => /^-......[^r]|^d......[^r]|^d........[^xt]/.test(entry) && !entry.endsWith(' root/'),
  );
  assert.deepEqual(closed, []);
  assert.deepEqual(
    entries.filter((entry) => /^...[sS]|^......[sS]/.test(entry)),
    [],
  );
});

test('no file that an operator installs from names a registry', () => {
  const places = { 'deploy/Dockerfile': /^ARG BASE=(\S+)/gm, 'deploy/podway.yaml': /\bimage: (\S+)/g };
  for (const [file, place] of Object.entries(places)) {
    const names = [...readFileSync(join(root, file), 'utf8').matchAll(place)].map((match) => match[1]!);
    assert.ok(names.length > 0, file);
    for (const each of names) assert.doesNotMatch(each, /^[^/]*\.[^/]*\//, `${file} names a registry`);
  }
});
