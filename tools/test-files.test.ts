import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { type FileRun, longestFirst, runAgain } from './test-files.ts';

const ran = (file: string, ok: boolean, seconds = 1): FileRun => ({
  ...{ file, ok, seconds, passed: 1, failed: ok ? 0 : 1, skipped: 0, wrote: '' },
});

test('what fails of the tests of whole labs alone is run again, when it is little', () => {
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((name) => ran(`test/e2e/${name}.test.ts`, false));
  const fine = ran('test/e2e/fine.test.ts', true);
  assert.deepEqual(runAgain([fine]), []);
  assert.deepEqual(runAgain([a!, fine, b!]), ['test/e2e/a.test.ts', 'test/e2e/b.test.ts']);
  for (const file of [
    'src/cli/lab.root.test.ts',
    'test/integration/x.test.ts',
    'test/kubernetes/smoke.test.ts',
  ])
    assert.deepEqual(runAgain([ran(file, false)]), [file]);
  assert.deepEqual(runAgain([a!, b!, c!, d!]), [], 'too many for chance');
  assert.deepEqual(runAgain([ran('src/x.test.ts', false)]), [], 'a unit test has no excuse');
  assert.deepEqual(runAgain([a!, ran('test/soak/x.test.ts', false)]), [], 'the run has failed anyhow');
  assert.deepEqual(runAgain([ran('test/e2e/long.test.ts', false, 300)]), [], 'no time for it');
});

test('the longest come first, and the others keep their order', () => {
  assert.deepEqual(longestFirst(['a', 'b', 'c', 'd'], ['d', 'gone', 'b']), ['d', 'b', 'a', 'c']);
});

test('each file has its counts and what it wrote, also one that ends before its tests do', () => {
  const dir = mkdtempSync(join(tmpdir(), 'podway-files-'));
  const files = {
    'good.test.ts': "test('one', () => {}); test('two', { skip: true }, () => {});",
    'bad.test.ts': "console.log('said'); test('one', () => {}); test('two', () => assert.ok(false));",
    'ends.test.ts': "test('one', () => process.exit(3));",
  };
  const head = "import assert from 'node:assert'; import { test } from 'node:test';\n";
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), head + text);
    const script = `import { runFiles } from ${JSON.stringify(join(import.meta.dirname, 'test-files.ts'))};
      const options = { root: ${JSON.stringify(dir)}, atOnce: 2, flags: [], full: false };
      const runs = await runFiles(${JSON.stringify(Object.keys(files))}, options);
      console.log('\\n=' + JSON.stringify(runs));`;
    const { NODE_TEST_CONTEXT: _, ...env } = process.env;
    const main = join(dir, 'main.ts');
    writeFileSync(main, script);
    const shown = execFileSync(process.execPath, [main], { encoding: 'utf8', env });
    const runs = JSON.parse(shown.slice(shown.lastIndexOf('\n=') + 2)) as FileRun[];
    const of = (name: string) => {
      const { file: _file, seconds: _seconds, ...rest } = runs.find(({ file }) => file === name)!;
      return rest;
    };
    assert.deepEqual(of('good.test.ts'), { ok: true, passed: 1, failed: 0, skipped: 1, wrote: '' });
    assert.deepEqual(of('bad.test.ts'), { ok: false, passed: 1, failed: 1, skipped: 0, wrote: 'said\n' });
    assert.deepEqual(of('ends.test.ts'), { ok: false, passed: 0, failed: 1, skipped: 0, wrote: '' });
    assert.match(shown, /Failed tests/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
