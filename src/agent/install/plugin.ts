// Where the package has its compiled plugin.
import { join, resolve } from 'node:path';

/** Above src/agent/install in a checkout, above dist/src/agent/install in the package. */
const ROOT = import.meta.filename.endsWith('.js') ? '../../../..' : '../../..';

export const packagedPlugin = (): string => join(resolve(import.meta.dirname, ROOT), 'build', 'podway-cni');
