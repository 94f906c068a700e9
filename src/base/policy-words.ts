// The words by which network policy is set: in settings, NodeNetworks, labels of namespaces, and labs.

/** enforce: what policies deny is dropped. audit: it is counted and told, and passes. off: nothing is judged. */
export const POLICY_MODES = ['enforce', 'audit', 'off'] as const;
export type PolicyMode = (typeof POLICY_MODES)[number];

/** Of a pod whose policies are not in force in time. fail: it does not start. isolate: it reaches its node alone. */
export const POLICY_TIMEOUTS = ['fail', 'isolate'] as const;
export type PolicyTimeout = (typeof POLICY_TIMEOUTS)[number];

/** Which new connections are told beside being counted: none, those that are denied or audited, or allowed ones too. */
export const FLOW_LOGS = ['off', 'denied', 'all'] as const;
export type FlowLog = (typeof FLOW_LOGS)[number];

export type PolicySettings = {
  readonly policy: PolicyMode;
  readonly policyTimeout: PolicyTimeout;
  readonly flowLog: FlowLog;
};
