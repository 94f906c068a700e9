// The OCI archive of a built image: a tar with sorted names and fixed times, whose index carries the image's full name, by
// which `ctr images import` knows it.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildah, run } from './run.ts';

type Descriptor = { digest: string; size: number; annotations?: Record<string, string> };

export type Archive = {
  /** Of the manifest: what a registry would call the image by. */
  digest: string;
  /** Bytes of configuration and compressed layers. */
  size: number;
};

/** Writes the image of the builder's storage `name` to `file`. `epoch`: seconds, the time of every entry. */
export function writeArchive(name: string, file: string, epoch: number): Archive {
  const folder = mkdtempSync(join(tmpdir(), 'podway-oci-'));
  try {
    buildah([
      'push',
      '-q',
      '--format',
      'oci',
      '--compression-format',
      'gzip',
      '--compression-level',
      '9',
      name,
      `oci:${folder}:image`,
    ]);
    const blob = (digest: string) => join(folder, 'blobs', 'sha256', digest.replace('sha256:', ''));
    const index = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as { manifests: Descriptor[] };
    const [top] = index.manifests;
    if (!top) throw new Error('the index has no manifest');
    top.annotations = {
      'io.containerd.image.name': name,
      'org.opencontainers.image.ref.name': name.replace(/^.*:/, ''),
    };
    writeFileSync(join(folder, 'index.json'), JSON.stringify(index));
    const manifest = JSON.parse(readFileSync(blob(top.digest), 'utf8')) as {
      config: Descriptor;
      layers: Descriptor[];
    };
    const parts = [manifest.config, ...manifest.layers];
    for (const { digest, size } of parts)
      if (statSync(blob(digest)).size !== size) throw new Error(`${digest} is cut`);
    run('tar', [
      ...[
        '--sort=name',
        `--mtime=@${epoch}`,
        '--owner=0',
        '--group=0',
        '--numeric-owner',
        '--mode=a+rX,u+w,go-w',
      ],
      ...['--format=ustar', '-C', folder, '-cf', file, 'blobs', 'index.json', 'oci-layout'],
    ]);
    return { digest: top.digest, size: parts.reduce((sum, { size }) => sum + size, 0) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
