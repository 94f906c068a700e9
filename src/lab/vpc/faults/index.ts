// EC2 and IMDS as they are on a bad day; see README.md.
export type { Rate } from './bucket.ts';
export type { CallReport, LoggedCall } from './call-log.ts';
export { AnswerLost, type FaultSettings, Faults } from './faults.ts';
export { type ImdsLag, type ImdsView, noLag } from './imds-lag.ts';
export { drawLatencies } from './latency.ts';
export { checkFault, type FaultEffect, FaultRefused, type FaultRequest, type FaultView } from './rules.ts';
export { EVERY } from './throttle.ts';
