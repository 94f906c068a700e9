// The runtime side of CNI, what libcni is to Go: load a list, run a verb through it, keep its result.
export {
  type CachedAttachment,
  type CniArgs,
  cachedAttachments,
  DEFAULT_CACHE_DIR,
  readCache,
} from './cache.ts';
export { findPlugin } from './exec.ts';
export { ListError, loadNetworkList, type NetworkList, type PluginConf, parseNetworkList } from './list.ts';
export {
  type Added,
  addNetworkList,
  checkNetworkList,
  delNetworkList,
  gcNetworkList,
  type RuntimeCall,
  type RuntimeOptions,
  statusNetworkList,
  type ValidAttachment,
  validateNetworkList,
  versionOf,
} from './verbs.ts';
