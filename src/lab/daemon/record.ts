// lab.json: what a lab was asked to be and which loopback ports it keeps. Written before the first thing is made, so
// that an interrupted `lab up` and a `lab down` of a half lab know what to go on with.
import type { Shape } from '../shape/shape.ts';
import { readJson, writeJson } from './files.ts';

export type LabRecord = {
  version: 1;
  name: string;
  shape: Shape;
  ports: { ec2: number; kube: number };
  createdAt: number;
};

export const readRecord = (file: string): LabRecord | undefined => {
  const record = readJson<LabRecord>(file);
  return record?.version === 1 && record.shape !== undefined && record.ports !== undefined
    ? record
    : undefined;
};

export const writeRecord = (file: string, record: LabRecord): void => writeJson(file, record);
