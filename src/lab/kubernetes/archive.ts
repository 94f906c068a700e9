// An OCI image of one layer as an archive that `ctr images import` reads: nothing is pulled in a lab. The same root
// filesystem gives the same bytes: names sorted, no times, owner root.
// Format: OCI image spec 1.1, image-layout.md; containerd reads the names from the annotation below.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

export type ImageConfig = {
  Entrypoint?: string[];
  Cmd?: string[];
  Env?: string[];
  User?: string;
};

const TAR_BOUND_MS = 120_000;
const REPRODUCIBLE = [
  '--sort=name',
  '--mtime=@0',
  '--owner=0',
  '--group=0',
  '--numeric-owner',
  '--format=gnu',
];
const MEDIA = 'application/vnd.oci.image';

type Descriptor = { mediaType: string; digest: string; size: number };

/** Writes `file` from the folder `rootfs`, with all of `names`. `scratch` is a folder that this may fill and removes. */
export async function writeArchive(
  file: string,
  rootfs: string,
  { names, config, scratch }: { names: string[]; config: ImageConfig; scratch: string },
): Promise<void> {
  const layout = join(scratch, 'layout');
  const blobs = join(layout, 'blobs', 'sha256');
  mkdirSync(blobs, { recursive: true });
  const put = (mediaType: string, bytes: Uint8Array): Descriptor => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    writeFileSync(join(blobs, hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  const json = (mediaType: string, value: unknown) => put(mediaType, Buffer.from(JSON.stringify(value)));

  const tarred = join(scratch, 'layer.tar');
  await tar(['-cf', tarred, '-C', rootfs, '.']);
  const layer = put(`${MEDIA}.layer.v1.tar`, readFileSync(tarred));
  rmSync(tarred);
  const configured = json(`${MEDIA}.config.v1+json`, {
    architecture: architecture(),
    os: 'linux',
    config: { WorkingDir: '/', ...config },
    rootfs: { type: 'layers', diff_ids: [layer.digest] },
  });
  const manifest = json(`${MEDIA}.manifest.v1+json`, {
    schemaVersion: 2,
    mediaType: `${MEDIA}.manifest.v1+json`,
    config: configured,
    layers: [layer],
  });
  writeFileSync(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  writeFileSync(
    join(layout, 'index.json'),
    JSON.stringify({
      schemaVersion: 2,
      mediaType: `${MEDIA}.index.v1+json`,
      manifests: names.map((name) => ({
        ...manifest,
        platform: { architecture: architecture(), os: 'linux' },
        annotations: { 'io.containerd.image.name': name },
      })),
    }),
  );
  await tar(['-cf', `${file}.part`, '-C', layout, 'oci-layout', 'index.json', 'blobs']);
  renameSync(`${file}.part`, file);
  rmSync(layout, { recursive: true });
}

const tar = (args: string[]) =>
  promisify(execFile)('tar', [...REPRODUCIBLE, ...args], { timeout: TAR_BOUND_MS });

/** Go's name of this machine's architecture, as OCI has it. */
const architecture = (): string => (process.arch === 'x64' ? 'amd64' : process.arch);
