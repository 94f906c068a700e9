// The built-in server of instances that serve, and of the internet host: one supervised process for each, in its
// namespace, from one boot to the next.
import { join } from 'node:path';
import { privateDir } from '../../daemon/files.ts';
import { type LabPaths, netnsPath } from '../../daemon/paths.ts';
import { Supervisor } from './supervisor.ts';

/** `life`: of its instance (see lifeOf); empty for the internet host, which is there as long as the lab. */
type Server = { life: string; name: string; supervisor: Supervisor };

export class Servers {
  readonly #paths: LabPaths;
  readonly #podServer: string;
  readonly #servers = new Map<string, Server>();

  constructor(paths: LabPaths, podServer: string) {
    this.#paths = paths;
    this.#podServer = podServer;
  }

  /** `port`: what SERVE_TAG says; a number, or the server's own. */
  serve(name: string, life: string, port = ''): void {
    if (this.#servers.has(name)) return;
    const dir = this.#paths.instance(name);
    privateDir(dir);
    const supervisor = new Supervisor({
      netnsPath: netnsPath(this.#paths.netns(name)),
      command: [this.#podServer, '--name', name, ...(Number(port) > 0 ? ['--port', port] : [])],
      pidFile: join(dir, 'server.pid'),
      logFile: join(dir, 'log'),
    });
    this.#servers.set(name, { life, name, supervisor });
    supervisor.start();
  }

  /** `lives`: of the instances that are on, by name. */
  async leave(lives: ReadonlyMap<string, string>): Promise<void> {
    const silent = [...this.#servers.values()].filter(
      ({ life, name }) => life !== '' && lives.get(name) !== life,
    );
    await Promise.all(
      silent.map(async (server) => {
        this.#servers.delete(server.name);
        await server.supervisor.stop();
      }),
    );
  }

  detach(): void {
    for (const { supervisor } of this.#servers.values()) supervisor.detach();
  }
}
