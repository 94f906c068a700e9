// The CustomResourceDefinitions of deploy/crds, which every lab's API has from its start. One that a lab of an older
// version kept gets the present spec; what others changed of it is not kept.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { parse } from 'yaml';
import { eniConfigs } from '../../kube/networks.ts';
import { type Resource, resource } from '../../kube/resources.ts';
import type { KubeObject } from '../../kube/types.ts';
import { securityGroupPolicies } from '../../kube/vpc-resources.ts';
import { packageRoot } from '../daemon/parts.ts';
import type { Store } from './api/index.ts';

type Definition = KubeObject & { spec: { versions: unknown } };
const definitions = resource<Definition>(
  'apiextensions.k8s.io/v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
  'Cluster',
);

export function installDefinitions(store: Store): void {
  const dir = join(packageRoot, 'deploy', 'crds');
  for (const file of readdirSync(dir).filter((name) => name.endsWith('.yaml'))) {
    const wanted = parse(readFileSync(join(dir, file), 'utf8')) as Definition;
    const known = store.find(definitions, wanted.metadata.name!) as Definition | null;
    if (!known) store.create(definitions, wanted);
    else if (!isDeepStrictEqual(known.spec.versions, wanted.spec.versions))
      store.update(definitions, { ...known, spec: { ...known.spec, versions: wanted.spec.versions } });
  }
}

/** Those that are there stay as they are. */
export function putObjects(store: Store, objects: readonly KubeObject[]): void {
  for (const object of objects) {
    const kind: Resource = [eniConfigs, securityGroupPolicies].find((one) => one.kind === object.kind)!;
    const { name = '', namespace } = object.metadata;
    if (!store.find(kind, name, namespace)) store.create(kind, object);
  }
}
