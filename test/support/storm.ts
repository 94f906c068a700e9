// What every storm begins with: a lab of two nodes with pods that nobody touches ("keepers"), TCP streams between them
// that must go on whatever is killed, and the hooks that bring all of it up and take it away.
import { after, afterEach, before, type TestContext } from 'node:test';
import { TestLab } from './lab.ts';
import { Streams } from './streams.ts';

/** PODWAY_SOAK=1: the whole storm; without it the few rounds that `npm test` has time for. */
export const full = process.env['PODWAY_SOAK'] === '1';
export const skip = process.getuid?.() === 0 ? false : 'needs root for network namespaces';
export const NODES = ['node-1', 'node-2'];
/** The keepers' addresses per node. */
export const KEEPERS: Readonly<Record<string, number>> = { 'node-1': 2, 'node-2': 1 };
/** As the README promises: idle addresses and ENIs are back with EC2 within this. */
export const BACK_WITHIN_MS = 180_000;

/** Registers the file's hooks. Cooldown is 0 s, so that addresses are used again at once. */
export function storm(name: string, idleRelease: string): { lab: TestLab; streams: Streams } {
  const lab = new TestLab(name, { set: ['cooldown=0s', `idleRelease=${idleRelease}`, 'warm=5'] });
  const streams = new Streams();
  before(async () => {
    if (skip) return;
    await lab.up();
    const [a, b, c] = await Promise.all([
      lab.run('keep-a', 'node-1'),
      lab.run('keep-b', 'node-1'),
      lab.run('keep-c', 'node-2'),
    ]);
    await streams.open(a.netnsPath, [`${b.ips[0]}:8080`, `${c.ips[0]}:8080`, '203.0.113.10:8080']);
    await streams.open(c.netnsPath, [`${a.ips[0]}:8080`]);
  });
  afterEach((t) => {
    if (!skip && !(t as TestContext).passed) console.error(lab.lastWords());
  });
  after(async () => {
    streams.close();
    if (!skip) await lab.down();
  });
  return { lab, streams };
}
