// What a compiler takes over from the one before it is what it would have made itself.
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { compile, programOf } from './compile.ts';
import { Compiler } from './compiler.ts';
import { type PodView, type Policy, podKey } from './model.ts';
import { Numbers } from './numbers.ts';
import type { Program } from './program.ts';
import { Renderer } from './render.ts';
import { namespaces, pods, policies } from './testing.ts';

const sorted = <V>(map: ReadonlyMap<unknown, V>) =>
  [...map].sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));

const textOf = ({ classes, identities, from, to, peers }: Program) => ({
  classes: sorted(classes),
  identities: sorted(identities).map(([key, { selectors, named }]) => [key, [...selectors].sort(), named]),
  addresses: [from, to, peers].map(sorted),
});

describe('a compiler that follows another', () => {
  it('makes what one makes anew, and renders it so', () => {
    const step = fc.record({
      /** Which of the policies and which version of the pods count. */
      policies: fc.uniqueArray(fc.nat(11), { maxLength: 12 }),
      pods: fc.nat(1),
      others: fc.boolean(),
      /** A pod that came between two changes. */
      late: fc.option(fc.nat(7)),
    });
    fc.assert(
      fc.property(
        fc.tuple(policies, policies),
        fc.tuple(pods, pods),
        fc.array(step, { minLength: 2, maxLength: 8 }),
        ([some, more], versions, steps) => {
          const all: Policy[] = [...some, ...more.map((one) => ({ ...one, object: `${one.object} again` }))];
          const other = new Map([...namespaces].map(([name]) => [name, { ns: 'x' }]));
          const numbers = new Numbers();
          const renderer = new Renderer(numbers);
          let before: Compiler | null = null;
          for (const { policies: places, pods: version, others, late } of steps) {
            const chosen = places.flatMap((at) => (all[at] ? [all[at]] : []));
            const its = versions[version]!;
            const world = { node: 'here', held: new Map(), namespaces: others ? other : namespaces };
            const compiler = new Compiler(
              { policies: chosen, namespaces: world.namespaces, mode: 'enforce' },
              before,
            );
            const byKey = new Map(its.map((pod): [string, PodView] => [podKey(pod), pod]));
            const program = programOf({ ...world, pods: byKey }, compiler);
            const anew = compile({ ...world, policies: chosen, pods: its });
            assert.deepEqual(textOf(program), textOf(anew));
            const table = renderer.render(program);
            const fresh = new Renderer(numbers).render(program);
            for (const part of ['chains', 'statics', 'verdicts', 'maps'] as const)
              assert.deepEqual(sorted<unknown>(table[part]), sorted<unknown>(fresh[part]), part);
            if (late !== null) {
              const pod = versions[1 - version]![late]!;
              compiler.classesOf(pod);
              compiler.identityOf(pod);
            }
            before = compiler;
          }
        },
      ),
      { numRuns: Number(process.env['PODWAY_RUNS'] ?? 300) },
    );
  });
});
