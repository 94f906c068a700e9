// A machine of a test's own: namespaces of mounts, network, processes and IPC, with empty /run, /tmp, /dev/shm and home,
// and with layers over /etc and /var that keep what is written there apart.
// What a lab leaves on it is then exactly what a census finds, whoever else uses the real one; labs of others are not
// there to be seen. Its first process ends with the test, and the kernel ends all the others with it.
import { type ChildProcess, spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { eventually } from '../support/wait.ts';
import { type Env, execute, PODWAY, type Ran, told } from './command.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const HOME = '/tmp/home';
const LAYERS = '/tmp/layers';
const SYSCTLS = `${LAYERS}/sysctls`;
const layer = (folder: string): string =>
  `mkdir -p ${LAYERS}/${folder}/up ${LAYERS}/${folder}/work && mount -t overlay overlay /${folder} ` +
  `-o lowerdir=/${folder},upperdir=${LAYERS}/${folder}/up,workdir=${LAYERS}/${folder}/work`;
/** Until nothing more can be unmounted: one may lie on another. */
const WITHOUT_OTHERS = `
  while :; do
    again=
    for found in $(awk '$5 ~ "^/((run|dev/shm)(/|$)|(tmp|etc|var)/)" && index("${ROOT}/", $5 "/") != 1 { print $5 }' /proc/self/mountinfo); do
      umount --lazy --recursive "$found" 2>/dev/null && again=1
    done
    [ "$again" ] || break
  done`;
const SETUP = [
  // Copies of what others have mounted where this machine has its own: such a mount goes when its folder is removed
  // outside. On /run/netns are two where two processes made their first namespaces at once.
  WITHOUT_OTHERS,
  'mount -t tmpfs tmpfs /run',
  // A checkout under /tmp stays where it is.
  `mount --bind ${ROOT} /mnt`,
  'mount -t tmpfs tmpfs /tmp',
  `mkdir -p ${ROOT} && mount --bind /mnt ${ROOT} && umount /mnt`,
  'mount -t tmpfs tmpfs /dev/shm',
  `mkdir ${HOME}`,
  layer('etc'),
  layer('var'),
  // What every `ip netns` leaves: its folder, a mount of its own.
  'ip netns add first && ip netns del first',
  'ip link set lo up',
  // What the namespace may write is its own; what it may only read is the machine's, but for this one, which is all
  // namespaces' (net/netfilter/nf_hooks_lwtunnel.c). Listed once: with a module of the kernel's come keys in every
  // namespace.
  `find /proc/sys/net -type f -perm -600 ! -name nf_hooks_lwtunnel >${SYSCTLS}`,
  'echo ready',
  // Ends when the test does: its standard input is the test's pipe.
  'cat >/dev/null',
].join(' && ');

/** Where a census looks: what is asked, and the command whose lines are the answer. */
const PLACES: Record<string, string> = {
  namespaces: 'ip netns list; ls -1 /run/netns 2>/dev/null || true',
  links: 'ip -o link | sed "s/ qlen .*//"; ip -o address',
  rules: 'ip rule; ip -6 rule',
  routes: 'ip route show table all; ip -6 route show table all',
  nft: 'nft list ruleset',
  // No pipe: what reads from `ps` would be among the processes in most runs.
  processes: `ps -eo args= >${LAYERS}/ps; grep -vE "ps -eo|sh -c" ${LAYERS}/ps; true`,
  // Sockets between virtual machines (v_) have no namespace.
  sockets: 'ss -Hanp exclude time-wait | grep -v "ss\\"," | grep -vE "^(nl|v_)" | sed "s/  */ /g"; true',
  files: `find /run /tmp /dev/shm -mindepth 1 | grep -vE "^(/tmp/(layers|home/.cache/podway/compile)|${ROOT})/"; true`,
  'files elsewhere': `find ${LAYERS}/*/up -mindepth 1`,
  mounts: "awk '{print $4, $5, $9}' /proc/self/mountinfo",
  sysctls: `xargs grep -sH "" <${SYSCTLS}; true`,
};

export type Census = Record<string, string[]>;

/** Of a failure's text. */
const MOST_LINES = 40;

/** As often as `from` has it more than `other`. */
function beyond(from: readonly string[], other: readonly string[]): string[] {
  const rest = [...other];
  return from.filter((line) => {
    const at = rest.indexOf(line);
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
}

const differences = (then: Census, now: Census): string[] =>
  Object.keys(PLACES).flatMap((place) => [
    ...beyond(now[place]!, then[place]!).map((line) => `+ ${place}: ${line}`),
    ...beyond(then[place]!, now[place]!).map((line) => `- ${place}: ${line}`),
  ]);

export class Machine {
  readonly #first: ChildProcess;
  #pid = 0;

  private constructor(first: ChildProcess) {
    this.#first = first;
  }

  static async start(): Promise<Machine> {
    const first = spawn(
      'unshare',
      ['--mount', '--net', '--ipc', '--pid', '--fork', '--mount-proc', 'sh', '-c', SETUP],
      { stdio: ['pipe', 'pipe', 'pipe'] },
    );
    const machine = new Machine(first);
    try {
      await new Promise<void>((resolve, reject) => {
        first.stdout.once('data', () => resolve());
        first.once('exit', (code) => reject(new Error(`no machine of its own: exit ${code}`)));
        first.once('error', reject);
      });
      const { stdout } = await execute(['ps', '-o', 'pid=', '--ppid', String(first.pid)]);
      machine.#pid = Number(stdout.trim());
      if (!machine.#pid) throw new Error('the machine has no first process');
      // The compile cache of the home folder is there from now on.
      await machine.ok('version');
    } catch (error) {
      await machine.stop();
      throw error;
    }
    return machine;
  }

  /** Its file system, as this machine reaches it. */
  get root(): string {
    return `/proc/${this.#pid}/root`;
  }

  /** Every process in it ends, and with them its namespaces. */
  async stop(): Promise<void> {
    this.#first.stdin?.end();
    if (this.#pid) {
      try {
        process.kill(this.#pid, 'SIGKILL');
      } catch {
        // It ended with its input.
      }
    }
    await eventually(
      'the machine ends',
      () => this.#first.exitCode !== null || this.#first.signalCode !== null,
    );
  }

  /** A command on it, with a home of its own; the end is a value as everywhere. */
  run(command: string[], env: Env = {}, boundMs?: number): Promise<Ran> {
    return execute(this.#enter(command), { HOME, XDG_CACHE_HOME: undefined, ...env }, boundMs);
  }

  async shell(script: string): Promise<string> {
    const ran = await this.run(['sh', '-c', script]);
    if (ran.code !== 0) throw new Error(told([script], ran));
    return ran.stdout;
  }

  podway(...args: string[]): Promise<Ran> {
    return this.run([PODWAY, ...args]);
  }

  async ok(...args: string[]): Promise<string> {
    const ran = await this.podway(...args);
    if (ran.code !== 0) throw new Error(told(args, ran));
    return ran.stdout;
  }

  async json<T>(...args: string[]): Promise<T> {
    return JSON.parse(await this.ok(...args, '-o', 'json')) as T;
  }

  async write(file: string, text: string): Promise<void> {
    await this.shell(`cat >${file} <<'END'\n${text}\nEND`);
  }

  /**
   * Resolves when all is as it was then: a process that got its signal may not have ended yet. Throws naming what came
   * (+) and what went (-).
   */
  async isAgain(then: Census): Promise<void> {
    await eventually('the machine is as it was', async () => {
      const lines = differences(then, await this.census());
      if (lines.length > 0) throw new Error(`\n${lines.slice(0, MOST_LINES).join('\n')}`);
      return true;
    });
  }

  /** All that a lab could leave, by place, sorted. */
  async census(): Promise<Census> {
    const found: Census = {};
    for (const [place, script] of Object.entries(PLACES)) {
      const text = await this.shell(script);
      found[place] = text
        .split('\n')
        .filter((line) => line !== '')
        .sort();
    }
    return found;
  }

  #enter(command: string[]): string[] {
    return ['nsenter', `--target=${this.#pid}`, '--mount', '--net', '--ipc', '--pid', '--', ...command];
  }
}
