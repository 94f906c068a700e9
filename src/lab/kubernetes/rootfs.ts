// Root filesystems of local images, made of single programs of Debian packages with the libraries that each loads:
// containerd's native snapshotter copies the whole of it for every container, so a distribution is too much.
// Fails with IMAGE_BUILD.
import { execFile } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { LabError } from '../daemon/errors.ts';

export const DEBIAN_SUITE = 'bookworm';
const NAME_THE_PACKAGE = 'report it: the list of packages is wrong for this suite';
const DEBIAN_BOUND_MS = 600_000;
const SHORT_BOUND_MS = 20_000;

const LOADERS: Partial<Record<NodeJS.Architecture, string>> = {
  x64: '/lib64/ld-linux-x86-64.so.2',
  arm64: '/lib/ld-linux-aarch64.so.1',
};

/** The packages with what they depend on, unpacked and not configured, in `folder`; once for all that want them. */
export async function unpackDebian(folder: string, packages: string[]): Promise<void> {
  const complete = join(folder, '.complete');
  if (existsSync(complete)) return;
  rmSync(folder, { recursive: true, force: true });
  const args = ['--variant=extract', `--include=${packages.join(',')}`, DEBIAN_SUITE, folder];
  await run('mmdebstrap', args, DEBIAN_BOUND_MS).catch(
    (error: Error & { code?: unknown; stderr?: string }) => {
      if (error.code === 'ENOENT') {
        throw new LabError(
          'IMAGE_BUILD',
          'images are made of Debian packages by mmdebstrap, which is not on the search path',
          'apt-get install mmdebstrap; then podway lab kubernetes install goes on',
          { cause: error },
        );
      }
      const said = error.stderr?.trim().split('\n').slice(-3).join(' | ');
      throw new LabError(
        'IMAGE_BUILD',
        `mmdebstrap did not unpack ${packages.join(', ')}: ${said || error.message}`,
        'see that a mirror of Debian answers; then podway lab kubernetes install goes on',
        { cause: error },
      );
    },
  );
  writeFileSync(complete, '');
}

/** An empty one with the folders and files that every program expects. */
export function emptyRootfs(folder: string): void {
  rmSync(folder, { recursive: true, force: true });
  for (const each of [
    'usr/bin',
    'usr/sbin',
    'usr/lib',
    'usr/lib64',
    'etc',
    'dev',
    'proc',
    'sys',
    'root',
    'run',
    'var',
  ])
    mkdirSync(join(folder, each), { recursive: true });
  mkdirSync(join(folder, 'tmp'));
  chmodSync(join(folder, 'tmp'), 0o1777);
  for (const each of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${each}`, join(folder, each));
  writeFileSync(
    join(folder, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\nuser-defined-in-image:x:1000:1000::/:/bin/sh\n',
  );
  writeFileSync(
    join(folder, 'etc/group'),
    'root:x:0:\nnogroup:x:65534:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n',
  );
  writeFileSync(join(folder, 'etc/nsswitch.conf'), 'hosts: files dns\n');
}

/** Copies programs (absolute paths in `source`) and the libraries that the loader finds for each. */
export async function copyPrograms(source: string, target: string, programs: string[]): Promise<void> {
  const loader = LOADERS[process.arch];
  if (loader === undefined)
    throw new LabError(
      'IMAGE_BUILD',
      `images are not made for ${process.arch}`,
      'use an x64 or arm64 machine',
    );
  for (const program of programs) {
    if (!existsSync(join(source, program)))
      throw new LabError('IMAGE_BUILD', `Debian's packages have no ${program}`, NAME_THE_PACKAGE);
    copy(source, target, program);
    const listed = await run('chroot', [source, loader, '--list', program], SHORT_BOUND_MS).catch(
      // A static program has no loader, which says so by an exit code.
      (error: { stdout?: string }) => ({ stdout: error.stdout ?? '' }),
    );
    for (const [, library] of listed.stdout.matchAll(/(?:=>|^)\s*(\/\S+) \(0x/gm))
      copy(source, target, library!);
  }
}

/** busybox under the name of every command that it has and the image has not. */
export async function linkBusybox(target: string): Promise<void> {
  const { stdout } = await run('chroot', [target, '/bin/busybox', '--list'], SHORT_BOUND_MS);
  for (const name of stdout.trim().split('\n')) {
    const taken = ['usr/bin', 'usr/sbin'].some((folder) => existsSync(join(target, folder, name)));
    if (!taken) symlinkSync('busybox', join(target, 'usr/bin', name));
  }
}

function copy(source: string, target: string, path: string): void {
  const to = join(target, path);
  mkdirSync(dirname(to), { recursive: true });
  if (!existsSync(to)) copyFileSync(realpathSync(join(source, path)), to);
}

const run = (program: string, args: string[], timeout: number) =>
  promisify(execFile)(program, args, { timeout, maxBuffer: 16 << 20 });
