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
      const value = document.toJS() as Raw | null;
      if (value === null || value === undefined) continue;
      const all = value.kind === 'List' && Array.isArray(value.items) ? (value.items as Raw[]) : [value];
      for (const one of all) found.push(readOne(one, `${file}, document ${at + 1}`, namespace));
    }
  }
  if (found.length === 0) throw bad(`${files.join(', ')}: no policy is in it`);
  return found;
}

function readOne(raw: Raw, where: string, namespace: string): PolicyDocument {
  const { apiVersion, kind, metadata } = raw;
  const resource = [networkPolicies, ...clusterNetworkPolicies].find(
    (one) => one.kind === kind && `${one.group}/${one.version}` === apiVersion,
  ) as Resource | undefined;
  if (!resource)
    throw bad(
      `${where}: ${String(apiVersion)} ${String(kind)} is neither a NetworkPolicy nor a ClusterNetworkPolicy`,
    );
  if (typeof metadata?.name !== 'string' || metadata.name === '') throw bad(`${where}: it has no name`);
  const isNamespaced = resource.kind === 'NetworkPolicy';
  const own = isNamespaced ? (metadata.namespace ?? namespace) : null;
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
