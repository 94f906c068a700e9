// Damages by others to node-1 of a lab, each a test: the agent puts it right at once, and pods reach each other again.
import { test } from 'node:test';
import { eventually } from '../support/wait.ts';
import { skip } from './command.ts';
import type { Lab } from './lab.ts';

/** Below the 30 s after which everything is compared anyhow, and enough for a busy machine. */
export const AT_ONCE_MS = 20_000;

/** Shell commands on the node: what damages it, and what succeeds once that is right again. */
export type Damage = [what: string, command: string, isRight: string];

export function testDamages(lab: Lab, damages: readonly Damage[], reach: () => Promise<void>): void {
  for (const [what, command, isRight] of damages) {
    test(`put right at once: ${what}`, { skip }, async () => {
      await lab.ok('lab', 'exec', 'node-1', '--', 'sh', '-c', command);
      await eventually(
        'it is right',
        async () => (await lab.podway('lab', 'exec', 'node-1', '--', 'sh', '-c', isRight)).code === 0,
        AT_ONCE_MS,
      );
      await reach();
    });
  }
}
