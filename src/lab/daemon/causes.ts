// The causes that only a lab has, beside the network's own (base/causes.ts): what the CAUSE columns of `pod list` and
// `node list` show of the scheduler, of instances and of a pod's command, and what commands on a lab fail with.
// `podway explain` reads both tables.

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
  SHAPE_DIFFERS: {
    transient: false,
    meaning:
      'The lab is up with other VPCs, instances or settings than lab up was asked for; it changes none of them.',
    next: 'podway lab down first, or name another lab with --lab. Without flags lab up goes on with the lab as it is.',
  },
  BAD_SHAPE: {
    transient: false,
    meaning: 'The lab.yaml says what cannot be; the message names the line and the reason.',
    next: 'Change that line; examples/ holds a file per shape.',
  },
  IPAM_DIFFERENCES: {
    transient: true,
    meaning:
      'Journal, kernel, EC2 and Kubernetes do not say the same of an address; while pods come and go they may for a moment.',
    next: 'Run podway ipam check again; what stays is told with all four views. podway lab logs NODE says what the node does.',
  },
  LAB_NOT_UP: {
    transient: false,
    meaning:
      'No process answers for the lab: it was never started, or its process was ended. Nodes and pods of it may still run.',
    next: 'podway lab up goes on with it; podway lab down removes what is left of it.',
  },
  LAB_EARLIER: {
    transient: false,
    meaning: 'The lab was made by an earlier version, which gave other names to what it made.',
    next: 'podway lab down, then podway lab up.',
  },
  LAB_PACKAGES: {
    transient: false,
    meaning: 'This installation is an agent alone: npm packages that the lab needs were left out.',
    next: 'Install podway without --omit=peer.',
  },
  LAB_BUSY: {
    transient: true,
    meaning: 'Another command holds the lab, and did not let go of it in time.',
    next: 'Try again in a moment.',
  },
  INSTANCE_PENDING: {
    transient: true,
    meaning: 'An instance did not come to run in the time that lab up waits.',
    next: 'See podway lab status and podway lab logs vpc; podway lab up waits again.',
  },
  OUTPUT_LOST: {
    transient: false,
    meaning:
      'Standard output is closed, or what it leads to is full; what the command was asked for may be done all the same.',
    next: 'Write to a pipe or to a file that has room.',
  },
};
