// The base of the image's build where no registry is asked: Debian's packages by mmdebstrap, with the pinned Node and this
// machine's npm. It is kept in the builder's storage under a name that tells its contents; nothing of it is in the image.
import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { buildah, capture, ImageError, run } from './run.ts';

const SUITE = 'bookworm';
const PACKAGES = ['ca-certificates', 'gcc', 'libatomic1', 'libc6-dev'];
/** A machine behind a proxy of its own trusts what is listed here. */
const AUTHORITIES = '/etc/ssl/certs/ca-certificates.crt';

/** The folder of this machine's npm. */
function npmFolder(): string {
  const cli = realpathSync(capture('sh', ['-c', 'command -v npm']).trim());
  const folder = dirname(dirname(cli));
  if (!existsSync(join(folder, 'bin', 'npm-cli.js')))
    throw new ImageError('NPM_MISSING', `${cli} is no npm`, 'install npm');
  return folder;
}

/** Makes the base unless it is there, and returns its name. */
export function ensureBase(node: string): string {
  const npm = npmFolder();
  const { version } = JSON.parse(readFileSync(join(npm, 'package.json'), 'utf8')) as { version: string };
  const parts = [
    SUITE,
    ...PACKAGES,
    capture(node, ['--version']),
    version,
    readFileSync(import.meta.filename),
  ];
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part).update('\0');
  const name = `localhost/podway-build-base:${hash.digest('hex').slice(0, 12)}`;
  if (buildah.try(['images', '-q', name])) return name;
  const folder = mkdtempSync(join(tmpdir(), 'podway-base-'));
  try {
    const tar = join(folder, 'debian.tar');
    console.log(`image: base ${name}: mmdebstrap ${SUITE} ${PACKAGES.join(' ')}`);
    run('mmdebstrap', [
      '--quiet',
      '--variant=apt',
      `--include=${PACKAGES.join(',')}`,
      '--dpkgopt=path-exclude=/usr/share/doc/*',
      '--dpkgopt=path-exclude=/usr/share/man/*',
      SUITE,
      tar,
    ]);
    const local = join(folder, 'local');
    mkdirSync(join(local, 'bin'), { recursive: true });
    cpSync(node, join(local, 'bin', 'node'));
    cpSync(npm, join(local, 'lib/node_modules/npm'), { recursive: true });
    symlinkSync('../lib/node_modules/npm/bin/npm-cli.js', join(local, 'bin', 'npm'));
    const made = buildah(['from', 'scratch']);
    try {
      buildah(['add', '-q', made, tar, '/']);
      buildah(['add', '-q', made, local, '/usr/local']);
      if (existsSync(AUTHORITIES)) buildah(['add', '-q', made, AUTHORITIES, AUTHORITIES]);
      buildah([
        'config',
        '--env',
        `NODE_EXTRA_CA_CERTS=${AUTHORITIES}`,
        '--env',
        'PATH=/usr/local/bin:/usr/bin:/usr/sbin',
        made,
      ]);
      buildah(['commit', '-q', made, name]);
    } finally {
      buildah.try(['rm', made]);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return name;
}
