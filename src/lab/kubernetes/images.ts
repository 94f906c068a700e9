// Local images for the nodes' containerd, built without a registry and without a container engine: pause, agnhost,
// CoreDNS, and those of the end-to-end tests that our selection of them starts. Each has a name of the lab's own, and
// those that upstream names have upstream's names too, as the built Kubernetes tells them (programs/imagenames).
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { buildProgram, programs as programSources } from '../../base/programs.ts';
import { LabError } from '../daemon/errors.ts';
import { packageRoot, programsDir } from '../daemon/parts.ts';
import { type ImageConfig, writeArchive } from './archive.ts';
import { copyPrograms, DEBIAN_SUITE, emptyRootfs, linkBusybox, unpackDebian } from './rootfs.ts';
import { type CachePaths, componentVersions } from './version.ts';

export type LabImage = 'pause' | 'agnhost' | 'coredns' | 'busybox' | 'dnsutils' | 'nginx';

/** The name under which the lab's own manifests and containerd's config use an image. */
export const labImage = (image: LabImage): string => `podway.lab/${image}:1`;

export type Image = {
  name: LabImage;
  /** The last part of upstream's names, for all versions of which the archive stands. */
  upstream?: string;
  config: ImageConfig;
  /** What it is made of: programs of the cache, Debian's programs. A change of either makes the image again. */
  programs: string[];
  debian: string[];
  fill?(rootfs: string, from: Sources): Promise<void> | void;
};

type Sources = {
  paths: CachePaths;
  /** The folder of unpacked Debian packages. */
  debian: string;
  /** The folder of Kubernetes' source. */
  source: string;
};

/** Raised when archives of the same recipe come out otherwise than before. */
const FORMAT = 2;
const NAMES_BOUND_MS = 20_000;
const COREDNS = `components/coredns-${componentVersions.coredns}/coredns`;
const AGNHOST = 'components/agnhost';
const NAMES = 'components/imagenames';
const PATH = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
/**
 * What agnhost's own Dockerfile installs, and what upstream's tests run in it. The shell is bash: busybox's runs its own
 * nc, hostname and nslookup before those of /usr/bin.
 */
const TOOLS = [
  '/bin/bash',
  '/bin/hostname',
  '/usr/bin/curl',
  '/usr/bin/dig',
  '/usr/bin/getent',
  '/usr/bin/host',
  '/usr/bin/nslookup',
  '/usr/bin/wget',
  '/usr/bin/iperf',
  '/bin/nc.openbsd',
  '/bin/ip',
  '/bin/ss',
];
const DNS_TOOLS = [
  '/bin/bash',
  '/usr/bin/dig',
  '/usr/bin/host',
  '/usr/bin/nslookup',
  '/usr/bin/wget',
  '/usr/bin/getent',
  '/bin/hostname',
];
const DEBIAN_PACKAGES = [
  'bash',
  'bind9-dnsutils',
  'busybox',
  'curl',
  'hostname',
  'iperf',
  'iproute2',
  'libc-bin',
  'netcat-openbsd',
  'nginx-light',
  'wget',
];

const NGINX_CONF =
  'user nobody nogroup;\nerror_log stderr;\nevents {}\nhttp {\n  access_log off;\n  server { listen 80; location / { return 200 ok; } }\n}\n';

export const images: Image[] = [
  {
    name: 'pause',
    upstream: 'pause',
    config: { Entrypoint: ['/pause'], Env: [PATH], User: '65535:65535' },
    programs: [],
    debian: [],
    async fill(rootfs) {
      const { path } = await buildProgram('pause', { srcRoot: packageRoot, outDir: programsDir() });
      copyFileSync(path, join(rootfs, 'pause'));
    },
  },
  {
    name: 'coredns',
    config: { Entrypoint: ['/coredns'], Env: [PATH] },
    programs: [COREDNS],
    debian: [],
    fill(rootfs, { paths }) {
      copyFileSync(built(paths, COREDNS), join(rootfs, 'coredns'));
    },
  },
  {
    name: 'agnhost',
    upstream: 'agnhost',
    config: { Entrypoint: ['/agnhost'], Cmd: ['pause'], Env: [PATH] },
    programs: [AGNHOST, COREDNS],
    debian: ['/bin/busybox', ...TOOLS],
    fill(rootfs, { paths, source }) {
      copyFileSync(built(paths, AGNHOST), join(rootfs, 'agnhost'));
      symlinkSync('agnhost', join(rootfs, 'agnhost-2'));
      // Tests run a name server of their own in it.
      copyFileSync(built(paths, COREDNS), join(rootfs, 'coredns'));
      mkdirSync(join(rootfs, 'uploads'));
      for (const file of ['localhost.crt', 'localhost.key'])
        copyFileSync(join(source, 'test/images/agnhost/porter', file), join(rootfs, file));
      symlinkSync('nc.openbsd', join(rootfs, 'usr/bin/nc'));
      symlinkSync('bash', join(rootfs, 'usr/bin/sh'));
    },
  },
  {
    name: 'busybox',
    upstream: 'busybox',
    config: { Cmd: ['sh'], Env: [PATH] },
    programs: [],
    debian: ['/bin/busybox'],
  },
  {
    name: 'nginx',
    upstream: 'nginx',
    config: { Cmd: ['nginx', '-g', 'daemon off;'], Env: [PATH] },
    programs: [],
    debian: ['/bin/busybox', '/usr/sbin/nginx'],
    fill(rootfs) {
      for (const folder of ['etc/nginx', 'var/lib/nginx', 'var/log/nginx'])
        mkdirSync(join(rootfs, folder), { recursive: true });
      writeFileSync(join(rootfs, 'etc/nginx/nginx.conf'), NGINX_CONF);
    },
  },
  {
    name: 'dnsutils',
    // Named jessie-dnsutils before 1.34.
    upstream: 'glibc-dns-testing',
    config: { Cmd: ['sleep', 'infinity'], Env: [PATH] },
    programs: [],
    debian: ['/bin/busybox', ...DNS_TOOLS],
    fill(rootfs) {
      symlinkSync('bash', join(rootfs, 'usr/bin/sh'));
    },
  },
];

function built(paths: CachePaths, program: string): string {
  const file = join(paths.root, program);
  if (existsSync(file)) return file;
  const name = basename(program);
  throw new LabError(
    'IMAGE_BUILD',
    `the images need ${name}, which is not built`,
    `podway lab kubernetes install ${name}`,
  );
}

export const imageFile = ({ images: folder }: CachePaths, { name }: Image): string =>
  join(folder, `${name}.tar`);

/** `made` holds the recipe of every program in the cache. */
export function imageRecipe(image: Image, made: Record<string, { recipe: string }>): string {
  const { name, upstream, config, programs, debian } = image;
  const parts = [...programs, ...(upstream ? [NAMES] : [])].map((program) => made[program]?.recipe ?? 'none');
  const pause = name === 'pause' ? [readFileSync(join(packageRoot, programSources.pause), 'utf8')] : [];
  const packages = debian.length > 0 ? [DEBIAN_SUITE, ...DEBIAN_PACKAGES] : [];
  const text = JSON.stringify([FORMAT, labImage(name), upstream, config, debian, packages, parts, pause]);
  return createHash('sha256').update(text).digest('hex');
}

/** Builds one archive at `file`; `scratch` is a folder that this may fill, and finds Debian's packages in when it has. */
export async function buildImage(
  image: Image,
  file: string,
  { paths, scratch, source }: { paths: CachePaths; scratch: string; source: string },
): Promise<void> {
  const { name, config, fill } = image;
  const rootfs = join(scratch, 'rootfs');
  const debian = join(scratch, 'debian');
  emptyRootfs(rootfs);
  await fill?.(rootfs, { paths, debian, source });
  if (image.debian.length > 0) {
    await unpackDebian(debian, DEBIAN_PACKAGES);
    await copyPrograms(debian, rootfs, image.debian);
    await linkBusybox(rootfs);
  }
  const names = [labImage(name), ...(await upstreamNames(image, paths))];
  await writeArchive(file, rootfs, { names, config, scratch });
}

/** Full names of upstream's images, as `registry/path/name:tag`. */
async function upstreamNames({ upstream }: Image, paths: CachePaths): Promise<string[]> {
  if (upstream === undefined) return [];
  const { stdout } = await promisify(execFile)(built(paths, NAMES), [], { timeout: NAMES_BOUND_MS });
  const all = JSON.parse(stdout) as string[];
  const last = (name: string) => name.slice(name.lastIndexOf('/') + 1, name.lastIndexOf(':'));
  return [...new Set(all.filter((name) => last(name) === upstream))].sort();
}
