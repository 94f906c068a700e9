// The words of the CNI contract as types: an attachment, a result in the shape of 1.1.0, what a config asks for.
// Addresses stay text here, as in the JSON they come from and go to; whoever computes with them parses them.
import type { Mac } from '../base/mac.ts';
import type { CniVersion } from './versions.ts';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** What ADD makes and DEL removes; the network's name, the sandbox and the interface in it are its key. */
export type Attachment = { readonly network: string; readonly containerId: string; readonly ifname: string };

export type Interface = {
  name: string;
  mac?: string;
  /** Bytes. */
  mtu?: number;
  /** Path of the namespace, exactly as CNI_NETNS had it; absent for an interface of the host. */
  sandbox?: string;
  socketPath?: string;
  pciID?: string;
};

export type IpConfig = {
  /** Host address with prefix length, not masked. */
  address: string;
  gateway?: string;
  /** Index into `interfaces`. */
  interface?: number;
};

export type Route = {
  /** A masked prefix. */
  dst: string;
  gw?: string;
  mtu?: number;
  advmss?: number;
  priority?: number;
  table?: number;
  scope?: number;
};

export type Dns = { nameservers?: string[]; domain?: string; search?: string[]; options?: string[] };

/** In the shape of 1.1.0; `renderResult` writes it in any version. */
export type Result = { interfaces: Interface[]; ips: IpConfig[]; routes: Route[]; dns: Dns };

/** What the caller asks for beyond an address, after the order of precedence: CNI_ARGS, then args.cni, then runtimeConfig. */
export type Wishes = {
  mac?: Mac;
  /** Addresses, with or without a prefix length. */
  ips?: string[];
  /** Bytes; of the config. */
  mtu?: number;
  dns: Dns;
  /** Of the config, added to the default route. */
  routes: Route[];
  defaultRoute: boolean;
};

export type NetConf = {
  cniVersion: CniVersion;
  name: string;
  type: string;
  wishes: Wishes;
  /** Null when there is none; on DEL also when it cannot be read. */
  prevResult: Result | null;
  /** The config as it came, unknown keys included. */
  raw: JsonObject;
};

/** The pod that CNI_ARGS names; absent outside Kubernetes. */
export type PodName = { namespace: string; name: string; uid?: string; infraContainerId?: string };

type OfAttachment = { containerId: string; ifname: string; conf: NetConf; pod: PodName | null };

export type CniRequest =
  | ({ verb: 'ADD'; netns: string } & OfAttachment)
  /** `netns` is null when the runtime gave none: the sandbox is gone. */
  | ({ verb: 'DEL'; netns: string | null } & OfAttachment)
  | ({ verb: 'CHECK'; netns: string; prevResult: Result } & OfAttachment)
  | { verb: 'GC'; conf: NetConf; valid: Attachment[] }
  | { verb: 'STATUS'; conf: NetConf }
  | { verb: 'VERSION'; cniVersion: string };
