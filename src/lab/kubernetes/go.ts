// Runs the go command: at low priority, bounded, ended with its children when the caller gives up. Fails with GO_MISSING
// or KUBERNETES_BUILD, which has the last lines that go wrote.
import { spawn } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { LabError } from '../daemon/errors.ts';

/** The end-to-end tests take a quarter of an hour on two busy cores with nothing cached. */
const BUILD_BOUND_MS = 3_600_000;
/** Others on the machine go first. */
const NICE = ['nice', '-n', '10'];
const LAST_LINES = 6;
const KEPT_CHARACTERS = 64_000;

export class Go {
  readonly version: string;
  #program: string;
  #signal: AbortSignal | undefined;

  private constructor(program: string, version: string, signal: AbortSignal | undefined) {
    this.#program = program;
    this.version = version;
    this.#signal = signal;
  }

  static async find(
    signal?: AbortSignal,
    path: string = `${process.env['PATH'] ?? ''}${delimiter}/usr/local/go/bin`,
  ): Promise<Go> {
    const program = path
      .split(delimiter)
      .filter((dir) => dir !== '')
      .map((dir) => join(dir, 'go'))
      .find(isProgram);
    if (program === undefined) {
      throw new LabError(
        'GO_MISSING',
        'Kubernetes is built from source with Go, and there is no go on the search path',
        "install Go from https://go.dev/dl; or unpack a release's kubernetes-server archive and name its folder: podway lab up --kubernetes --kube-bin DIR",
      );
    }
    const { stdout } = await new Go(program, '', signal).run(['env', 'GOVERSION'], '/');
    return new Go(program, stdout.trim(), signal);
  }

  run(args: string[], cwd: string, env: NodeJS.ProcessEnv = {}): Promise<{ stdout: string }> {
    return new Promise((resolve, reject) => {
      // A go that is ended leaves what it compiled, hundreds of megabytes.
      const temporary = mkdtempSync(join(tmpdir(), 'podway-go-'));
      // A process group of its own: the compilers that go started end with it.
      const child = spawn(NICE[0]!, [...NICE.slice(1), this.#program, ...args], {
        cwd,
        env: { ...process.env, GOFLAGS: '', GOWORK: 'off', CGO_ENABLED: '0', GOTMPDIR: temporary, ...env },
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let stdout = '';
      let stderr = '';
      let why = '';
      const stop = (reason: string) => {
        why = reason;
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      };
      const interrupted = () => stop('it was interrupted');
      this.#signal?.addEventListener('abort', interrupted, { once: true });
      const bound = setTimeout(
        () => stop(`it took longer than ${BUILD_BOUND_MS / 60_000} minutes`),
        BUILD_BOUND_MS,
      );
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        stderr = (stderr + text).slice(-KEPT_CHARACTERS);
      });
      const settled = () => {
        clearTimeout(bound);
        this.#signal?.removeEventListener('abort', interrupted);
        rmSync(temporary, { recursive: true, force: true, maxRetries: 5 });
      };
      child.on('error', (error) => {
        settled();
        reject(buildError(args, error.message));
      });
      child.on('close', (code) => {
        settled();
        if (code === 0 && why === '') resolve({ stdout });
        else reject(buildError(args, why || lastLines(stderr) || `exit ${code}`));
      });
      if (this.#signal?.aborted) interrupted();
    });
  }
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const lastLines = (text: string): string =>
  text
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('go: downloading '))
    .slice(-LAST_LINES)
    .join(' | ');

const buildError = (args: string[], why: string): LabError =>
  new LabError(
    'KUBERNETES_BUILD',
    `go ${args[0]} ${args.at(-1)} failed: ${why}`,
    'podway lab kubernetes install goes on with what is not built yet',
  );
