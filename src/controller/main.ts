// The controller's process: reads its configuration, runs until SIGTERM or SIGINT; exit code 2 for a wrong configuration,
// and one line for a failure to start.
import { runProcess } from '../base/process.ts';
import { runController } from './controller.ts';
import { controllerHelp, readControllerOptions } from './options.ts';

const args = process.argv.slice(2);
if (args.includes('--help') || args.includes('-h')) {
  console.log(controllerHelp());
  process.exit(0);
}
await runProcess(() => readControllerOptions(args, process.env), runController);
