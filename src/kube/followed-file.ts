// A small file that somebody else renews, as the kubelet does with a pod's token and certificates. It is looked at no
// more than once in LOOK_MS; while it cannot be read, what was read last counts.
import { readFileSync, statSync } from 'node:fs';

/** The kubelet renews a token long before it ends; the files of a pod change together, by one renamed link. */
const LOOK_MS = 10_000;

export class FollowedFile {
  readonly #path: string;
  readonly #now: () => number;
  #known: { text: string; stamp: string } | null = null;
  #looked = Number.NEGATIVE_INFINITY;
  /** Changed since `hasChanged` was last asked. */
  #isNews = false;

  constructor(path: string, now: () => number = () => performance.now()) {
    this.#path = path;
    this.#now = now;
  }

  /** The text without white space around it. Throws what reading throws, when it was never read. */
  read(): string {
    this.#look();
    return this.#known!.text;
  }

  hasChanged(): boolean {
    this.#look();
    const isNews = this.#isNews;
    this.#isNews = false;
    return isNews;
  }

  #look(): void {
    if (this.#known && this.#now() - this.#looked < LOOK_MS) return;
    try {
      const { mtimeMs, ino, size } = statSync(this.#path);
      const stamp = `${mtimeMs} ${ino} ${size}`;
      if (this.#known?.stamp !== stamp) {
        const text = readFileSync(this.#path, 'utf8').trim();
        if (text === '') throw new Error(`${this.#path} is empty`);
        this.#isNews ||= this.#known !== null && this.#known.text !== text;
        this.#known = { text, stamp };
      }
    } catch (error) {
      if (!this.#known) throw error;
    }
    this.#looked = this.#now();
  }
}
