// podway version
import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import type { Command } from 'commander';
import { packageRoot } from '../../lab/daemon/parts.ts';
import { act, command, withOutput } from '../command.ts';
import { type OutputOptions, print, printJson } from '../output.ts';

export function versionCommand(): Command {
  return withOutput(command('version', 'what runs here', ['podway version -o json'])).action(
    act(async (options: OutputOptions) => {
      const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
        version: string;
      };
      const value = { podway: version, node: process.versions.node, kernel: release(), arch: process.arch };
      if (options.output === 'json') printJson(value);
      else print(`podway ${value.podway}, Node ${value.node}, Linux ${value.kernel} ${value.arch}`);
    }),
  );
}
