// The controller's process: reads its configuration, runs until SIGTERM or SIGINT; exit code 2 for a wrong configuration,
// and one line for a failure to start.
import { asPodwayError } from '../base/errors.ts';
import { runController } from './controller.ts';
import { controllerHelp, readControllerOptions } from './options.ts';

const args = process.argv.slice(2);
if (args.includes('--help') || args.includes('-h')) {
  console.log(controllerHelp());
  process.exit(0);
}
const stop = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const)
  process.once(signal, () => stop.abort(new Error(signal)));
let isRead = false;
try {
  const config = readControllerOptions(args, process.env);
  isRead = true;
  await runController(config, stop.signal);
  process.exit(0);
} catch (thrown) {
  const error = asPodwayError(thrown);
  console.error(`podway: ${error.code}: ${error.message} (${error.details.next})`);
  if (error.code === 'INTERNAL') console.error(error.stack, error.cause ?? '');
  process.exit(isRead ? 1 : 2);
}
