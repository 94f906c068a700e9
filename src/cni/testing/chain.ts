// For tests: a directory of plugins that are shell scripts. Each notes its environment and stdin, then does what the
// test wrote for it: its answers stand in files named after the verb.
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadNetworkList, type NetworkList, type RuntimeCall } from '../runtime/index.ts';
import type { JsonObject } from '../types.ts';

export type Note = { plugin: string; verb: string; env: Record<string, string>; conf: JsonObject };

export class Chain implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'pwt-cni-chain-'));
  readonly confDir = join(this.dir, 'net.d');
  readonly binDir = join(this.dir, 'bin');
  readonly cacheDir = join(this.dir, 'cache');

  constructor() {
    for (const dir of [this.confDir, this.binDir, join(this.dir, 'notes')]) mkdirSync(dir);
    writeFileSync(this.#log, '');
  }

  get #log(): string {
    return join(this.dir, 'log');
  }

  /** A plugin that runs `script` for its verbs; without one it prints what `answers` has for the verb. */
  plugin(name: string, answers: Record<string, string | object> = {}, script = ''): this {
    const notes = join(this.dir, 'notes');
    for (const [verb, answer] of Object.entries(answers)) {
      writeFileSync(
        join(notes, `${name}.${verb}`),
        typeof answer === 'string' ? answer : JSON.stringify(answer),
      );
    }
    const file = join(this.binDir, name);
    writeFileSync(
      file,
      `#!/bin/sh
n="${notes}/${name}.$CNI_COMMAND.$$"
cat > "$n.conf"
env | grep '^CNI_' > "$n.env"
echo "${name} $CNI_COMMAND $n" >> "${this.#log}"
${script}
[ -f "${notes}/${name}.$CNI_COMMAND" ] && cat "${notes}/${name}.$CNI_COMMAND"
[ -f "${notes}/${name}.$CNI_COMMAND.fails" ] && exit 1
exit 0
`,
    );
    chmodSync(file, 0o755);
    return this;
  }

  /** From now on the plugin fails that verb with this error. */
  fails(name: string, verb: string, error: object): this {
    writeFileSync(join(this.dir, 'notes', `${name}.${verb}`), JSON.stringify(error));
    writeFileSync(join(this.dir, 'notes', `${name}.${verb}.fails`), '');
    return this;
  }

  works(name: string, verb: string): this {
    rmSync(join(this.dir, 'notes', `${name}.${verb}`), { force: true });
    rmSync(join(this.dir, 'notes', `${name}.${verb}.fails`), { force: true });
    return this;
  }

  list(conf: object, file = '10-net.conflist'): NetworkList {
    this.file(file, conf);
    return loadNetworkList(join(this.confDir, file));
  }

  file(name: string, conf: object | string): string {
    const path = join(this.confDir, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, typeof conf === 'string' ? conf : JSON.stringify(conf));
    return path;
  }

  call(more: Partial<RuntimeCall> = {}): RuntimeCall {
    return {
      containerId: 'abc',
      netns: '/run/netns/x',
      ifname: 'eth0',
      binDirs: [this.binDir],
      cacheDir: this.cacheDir,
      timeoutMs: 10_000,
      ...more,
    };
  }

  /** What was called since the last look, as "plugin VERB". */
  calls(): string[] {
    return this.notes().map(({ plugin, verb }) => `${plugin} ${verb}`);
  }

  notes(): Note[] {
    const lines = readFileSync(this.#log, 'utf8').split('\n').filter(Boolean);
    writeFileSync(this.#log, '');
    return lines.map((line) => {
      const [plugin = '', verb = '', path = ''] = line.split(' ');
      const pairs = readFileSync(`${path}.env`, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)] as const);
      const text = readFileSync(`${path}.conf`, 'utf8');
      return {
        plugin,
        verb,
        env: Object.fromEntries(pairs),
        conf: (text ? JSON.parse(text) : {}) as JsonObject,
      };
    });
  }

  cached(name = 'net-abc-eth0'): string {
    return join(this.cacheDir, 'results', name);
  }

  isCached(name?: string): boolean {
    return existsSync(this.cached(name));
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}
