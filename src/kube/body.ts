// The bodies of answers, read within bounds: whole, or line by line as a watch sends them.
// Fails with KubeError when a body breaks off or passes its bound, with the signal's reason when aborted.
import type { IncomingMessage } from 'node:http';
import { KubeError } from './errors.ts';

/** A list of 5,000 pods is about 20 MB; more than this in one answer is refused. */
const MAX_ANSWER = 64 * 1024 * 1024;
/** One line of a watch: an object is at most 3 MiB at the server, and its JSON may escape. */
const MAX_LINE = 16 * 1024 * 1024;

export async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MAX_ANSWER)
        throw new KubeError(0, 'TooLarge', `an answer of the API is larger than ${MAX_ANSWER} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof KubeError) throw error;
    throw new KubeError(
      0,
      'Unreachable',
      `the answer of the API broke off: ${(error as Error).message}`,
      undefined,
      { cause: error },
    );
  }
  return Buffer.concat(chunks).toString('utf8');
}

export async function* linesOf(response: IncomingMessage, signal?: AbortSignal): AsyncGenerator<string> {
  let rest: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of response as AsyncIterable<Buffer>) {
      let from = 0;
      for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
        const part = chunk.subarray(from, at);
        from = at + 1;
        const line = rest.length === 0 ? part : Buffer.concat([...rest, part]);
        rest = [];
        size = 0;
        if (line.length > 0) yield line.toString('utf8');
      }
      if (from < chunk.length) {
        rest.push(chunk.subarray(from));
        size += chunk.length - from;
        if (size > MAX_LINE)
          throw new KubeError(0, 'TooLarge', `a watch event is larger than ${MAX_LINE} bytes`);
      }
    }
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    if (error instanceof KubeError) throw error;
    throw new KubeError(0, 'Unreachable', `the watch broke off: ${(error as Error).message}`, undefined, {
      cause: error,
    });
  } finally {
    response.destroy();
  }
}
