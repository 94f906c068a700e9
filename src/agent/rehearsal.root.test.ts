// The rehearsal on a real socket and namespace: it plays the whole way, and leaves the node as it was.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Log } from '../base/log.ts';
import { FakeCloud } from '../cloud/testing.ts';
import { needsRoot } from '../datapath/testing.ts';
import { createAnonymousNetns, type Netns, withNetns } from '../kernel/netns.ts';
import type { Load } from './parts.ts';
import { Rehearsal } from './rehearsal.ts';

type Line = { text: string; rounds?: number; error?: string };

async function withRehearsal(
  test: (rehearsal: Rehearsal, said: Line[], node: Netns, dir: string) => Promise<void>,
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), 'podway-rehearsal-'));
  using node = createAnonymousNetns();
  const said: Line[] = [];
  const debug = (fields: object, text: string) => void said.push({ ...fields, text });
  const unexpected = (_fields: object, text: string) => assert.fail(text);
  const log: Log = { debug, info: unexpected, warn: unexpected, error: unexpected };
  try {
    const rehearsal = await Rehearsal.open(dir, node, new FakeCloud(), log);
    assert.ok(rehearsal, JSON.stringify(said));
    await test(rehearsal, said, node, dir);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const seen = (node: Netns): string =>
  withNetns(node, () =>
    [
      ['ip', ['-d', 'link']],
      ['ip', ['route', 'show', 'table', 'all']],
      ['ip', ['rule']],
      ['nft', ['list', 'ruleset']],
    ]
      .map(([program, args]) => execFileSync(program as string, args as string[], { encoding: 'utf8' }))
      .join(),
  );
const never = new AbortController().signal;

describe('rehearsal', needsRoot, () => {
  it('plays every round on an idle node, changes nothing there and leaves nothing', () =>
    withRehearsal(async (rehearsal, said, node, dir) => {
      const before = seen(node);
      assert.equal(await rehearsal.play(2), true, JSON.stringify(said));
      assert.equal(seen(node), before);
      assert.deepEqual(readdirSync(dir), ['scratch']);
      await rehearsal.finish({ adds: 0, requests: 0 }, never);
      assert.deepEqual(said, [{ rounds: 30, text: 'rehearsed' }]);
      assert.equal(seen(node), before);
      assert.deepEqual(readdirSync(dir), []);
    }));

  it('plays nothing while an ADD is under way, and goes on when requests have stopped', () =>
    withRehearsal(async (rehearsal, said) => {
      const played: number[] = [];
      const load: Pick<Load, 'adds' | 'requests'> = {
        requests: 1,
        get adds() {
          // The second and the third look meet an ADD.
          played.push(rehearsal.rounds);
          return played.length === 2 || played.length === 3 ? 1 : 0;
        },
      };
      await rehearsal.finish(load, never);
      assert.deepEqual(played.slice(0, 5), [0, 1, 1, 1, 2]);
      assert.deepEqual(said, [{ rounds: 29, text: 'rehearsed' }], 'real requests count as rounds');
    }));

  it('ends at once with the agent', () =>
    withRehearsal(async (rehearsal, said, _node, dir) => {
      const stop = new AbortController();
      const finished = rehearsal.finish({ adds: 1, requests: 0 }, stop.signal);
      stop.abort(new Error('the agent stops'));
      await finished;
      rehearsal.close();
      assert.deepEqual(said, [{ rounds: 0, text: 'rehearsed' }]);
      assert.deepEqual(readdirSync(dir), []);
    }));

  it('is left out where its socket cannot be, which is said at debug', () =>
    withRehearsal(async (rehearsal, said, node) => {
      rehearsal.close();
      const log = { debug: (fields: object, text: string) => void said.push({ ...fields, text }) } as Log;
      assert.equal(await Rehearsal.open('/nowhere', node, new FakeCloud(), log), null);
      assert.match(said[0]?.error ?? '', /ENOENT|EACCES/);
    }));
});
