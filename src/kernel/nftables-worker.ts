// The thread that runs libnftables. It enters the namespace of each request before it touches the library, which opens
// sockets (also anew, after an interrupted read) and resolves link names in the thread's namespace, and which takes
// milliseconds beside large foreign rulesets. One context per open Nft; only this thread uses them.
// Messages in: NftRequest; out: NftReply, in the order of the requests.
import { parentPort } from 'node:worker_threads';
import { errnoName } from './errors.ts';
import { lastErrno, libc } from './ffi.ts';
import { NftContext, type NftResult } from './libnftables.ts';
import { CLONE_NEWNET } from './netns.ts';

export type NftRequest =
  | { id: number; kind: 'run'; fd: number; context: number; script: string; json: boolean }
  | { id: number; kind: 'forget'; context: number };

export type NftReply = NftResult & { id: number };

const contexts = new Map<number, NftContext>();

function serve(request: NftRequest): NftResult {
  if (request.kind === 'forget') {
    contexts.get(request.context)?.free();
    contexts.delete(request.context);
    return { ok: true, output: '', error: '' };
  }
  if (libc().setns(request.fd, CLONE_NEWNET) !== 0) {
    throw new Error(`cannot enter the namespace: ${errnoName(lastErrno())}`);
  }
  let context = contexts.get(request.context);
  if (context === undefined) {
    context = new NftContext();
    contexts.set(request.context, context);
  }
  return context.run(request.script, request.json);
}

parentPort?.on('message', (request: NftRequest) => {
  let result: NftResult;
  try {
    result = serve(request);
  } catch (error) {
    result = { ok: false, output: '', error: error instanceof Error ? error.message : String(error) };
  }
  parentPort?.postMessage({ ...result, id: request.id } satisfies NftReply);
});
