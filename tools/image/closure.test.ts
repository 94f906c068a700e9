import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { closureOf } from './closure.ts';

test('what starts with a module comes along; what it loads later only when it is ours', () => {
  const files: Record<string, string> = {
    'src/cli/main.js': `import { a } from '../lab/errors.js';\nconst { up } = await import('../lab/up.js');\nawait import('./later.js');`,
    'src/cli/later.js': `export * from '../base/b.js';\nimport 'node:fs';`,
    'src/base/b.js': '',
    'src/lab/errors.js': `import { x } from './deep.js';`,
    'src/lab/deep.js': `await import('./deeper.js')`,
    'src/lab/up.js': '',
    'src/lab/deeper.js': '',
  };
  const ours = (file: string) => !file.startsWith('src/lab/');
  assert.deepEqual(
    closureOf(['src/cli/main.js'], (file) => files[file]!, ours),
    ['src/base/b.js', 'src/cli/later.js', 'src/cli/main.js', 'src/lab/deep.js', 'src/lab/errors.js'],
  );
});

test('what an image has starts without the lab’s cluster and network', () => {
  const root = join(import.meta.dirname, '../..');
  const code = (file: string) =>
    readFileSync(join(root, file), 'utf8').replace(/^(im|ex)port type [^;]*;/gm, '');
  const isOfCluster = (file: string) => !/^src\/(lab|planner)\//.test(file);
  const sources = globSync('src/**/*.ts', {
    cwd: root,
    exclude: ['**/*.test.ts', '**/testing*', '**/testkit.ts'],
  });
  const kept = closureOf(sources.filter(isOfCluster), code, isOfCluster);
  const lab = /^src\/lab\/(daemon\/(main|lab)|kubernetes\/cluster|fabric\/apply|cluster)\b/;
  assert.deepEqual(
    kept.filter((file) => lab.test(file)),
    [],
  );
});
