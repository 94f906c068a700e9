// What runs for a container here. Images are not pulled: a command runs as it is, in the machine's file system; without
// one the lab's built-in server runs. Whoever creates a pod is told so (api/warnings.ts), whoever starts it asks here.
import type { Container } from '../../kube/types.ts';

/** Images that say what runs: nobody needs to be told that they are not pulled. */
export const BUILT_IN_IMAGE = 'podway.lab/pod-server:1';
export const COMMAND_IMAGE = 'podway/command';

/**
 * The command of a container; empty for the built-in server. Arguments alone are a command too, as `kubectl run -- CMD`
 * writes them, unless the first is an option: that was meant for the entrypoint of an image that is not here.
 */
export function commandOf({ command = [], args = [] }: Pick<Container, 'command' | 'args'>): string[] {
  if (command.length === 0 && args[0]?.startsWith('-')) return [];
  return [...command, ...args];
}
