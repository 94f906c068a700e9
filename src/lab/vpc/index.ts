// The VPC in a box: EC2 Query API and instance metadata over one stored state. Entry: openVpc.
// Imports base alone; knows nothing of namespaces, nodes or pods. What it owns on disk: vpc.sqlite and keys.json.
export type { ActionName, Answer, Input } from './actions/types.ts';
export { availableAddresses } from './addresses.ts';
export { type Caller, type Latencies, noLatency, realisticLatency } from './context.ts';
export { Ec2Error } from './errors.ts';
export {
  type CallReport,
  EVERY,
  FaultRefused,
  type FaultRequest,
  type FaultView,
  type ImdsLag,
  type Rate,
} from './faults/index.ts';
export type { ImdsCaller } from './imds.ts';
export type { Keys } from './keys.ts';
export {
  defaultSettings,
  type InstanceChange,
  openVpc,
  type VpcOptions,
  type VpcService,
  type VpcSettings,
} from './service.ts';
