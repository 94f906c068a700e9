// One program of ours on a hook of a link: read, set, taken away. By tcx (Linux 6.6 on), else by clsact; which of them is
// found once, by asking. A program that is attached stays when its process ends, and goes with its link: nothing is
// pinned, no map is used. Others' programs on the hook are not touched; ours runs after those that were there.
import type { Netns } from '../netns.ts';
import { clsactAttach, clsactDetach, clsactPrograms } from './clsact.ts';
import { isOurProgram, type Program } from './programs.ts';
import { type Hook, type LoadedProgram, loadProgram, tcxAttach, tcxDetach, tcxPrograms } from './syscall.ts';

export type Way = 'tcx' | 'clsact';

let found: Way | undefined;

/** How this kernel attaches programs; any link's index will do. */
export function hookWay(ns: Netns, index: number): Way {
  found ??= tcxPrograms(ns, index, 'ingress') === null ? 'clsact' : 'tcx';
  return found;
}

/** Names of our programs on the hook; one, unless somebody doubled it. */
export function programsOn(ns: Netns, index: number, hook: Hook, way = hookWay(ns, index)): string[] {
  if (way === 'clsact') return clsactPrograms(ns, index, hook).filter(isOurProgram);
  return withPrograms(ns, index, hook, (ours) => ours.map((one) => one.name));
}

/**
 * Makes `program` the one program of ours on the hook; null takes ours away. In place of another of ours it comes in one
 * step, so that no frame passes without. What is so already costs one question.
 */
export function setProgram(
  ns: Netns,
  index: number,
  hook: Hook,
  program: Program | null,
  way = hookWay(ns, index),
): void {
  if (way === 'clsact') {
    const names = clsactPrograms(ns, index, hook);
    if (program === null) {
      if (names.length > 0) clsactDetach(ns, index, hook);
    } else if (names.length !== 1 || names[0] !== program.name) {
      using loaded = loadProgram(program);
      clsactAttach(ns, index, hook, loaded);
    }
    return;
  }
  withPrograms(ns, index, hook, (ours) => {
    const right = ours.find((one) => one.name === program?.name);
    const [old] = ours;
    if (program !== null && right === undefined) {
      using loaded = loadProgram(program);
      tcxAttach(ns, index, hook, loaded, old);
    }
    const kept = right ?? (program === null ? undefined : old);
    for (const one of ours) if (one !== kept) tcxDetach(ns, index, hook, one);
  });
}

function withPrograms<T>(ns: Netns, index: number, hook: Hook, use: (ours: LoadedProgram[]) => T): T {
  const all = tcxPrograms(ns, index, hook) ?? [];
  try {
    return use(all.filter((one) => isOurProgram(one.name)));
  } finally {
    for (const one of all) one[Symbol.dispose]();
  }
}
