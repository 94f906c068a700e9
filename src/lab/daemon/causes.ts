// The causes that only a lab has, beside the network's own (base/causes.ts): what the CAUSE columns of `pod list` and
// `node list` show of the scheduler, of instances and of a pod's command. `podway explain` reads both tables.

export type LabCauseRow = {
  /** True when the cause passes by itself, or with the node. */
  readonly transient: boolean;
  readonly meaning: string;
  readonly next: string;
};

export const labCauses: Readonly<Record<string, LabCauseRow>> = {
  UNSCHEDULABLE: {
    transient: true,
    meaning: 'No node takes the pod: none is ready, or all hold the pods of their instance type.',
    next: 'See podway node list; delete pods, or bring up a lab with more or larger nodes.',
  },
  NODE_STOPPED: {
    transient: false,
    meaning: 'The instance of the node is stopped.',
    next: 'Start it (StartInstances); the pods that wait for the node then run.',
  },
  NODE_NOT_READY: {
    transient: true,
    meaning: 'The node has not said yet that its network serves pods.',
    next: 'Wait; podway lab logs NODE tells how far its agent is.',
  },
  EXITED: {
    transient: false,
    meaning: 'The command of the pod ended with the exit code named, and is not started again.',
    next: 'See podway pod logs NAME.',
  },
  CRASH_LOOP: {
    transient: true,
    meaning: 'The command of the pod ends again and again, and is started anew after a pause.',
    next: 'See podway pod logs NAME.',
  },
};
