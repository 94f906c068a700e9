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
  NO_PLUGIN: {
    transient: false,
    meaning: 'The setting cniChain names a CNI plugin whose program is not on this machine.',
    next: 'Install the package containernetworking-plugins, or put the program into /opt/cni/bin.',
  },
  NOT_IN_IMAGE: {
    transient: false,
    meaning: 'The command needs parts that the image leaves out: the lab, or what only planning needs.',
    next: 'Run it on a Linux machine with the npm package or a checkout.',
  },
  NO_CLUSTER: {
    transient: false,
    meaning:
      'No Kubernetes API can be asked: the kubeconfig is missing or wrong, the API does not answer, or it does not let this user in.',
    next: 'Name a kubeconfig by --kubeconfig or KUBECONFIG, and a context of it by --context; kubectl get nodes tells whether it works.',
  },
  API_REFUSED: {
    transient: false,
    meaning: 'The Kubernetes API answered a request of the command with an error.',
    next: 'The message has its words; kubectl get with the same kubeconfig tells what is there.',
  },
  BAD_DUMP: {
    transient: false,
    meaning: 'The file named by --from is no dump, is damaged, or is of another version of the form.',
    next: 'Make one with podway sysdump; read an older one with the podway that made it.',
  },
  NOT_IN_DUMP: {
    transient: false,
    meaning:
      'The dump has no answer to this: it was not asked when the dump was made, or was left out for its size.',
    next: 'Ask the place itself, or make a dump that has it; the manifest in the archive lists what was left out.',
  },
  DUMP_NOT_WRITTEN: {
    transient: false,
    meaning: 'The file of the dump cannot be written: its folder is missing, full or read-only.',
    next: 'Name another file by --out.',
  },
  NO_AGENTS: {
    transient: false,
    meaning: 'The cluster has no DaemonSet podway-agent, or more than one.',
    next: 'Install the chart (deploy/README.md), or remove all installations but one.',
  },
  EXEC_FAILED: {
    transient: true,
    meaning:
      "The command could not be run in an agent's pod: no right to pods/exec, a node that does not answer, or its time is over.",
    next: 'kubectl exec into the same pod tells the same; kubectl auth can-i create pods/exec tells of the right.',
  },
  NO_IMAGE: {
    transient: false,
    meaning: "The agents' DaemonSet names no image that the pods of the connectivity test could run.",
    next: 'Name one by --image; it must have podway on its path.',
  },
  NOT_RUNNING: {
    transient: true,
    meaning: 'A pod of the connectivity test did not get to run in time.',
    next: 'kubectl describe tells its Events; --image names another image.',
  },
  PODS_LEFT: {
    transient: false,
    meaning: 'Pods of the connectivity test could not be removed.',
    next: 'kubectl delete pod with the label that the message names.',
  },
  INTERRUPTED: {
    transient: true,
    meaning: 'The connectivity test was ended by a signal; its pods are removed.',
    next: 'Run it again.',
  },
  BAD_SHAPE: {
    transient: false,
    meaning: 'The lab.yaml says what cannot be; the message names the line and the reason.',
    next: 'Change that line; examples/ holds a file per shape.',
  },
  BAD_DAEMONSET: {
    transient: false,
    meaning: 'The file is not the aws-node DaemonSet as YAML or JSON.',
    next: 'Give it what kubectl -n kube-system get daemonset aws-node -o yaml prints.',
  },
  PREFIX_UNSUPPORTED: {
    transient: false,
    meaning: 'The instance type takes no prefixes: they need the Nitro hypervisor or bare metal.',
    next: 'Use single addresses, or another type.',
  },
  IPAM_DIFFERENCES: {
    transient: true,
    meaning:
      'Journal, kernel, EC2 and Kubernetes do not say the same of an address; while pods come and go they may for a moment.',
    next: 'Run podway ipam check again; what stays is told with all four views. podway lab logs NODE says what the node does.',
  },
  INVALID_TRACE: {
    transient: false,
    meaning: 'The trace of pod starts and stops has a line that is not of its format, or is out of order.',
    next: 'Change the line that the message names; podway ipam trace-generate --help shows the format.',
  },
  FILE_UNREADABLE: {
    transient: false,
    meaning: 'A file that a command was told to read cannot be read.',
    next: 'Name a file that exists and that you may read.',
  },
  FILE_UNWRITABLE: {
    transient: false,
    meaning: 'The file that the command was told to write cannot be written.',
    next: 'Name a file in a directory that exists and has room.',
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
  KUBERNETES_API: {
    transient: true,
    meaning:
      'The API server of a real Kubernetes is not ready in time; the message names the process that ended, or what it says.',
    next: 'podway lab logs control-plane; podway lab up goes on when it is there.',
  },
  NODE_START: {
    transient: true,
    meaning:
      'A node of a real Kubernetes does not get as far as its kubelet; the message says at which step.',
    next: 'podway lab logs NODE --program view, containerd or kubelet.',
  },
  NODE_NOT_REGISTERED: {
    transient: true,
    meaning: 'The kubelet of the node has not joined the cluster.',
    next: 'podway lab logs NODE --program kubelet.',
  },
  IMAGE_NEEDED: {
    transient: false,
    meaning:
      "A pod of a real Kubernetes runs a program of its image; this machine's own programs are not in it.",
    next: 'kubectl run NAME --image IMAGE -- CMD with an image that the nodes have, or podway lab exec NODE -- CMD.',
  },
  PACKAGES: {
    transient: true,
    meaning: 'apt-get did not install a package that a real Kubernetes needs; the message has its last line.',
    next: 'apt-get update, then apt-get install what is named; a mirror that answers is needed once.',
  },
  KUBERNETES_MISSING: {
    transient: false,
    meaning: 'A lab with a real Kubernetes needs programs that are not here; the message names them.',
    next: 'podway lab kubernetes install builds them where Go is; --kube-bin DIR names a folder that has them. Without --kubernetes the lab needs none.',
  },
  KUBERNETES_BUILD: {
    transient: false,
    meaning: 'Go did not build a program of Kubernetes; the message has its last lines.',
    next: 'Change what they say (no space, no module proxy, an old Go), then podway lab kubernetes install again: it goes on.',
  },
  GO_MISSING: {
    transient: false,
    meaning: 'Programs of Kubernetes are built from source with Go, which is not on the search path.',
    next: "Install Go, or name a folder with a release's programs: podway lab up --kubernetes --kube-bin DIR.",
  },
  BAD_VERSION: {
    transient: false,
    meaning: 'What was given is no version of Kubernetes, such as v1.36.3.',
    next: 'Name a release, or none for the one that the package pins.',
  },
  IMAGE_BUILD: {
    transient: false,
    meaning:
      'A local image for the nodes of a lab with a real Kubernetes was not made; the message says of what it lacks.',
    next: 'Install or build what is named; podway lab kubernetes install then goes on.',
  },
  BAD_PROGRAM: {
    transient: false,
    meaning: "There is no such program among those of the lab's Kubernetes.",
    next: 'The message names those that there are.',
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
  LAB_LOST: {
    transient: true,
    meaning:
      "The lab's process ended before its answer did: another command took the lab down, or the process was killed.",
    next: 'podway lab up goes on with the lab; podway lab down removes what is left of it.',
  },
  LAB_START: {
    transient: false,
    meaning: "The lab's process could not start; the message is the last line of its log.",
    next: 'Read the log that is named, change what it says, then podway lab up again.',
  },
  PORT_TAKEN: {
    transient: false,
    meaning: "Another process listens on the port that the lab's endpoint had before.",
    next: 'End what listens there, or podway lab down, which gives up the port.',
  },
  NOT_ROOT: {
    transient: false,
    meaning: 'Network namespaces, and the labs made of them, belong to root.',
    next: 'Run the command as root.',
  },
  MACHINE: {
    transient: false,
    meaning: 'This machine lacks something that a lab cannot do without.',
    next: 'podway doctor shows the whole table.',
  },
  USAGE: {
    transient: false,
    meaning: 'The command, an argument or an option is not one that podway knows; nothing was done.',
    next: 'See --help of the command.',
  },
  UNKNOWN_CODE: {
    transient: false,
    meaning: 'No cause has this name or number.',
    next: 'podway explain NAME takes the code that stands before the sentence of a failure, or in a CAUSE column.',
  },
  BAD_LAB_NAME: {
    transient: false,
    meaning: 'A lab cannot have this name: it becomes part of the names of namespaces and files.',
    next: 'Use 1 to 20 small letters, digits and dashes.',
  },
  BAD_SETTING: {
    transient: false,
    meaning: 'There is no such setting, or not such a value of it.',
    next: 'podway lab up --help lists the settings.',
  },
  BAD_FAULT: {
    transient: false,
    meaning:
      'No such failure of EC2 or IMDS can be made: the action, its effect or a number of it is not possible.',
    next: 'podway lab fault add --help; podway lab fault list shows what there is.',
  },
  BAD_THROTTLE: {
    transient: false,
    meaning: 'The token bucket of an EC2 action cannot have this size, or there is no such action.',
    next: 'podway lab throttle --help.',
  },
  NO_SUCH_GROUP: {
    transient: false,
    meaning: 'A security group of the demo is gone.',
    next: 'Take the lab down and bring it up again.',
  },
  NO_TRUNK: {
    transient: false,
    meaning: 'No node of the lab takes branch interfaces, which the demo needs.',
    next: 'Read podway lab logs controller, and use an instance type with branches.',
  },
  NO_WEBHOOK: {
    transient: false,
    meaning: 'The API of the lab does not ask the webhook of security groups.',
    next: 'Read podway lab logs controller.',
  },
  NO_SUCH_NODE: {
    transient: false,
    meaning: 'The lab has no running node of this name.',
    next: 'podway node list.',
  },
  NO_SUCH_NAMESPACE: {
    transient: false,
    meaning: 'The lab has no Kubernetes namespace of this name.',
    next: 'kubectl create namespace NAME, or name another with --namespace.',
  },
  NO_SUCH_POD: {
    transient: false,
    meaning: 'There is no pod of this name in the namespace.',
    next: 'podway pod list shows the pods of all namespaces; --namespace chooses one.',
  },
  NO_ADDRESS_NEEDED: {
    transient: false,
    meaning: 'The pod uses the network of its node, so it has no address of its own.',
    next: 'podway node list shows the addresses of nodes.',
  },
  NO_SUCH_END: {
    transient: false,
    meaning:
      'No pod or node has the name, the two have no address of one family, or the address is a Service’s, whose pods policies judge.',
    next: 'podway pod list and podway node list show names and addresses.',
  },
  BAD_POLICY: {
    transient: false,
    meaning: 'A file has something else than policies, or a policy with a field that is wrong or not known.',
    next: 'Correct what the message names; nothing of the files was written.',
  },
  KIND_NOT_SERVED: {
    transient: false,
    meaning: 'The cluster has no definition of the kind and version of a policy in the file.',
    next: 'Apply the definition first, then the file; nothing of the file was written.',
  },
  POLICY_NOT_IN_FORCE: {
    transient: true,
    meaning: 'The agents that the message names have not put the present policies in force in time.',
    next: 'podway policy show says what each node has in force, and why not more.',
  },
  NO_SUCH_PLACE: {
    transient: false,
    meaning: 'The lab has no node, instance or part of this name.',
    next: 'podway lab status lists them; internet and vpc are there too.',
  },
  NO_READY_NODE: {
    transient: true,
    meaning: 'Packets can be proven only from nodes that are ready, and none is.',
    next: 'podway node list shows the causes.',
  },
  NO_LOG: {
    transient: true,
    meaning: 'There is no log yet: what would write it has not started.',
    next: 'podway pod list and podway lab status tell why.',
  },
  POD_EXISTS: {
    transient: false,
    meaning: 'A pod of this name is there already.',
    next: 'podway pod delete NAME, or take another name.',
  },
  POD_REFUSED: {
    transient: false,
    meaning: 'The Kubernetes API did not take the pod.',
    next: 'Change what the message names.',
  },
  POD_GONE: {
    transient: false,
    meaning: 'Somebody deleted the pod while the command waited for it.',
    next: 'podway pod list shows what is there.',
  },
  POD_FAILED: {
    transient: false,
    meaning: 'The pod ended in failure, and is not started again.',
    next: 'See podway pod logs NAME.',
  },
  POD_NOT_RUNNING: {
    transient: true,
    meaning: 'The pod has no network namespace, so nothing can run in it.',
    next: 'podway pod list tells why.',
  },
  TIMEOUT: {
    transient: true,
    meaning: 'The time that the command waits is over; what it asked for goes on.',
    next: 'podway pod list shows the cause; --timeout waits longer.',
  },
  CONNECTIVITY: {
    transient: false,
    meaning: 'A packet did not arrive, or was seen with another address than it should have.',
    next: 'The failed checks name both ends. See the rules with DescribeSecurityGroupRules, podway ipam check, and podway doctor.',
  },
  NO_ROUTE: {
    transient: false,
    meaning: "The lab's process is of another version than the command: it does not know what it is asked.",
    next: 'podway lab down, then podway lab up with this version.',
  },
  BAD_REQUEST: {
    transient: false,
    meaning: "What reached the lab's control socket is no request of podway's.",
    next: "Use the podway command of the lab's version.",
  },
  TOO_LARGE: {
    transient: false,
    meaning: "A request to the lab's process is larger than it reads.",
    next: 'Ask for less at once.',
  },
};
