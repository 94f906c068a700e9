// The NAT64 of NAT gateways: one supervised process (native/nat64.c) in the namespace of each that carries packets in a
// VPC with IPv6. It outlives the daemon, like pods' servers; where no gateway needs it, it is not even compiled.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Supervisor } from '../cluster/nodes/supervisor.ts';
import { ipv6CidrsOf } from '../vpc/ipv6.ts';
import type { VpcState } from '../vpc/model.ts';
import { privateDir } from './files.ts';
import { type LabPaths, netnsPath } from './paths.ts';

export class Translators {
  readonly #paths: LabPaths;
  readonly #program: () => Promise<string>;
  readonly #running = new Map<string, Supervisor>();

  constructor(paths: LabPaths, program: () => Promise<string>) {
    this.#paths = paths;
    this.#program = program;
  }

  /** Ends those of gateways that go, while their namespaces are there. */
  async leave(state: VpcState): Promise<void> {
    const wanted = new Set(translating(state));
    const folder = this.#folder();
    const left = existsSync(folder) ? readdirSync(folder) : [];
    await Promise.all(
      left
        .filter((id) => !wanted.has(id))
        .map(async (id) => {
          await (this.#running.get(id) ?? this.#supervisor(id, '')).stop();
          this.#running.delete(id);
          rmSync(join(folder, id), { recursive: true, force: true });
        }),
    );
  }

  /** Starts what is missing, once the fabric has the namespaces; `hasNetns`: of that place. */
  async settle(state: VpcState, hasNetns: (where: string) => boolean): Promise<void> {
    for (const id of translating(state)) {
      if (this.#running.has(id) || !hasNetns(id)) continue;
      const supervisor = this.#supervisor(id, await this.#program());
      privateDir(this.#folder());
      privateDir(join(this.#folder(), id));
      this.#running.set(id, supervisor);
      supervisor.start();
    }
  }

  detach(): void {
    for (const supervisor of this.#running.values()) supervisor.detach();
  }

  #folder(): string {
    return join(this.#paths.root, 'nat');
  }

  #supervisor(id: string, program: string): Supervisor {
    const dir = join(this.#folder(), id);
    return new Supervisor({
      netnsPath: netnsPath(this.#paths.netns(id)),
      command: [program],
      pidFile: join(dir, 'nat64.pid'),
      logFile: join(dir, 'log'),
    });
  }
}

const translating = (state: VpcState): string[] =>
  Object.values(state.natGateways)
    .filter((one) => one.state === 'available' && ipv6CidrsOf(state.vpcs[one.vpcId]).length > 0)
    .map((one) => one.id);
