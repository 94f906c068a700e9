// A lab's node in a dump: `podway sysdump --local` is run in the node's network namespace, as a cluster's is in the agent's pod,
// and the agent's log is read from the lab's folder.
import { execFile } from 'node:child_process';
import { closeSync, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import { type ErrorBody, errorBody, LabError } from '../../lab/daemon/errors.ts';
import { nodeCommand } from '../../lab/daemon/parts.ts';
import { type LabPaths, netnsPath } from '../../lab/daemon/paths.ts';
import type { NodePart } from './node-part.ts';

const MAX_OUTPUT = 64 << 20;
/** Bytes of a log's end. */
const LOG_END = 512 << 10;

export async function labNodePart(
  paths: LabPaths,
  node: string,
  timeoutMs: number,
): Promise<NodePart & { log: string }> {
  const log = tailOf(paths.node(node).agentLog);
  const path = netnsPath(paths.netns(node));
  const command = [`--net=${path}`, '--', ...nodeCommand('cli/main'), 'sysdump', '--local', '-o', 'json'];
  const env = { ...process.env, PODWAY_RUN_DIR: paths.node(node).run, NO_COLOR: '1' };
  const part = await new Promise<NodePart>((resolve) => {
    execFile(
      'nsenter',
      command,
      { env, timeout: timeoutMs, maxBuffer: MAX_OUTPUT },
      (error, stdout, stderr) => {
        try {
          const told = JSON.parse(stdout) as NodePart;
          if (told.files) return resolve(told);
        } catch {
          // Told below.
        }
        const why = error?.message.split('\n')[0] ?? stderr.trim();
        resolve({ node: null, files: {}, error: failed(node, why) });
      },
    );
  });
  return { ...part, log };
}

const failed = (node: string, why: string): ErrorBody =>
  errorBody(new LabError('AGENT_UNREACHABLE', `${node} cannot be asked: ${why}`, `podway lab logs ${node}`));

/** The end of a file; empty where there is none. */
export function tailOf(file: string): string {
  if (!existsSync(file)) return '';
  const fd = openSync(file, 'r');
  try {
    const { size } = fstatSync(fd);
    const bytes = Buffer.alloc(Math.min(size, LOG_END));
    const read = readSync(fd, bytes, 0, bytes.length, size - bytes.length);
    return bytes.toString('utf8', 0, read);
  } finally {
    closeSync(fd);
  }
}
