// The agents of a cluster's dump, in the place of the cluster: what they would answer to the command that is run in their pods.
import type { Pod } from '../../kube/index.ts';
import { LabError } from '../../lab/daemon/errors.ts';
import type { Fleet } from '../cluster/agents.ts';
import { localPlace } from '../cluster/place.ts';
import type { Dump } from './dump.ts';

type Node = { node: string };

export function fleetOf(dump: Dump): Fleet<Node> {
  const nodes = dump.manifest.nodes.map(({ name }): Node => ({ node: name }));
  return {
    namespace: 'NAMESPACE',
    async agents(node) {
      const found = node === undefined ? nodes : nodes.filter((one) => one.node === node);
      if (found.length > 0) return found;
      const where = node === undefined ? 'no node' : `node ${node}`;
      throw new LabError('NO_SUCH_NODE', `${where} has an agent's pod`, 'podway status shows the nodes');
    },
    async ask<T>({ node }: Node, args: string[]): Promise<T> {
      const error = dump.manifest.nodes.find(({ name }) => name === node)?.error;
      if (error) throw new LabError(error.code, error.message, error.next);
      return (await answerOf(dump, node, args)) as T;
    },
    async pod(namespace, name) {
      const { items } = dump.answer<{ items: Pod[] }>('api/pods.v1.json');
      const found = items.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name);
      if (found) return found;
      throw new Error(`pods "${name}" not found`);
    },
    close: () => {},
  };
}

/** As `podway ARGS --local -o json` prints it. */
async function answerOf(dump: Dump, node: string, args: string[]): Promise<unknown> {
  const place = await localPlace(dump, node);
  switch (args.slice(0, 2).join(' ')) {
    case 'ipam show':
      return (await place.ipam()).values;
    case 'ipam check':
      return place.check();
    case 'ipam explain':
      return place.explain(args[2], 'default');
    case 'status':
      return (await place.nodes()).values;
    case 'doctor':
      return { checks: (await place.doctor()).values };
    case 'policy show': {
      const query = args[2] === undefined ? '' : `?pod=${encodeURIComponent(args[2])}`;
      return [(await dump.agent(node, `/v1/policy${query}`)) ?? { node, policies: 0 }];
    }
  }
  throw dump.lacks(`answer of ${node} to podway ${args.join(' ')}`);
}
