// lab.json: what a lab was asked to be and which loopback ports it keeps. Written before the first thing is made, so
// that an interrupted `lab up` and a `lab down` of a half lab know what to go on with.
// Version 2 names namespaces `podway_LAB_PLACE`; version 1 had `podway-LAB-PLACE`, which two labs could both mean.
import type { Shape } from '../shape/shape.ts';
import { readJson, writeJson } from './files.ts';

export const VERSION = 2;

export type LabRecord = {
  version: typeof VERSION;
  name: string;
  shape: Shape;
  ports: { ec2: number; kube: number };
  createdAt: number;
  /** All of the shape was there and ready once. */
  whole?: true;
};

export const readRecord = (file: string): LabRecord | undefined => {
  const record = readJson<LabRecord>(file);
  return record?.version === VERSION && record.shape !== undefined && record.ports !== undefined
    ? record
    : undefined;
};

/** Made by an earlier version, whose names this one does not give: only `lab down` knows it. */
export const isEarlier = (file: string): boolean => readJson<{ version: number }>(file)?.version === 1;

export const writeRecord = (file: string, record: LabRecord): void => writeJson(file, record);
