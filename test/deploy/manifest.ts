// deploy/podway.yaml as objects, and what the agent of the chart is.
import { readFileSync } from 'node:fs';
import { parseAllDocuments } from 'yaml';
import { manifest } from '../../tools/chart.ts';

export type Rule = { apiGroups: string[]; resources: string[]; verbs: string[] };
export type Container = {
  name: string;
  image: string;
  args?: string[];
  env: { name: string; value?: string; valueFrom?: unknown }[];
  securityContext: Record<string, unknown> & { capabilities: { drop: string[]; add: string[] } };
  volumeMounts: { name: string; mountPath: string; mountPropagation?: string; readOnly?: boolean }[];
  ports: { name: string; containerPort: number }[];
} & Record<string, unknown>;
export type PodSpec = Record<string, unknown> & {
  containers: Container[];
  volumes: { name: string; hostPath: { path: string } }[];
};
export type Manifest = {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  rules?: Rule[];
  subjects?: unknown[];
  spec?: {
    updateStrategy: unknown;
    selector: { matchLabels: Record<string, string> };
    template: { metadata: { labels: Record<string, string> }; spec: PodSpec };
  };
};

export const parsed = (text: string): Manifest[] =>
  parseAllDocuments(text)
    .map((document) => document.toJS() as Manifest | null)
    .filter((object) => object !== null);

export const manifests = (): Manifest[] => parsed(readFileSync(manifest, 'utf8'));

export function one(objects: Manifest[], kind: string, name = 'podway-agent'): Manifest {
  const found = objects.filter((object) => object.kind === kind && object.metadata.name === name);
  if (found.length !== 1) throw new Error(`${found.length} objects ${kind} ${name}`);
  return found[0]!;
}

/** `get pods/status`, with the group of a resource that is not core: `list eniconfigs.crd.k8s.amazonaws.com`. */
export const rights = (rules: Rule[]): string[] =>
  rules
    .flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) => verbs.map((verb) => right(verb, group, resource))),
      ),
    )
    .sort();

export const right = (verb: string, group: string, resource: string): string =>
  `${verb} ${resource}${group === '' ? '' : `.${group}`}`;
