// npm run image: builds deploy/Dockerfile without a registry and without a container engine, and writes an OCI archive.
// Two builds of one checkout give one digest: files are sorted, and all times are that of the last commit. `--twice` shows it.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Archive, writeArchive } from './archive.ts';
import { ensureBase } from './base.ts';
import { buildah, cache, ImageError } from './run.ts';

const root = join(import.meta.dirname, '../..');
const USAGE = `Usage: npm run image -- [--out FILE] [--name NAME] [--base IMAGE] [--twice]

Builds deploy/Dockerfile and writes the image as an OCI archive; prints its digest and size.

  --out FILE    the archive (build/podway.oci.tar)
  --name NAME   the image's name and tag (localhost/podway:VERSION)
  --base IMAGE  an image with apt, a C compiler, Node and npm; made of Debian's packages by default
  --twice       build it all again and compare the digests

Example: npm run image && ctr -n k8s.io images import build/podway.oci.tar
Needs root, buildah and mmdebstrap (apt-get install buildah mmdebstrap).`;

/** Seconds: of the last commit, or what SOURCE_DATE_EPOCH says. */
function sourceDate(): number {
  const given = process.env['SOURCE_DATE_EPOCH'];
  if (given !== undefined) {
    if (!/^\d{1,10}$/.test(given))
      throw new ImageError('USAGE', `SOURCE_DATE_EPOCH is "${given}", not seconds since 1970`, 'unset it');
    return Number(given);
  }
  const { stdout } = spawnSync('git', ['log', '-1', '--format=%ct'], { cwd: root, encoding: 'utf8' });
  return Number(stdout?.trim() || 0);
}

function build(name: string, base: string, epoch: number, archive: string): Archive {
  buildah.shown(
    [
      ...['build', '--isolation', 'chroot', '--network', 'host', '--no-cache', '--format', 'oci'],
      ...['--timestamp', String(epoch), '--build-arg', `BASE=${base}`, '-f', join(root, 'deploy/Dockerfile')],
      ...['-t', name, root],
    ],
    {},
  );
  const written = writeArchive(name, archive, epoch);
  // The image of an earlier run has lost its name to this one.
  buildah.try(['rmi', '--prune', '--force']);
  return written;
}

function main(): void {
  const { values } = parseArgs({
    options: {
      out: { type: 'string', default: join(root, 'build/podway.oci.tar') },
      name: { type: 'string' },
      base: { type: 'string' },
      twice: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const name = values.name ?? `localhost/podway:${version}`;
  const epoch = sourceDate();
  mkdirSync(join(root, 'build'), { recursive: true });
  mkdirSync(cache, { recursive: true });
  const base = values.base ?? ensureBase(process.execPath);
  const first = build(name, base, epoch, values.out);
  if (values.twice) {
    const second = build(name, base, epoch, values.out);
    if (second.digest !== first.digest)
      throw new ImageError(
        'NOT_REPRODUCIBLE',
        `two builds gave ${first.digest} and ${second.digest}`,
        'compare their layers',
      );
    console.log('two builds gave one digest');
  }
  console.log(
    `${name}\n  digest      ${first.digest}\n  compressed  ${(first.size / 1e6).toFixed(1)} MB\n  archive     ${values.out}`,
  );
}

try {
  main();
} catch (error) {
  const { code, message, next } = error as ImageError;
  console.error(`podway: ${code ?? 'INTERNAL'}: ${message}${next ? ` (${next})` : ''}`);
  process.exitCode = 1;
}
