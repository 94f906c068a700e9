// Policies in files, as `policy apply` and `policy diff` take them: YAML or JSON, several documents, Lists. Each is read as
// the agents read it: what they would refuse is refused here, before anything is written. Fails with LabError.
import { readFileSync } from 'node:fs';
import type { KubeClient, KubeObject, Resource } from '../kube/index.ts';
import { clusterNetworkPolicies, networkPolicies } from '../kube/resources.ts';
import { LabError } from '../lab/daemon/errors.ts';
import { decodeNetworkPolicy } from '../policy/decode.ts';
import { decodeClusterNetworkPolicy } from '../policy/decode-cluster.ts';
import type { Policy } from '../policy/model.ts';

export type PolicyDocument = {
  readonly object: KubeObject;
  readonly resource: Resource;
  /** Null: of the cluster. */
  readonly namespace: string | null;
  readonly name: string;
  readonly policy: Policy;
};

const bad = (message: string): LabError =>
  new LabError('BAD_POLICY', message, 'podway policy apply --help; docs/policy.md says what is enforced', {
    exit: 2,
  });

type Raw = { apiVersion?: unknown; kind?: unknown; items?: unknown; metadata?: KubeObject['metadata'] };

export async function readPolicies(files: readonly string[], namespace: string): Promise<PolicyDocument[]> {
  const { parseAllDocuments } = await import('yaml');
  const found: PolicyDocument[] = [];
  const known = new Set<string>();
  for (const file of files) {
    let text: string;
    try {
      text = readFileSync(file === '-' ? 0 : file, 'utf8');
    } catch (error) {
      throw bad(`${file} cannot be read: ${(error as Error).message}`);
    }
    const documents = parseAllDocuments(text);
    if (!Array.isArray(documents)) continue;
    for (const [at, document] of documents.entries()) {
      const [first] = document.errors;
      if (first) throw bad(`${file}: ${first.message.split('\n')[0]}`);
      const value = readValue(document, file);
      if (value === null || value === undefined) continue;
      const all = value.kind === 'List' && Array.isArray(value.items) ? (value.items as Raw[]) : [value];
      for (const one of all) {
        const read = readOne(one, `${file}, document ${at + 1}`, namespace);
        const { object } = read.policy;
        if (known.has(object)) throw bad(`${file}, document ${at + 1}: ${object} is there twice`);
        known.add(object);
        found.push(read);
      }
    }
  }
  if (found.length === 0) throw bad(`${files.join(', ')}: no policy is in it`);
  return found;
}

function readValue(document: { toJS(): unknown }, file: string): Raw | null | undefined {
  try {
    return document.toJS() as Raw | null | undefined;
  } catch (error) {
    // Aliases of aliases without end.
    throw bad(`${file}: ${(error as Error).message}`);
  }
}

const NAMESPACE = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;

function readOne(raw: Raw | null, where: string, namespace: string): PolicyDocument {
  const { apiVersion, kind, metadata } = raw ?? {};
  const resource = [networkPolicies, ...clusterNetworkPolicies].find(
    (one) => one.kind === kind && `${one.group}/${one.version}` === apiVersion,
  ) as Resource | undefined;
  if (!resource)
    throw bad(
      `${where}: ${[apiVersion, kind].filter((one) => typeof one === 'string').join(' ') || 'it'} is neither a NetworkPolicy nor a ClusterNetworkPolicy`,
    );
  if (typeof metadata?.name !== 'string' || metadata.name === '') throw bad(`${where}: it has no name`);
  const isNamespaced = resource.kind === 'NetworkPolicy';
  const own = isNamespaced ? (metadata.namespace ?? namespace) : null;
  if (own !== null && !(typeof own === 'string' && NAMESPACE.test(own)))
    throw bad(
      `${where}: ${metadata.name}: metadata.namespace: ${JSON.stringify(own)} is no name of a namespace`,
    );
  const object = {
    ...raw,
    metadata: { ...metadata, ...(own === null ? {} : { namespace: own }) },
  } as KubeObject;
  const { policy, problems } = (isNamespaced ? decodeNetworkPolicy : decodeClusterNetworkPolicy)(object);
  const [problem] = problems;
  if (problem || !policy) {
    const { object: name, field, value, because } = problem!;
    const more = problems.length > 1 ? `, and ${problems.length - 1} more` : '';
    throw bad(`${where}: ${name}: ${field}: ${value} ${because}${more}`);
  }
  return { object, resource, namespace: own, name: metadata.name, policy };
}

/** Writes it, or has the API check alone whether it would take it. Fails with LabError that names the object. */
export async function writePolicy(
  client: KubeClient,
  one: PolicyDocument,
  isDryRun = false,
): Promise<KubeObject> {
  const { resource, name, namespace, object, policy } = one;
  try {
    return await client.patch(resource, name, namespace ?? undefined, object, {
      ...{ type: 'apply', fieldManager: 'podway', force: true, isDryRun },
    });
  } catch (error) {
    const { isNotFound, KubeError } = await import('../kube/index.ts');
    if (!(error instanceof KubeError) || [0, 401, 403].includes(error.code)) throw error;
    if (namespace === null && isNotFound(error))
      throw new LabError(
        'KIND_NOT_SERVED',
        `${policy.object}: the cluster does not serve ${resource.kind} of ${resource.group}/${resource.version}`,
        'apply the definition of the network-policy-api project first, docs/policy.md',
      );
    throw new LabError('API_REFUSED', `${policy.object}: ${error.message}`, 'the Kubernetes API says why', {
      cause: error,
    });
  }
}

/** What the API has of it; null when there is none. */
export async function presentOf(client: KubeClient, one: PolicyDocument): Promise<KubeObject | null> {
  const { isNotFound } = await import('../kube/index.ts');
  try {
    return await client.get(one.resource, one.name, one.namespace ?? undefined);
  } catch (error) {
    if (isNotFound(error)) return null;
    throw error;
  }
}
