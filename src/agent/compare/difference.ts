// The types of a comparison's inputs and answers.
import { formatIp, type Ip } from '../../base/ip.ts';
import type { Cloud } from '../../cloud/port.ts';
import type { Datapath } from '../../datapath/datapath.ts';
import type { AddressPool } from '../../ipam/pool.ts';
import type { ApiServer } from '../api-server.ts';
import type { AgentConfig } from '../config.ts';

export type Difference = {
  kind:
    | 'address'
    | 'attachment'
    | 'link'
    | 'eni'
    | 'pod'
    | 'trunk'
    /** A pod's branch: as one of the other three views has it, or has it not. */
    | 'branch-kernel'
    | 'branch-cloud'
    | 'branch-api'
    /** Of no pod: on the trunk, or a link of the node. */
    | 'branch-loose'
    | 'branch-stray';
  object: string;
  journal: string | null;
  kernel: string | null;
  cloud: string | null;
  api: string | null;
};
export type Comparison = { ok: boolean; differences: Difference[] };

export type CompareOptions = {
  config: Pick<AgentConfig, 'cluster'>;
  api: Pick<ApiServer, 'isConfigured' | 'pods'>;
  pool: AddressPool;
  cloud: Cloud;
  datapath: Datapath;
};

/** What no view says. */
export const none = { journal: null, kernel: null, cloud: null, api: null };
export const texts = (ips: readonly Ip[]) => ips.map(formatIp).join(',');
