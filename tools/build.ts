// npm run build: the JavaScript that the package ships, in dist/src (Node strips no types under node_modules).
// Tests are left out. With it goes dist/data, what is made from packages that are not installed with this one. The C sources ship as they are and are compiled at first use.
import { spawnSync } from 'node:child_process';
import { globSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensureKubeModels } from './kube-models.ts';

const root = join(import.meta.dirname, '..');
const config = join(root, 'build', 'tsconfig.build.json');
rmSync(join(root, 'dist'), { recursive: true, force: true });
const { mkdirSync } = await import('node:fs');
mkdirSync(join(root, 'build'), { recursive: true });
writeFileSync(
  config,
  JSON.stringify({
    extends: '../tsconfig.json',
    compilerOptions: { noEmit: false, rootDir: '..', outDir: '../dist' },
    include: ['../src'],
    exclude: [
      '../src/**/*.test.ts',
      '../src/**/testing*.ts',
      '../src/**/testkit.ts',
      '../src/**/testing',
      '../src/**/testdata',
    ],
  }),
);
const { status } = spawnSync(
  process.execPath,
  [join(root, 'node_modules/typescript/bin/tsc'), '-p', config],
  {
    cwd: root,
    stdio: 'inherit',
  },
);
if (status === 0) ensureKubeModels(join(root, 'dist', 'data'));
if (status === 0) console.log(`build: ${globSync('dist/**/*.js', { cwd: root }).length} files in dist`);
process.exitCode = status ?? 1;
