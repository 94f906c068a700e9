// How a node's agent is started: whoever starts one (the lab, the image, a benchmark) gives Node these flags.

/**
 * A small young generation is collected before it grows (the default lets 5,000 ADDs and DELs take the process from 100 to
 * 170 MB), 64 MB of old generation are five times what 200 pods need, and one V8 helper thread is enough on a node.
 * The saver mode grows the heap in small steps and compacts it: 4 MB. Without the baseline compiler (--no-sparkplug) it
 * would be 2 MB less, and a tenth fewer ADDs a second.
 */
export const AGENT_NODE_FLAGS = [
  '--max-semi-space-size=1',
  '--max-old-space-size=64',
  '--v8-pool-size=1',
  '--memory-saver-mode',
] as const;
