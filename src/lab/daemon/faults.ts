// `lab fault`, `lab throttle` and `lab calls` on the control socket. A fault that cannot be is BAD_FAULT, exit 2.
import { hasMeaning } from '../vpc/actions/index.ts';
import { EVERY, FaultRefused, type FaultRequest, type FaultView } from '../vpc/index.ts';
import { LabError } from './errors.ts';
import type { Route } from './http.ts';
import type { OpenLab } from './lab.ts';
import type { CallsView, ThrottleRequest, ThrottleView } from './protocol.ts';
import { living } from './view.ts';

const MAX_SIZE = 1_000_000;

export function faultRoutes(ready: () => Promise<OpenLab>): Route[] {
  return [
    {
      method: 'POST',
      pattern: '/v1/faults',
      answer: async (call) => add(await ready(), call.body as FaultRequest),
    },
    { method: 'GET', pattern: '/v1/faults', answer: async () => (await ready()).vpc.faults.list() },
    {
      method: 'POST',
      pattern: '/v1/faults/clear',
      answer: async (call) => {
        const { vpc } = await ready();
        return refusing(() => vpc.faults.clear((call.body as { id?: string }).id), 'podway lab fault list');
      },
    },
    { method: 'GET', pattern: '/v1/throttle', answer: async () => throttleView(await ready()) },
    {
      method: 'POST',
      pattern: '/v1/throttle',
      answer: async (call) => throttle(await ready(), call.body as ThrottleRequest),
    },
    {
      method: 'GET',
      pattern: '/v1/calls',
      answer: async (call) => calls(await ready(), call.query.get('sinceMs')),
    },
  ];
}

function refusing<T>(work: () => T, next: string): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof FaultRefused) throw new LabError('BAD_FAULT', error.message, next, { exit: 2 });
    throw error;
  }
}

function add({ vpc }: OpenLab, asked: FaultRequest): FaultView {
  const { node } = asked;
  if (node !== undefined && !living(vpc.state()).some(({ instance }) => instance.name === node))
    throw new LabError('NO_SUCH_NODE', `there is no instance ${node}`, 'podway lab status', { exit: 2 });
  return refusing(() => vpc.faults.add(asked), 'podway lab fault add --help');
}

function throttle(lab: OpenLab, { action = EVERY, size, reset }: ThrottleRequest): ThrottleView {
  const { faults } = lab.vpc;
  const bad = (text: string) => new LabError('BAD_THROTTLE', text, 'podway lab throttle --help', { exit: 2 });
  if (action !== EVERY && !hasMeaning(action)) throw bad(`action "${action}" is no action of this EC2`);
  if (reset) {
    if (action === EVERY) faults.clearSizes();
    else faults.setSize(action, undefined);
  } else if (size) {
    const { perSecond, burst } = size;
    if (!(perSecond >= 0 && perSecond <= MAX_SIZE))
      throw bad(`rate is ${perSecond}, not from 0 to ${MAX_SIZE} a second`);
    if (!(burst >= 1 && burst <= MAX_SIZE)) throw bad(`burst is ${burst}, not from 1 to ${MAX_SIZE}`);
    faults.setSize(action, size);
  }
  return throttleView(lab);
}

const throttleView = ({ vpc }: OpenLab): ThrottleView => ({
  setting: vpc.settings.ec2Throttle,
  sizes: [...vpc.faults.sizes].map(([action, size]) => ({ action, ...size })),
});

function calls({ vpc }: OpenLab, since: string | null): CallsView {
  const { from, ...report } = vpc.faults.report(since === null ? undefined : Date.now() - Number(since));
  return {
    from: new Date(from).toISOString(),
    ...report,
    calls: report.calls.map((call) => ({ ...call, at: new Date(call.at).toISOString() })),
  };
}
