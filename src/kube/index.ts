// The thin Kubernetes client: configuration, requests, watches, Events, and the types of what Podway reads.
// The agent loads this instead of @kubernetes/client-node, whose memory it cannot afford.
// Must import nothing above base. Entry: loadKubeConfig, KubeClient, EventRecorder.
export { type DeleteQuery, KubeClient, type ListQuery, type PatchType, type WatchQuery } from './client.ts';
export {
  type ExecUser,
  inClusterConfig,
  type KubeConfig,
  KubeConfigError,
  loadKubeConfig,
  readKubeConfig,
} from './config.ts';
export { isConflict, isExpired, isNotFound, KubeError } from './errors.ts';
export { type FollowOptions, follow, followEach, keyOf, type Sink } from './follow.ts';
export * from './networks.ts';
export * from './podway-node.ts';
export { EventRecorder, type RecorderOptions } from './recorder.ts';
export * from './resources.ts';
export * from './selectors.ts';
export type * from './types.ts';
export * from './vpc-resources.ts';
