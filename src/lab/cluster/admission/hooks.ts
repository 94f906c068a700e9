// MutatingWebhookConfiguration and ValidatingWebhookConfiguration: their fields, what the API fills in, what it refuses.
import { SelectorError, selectorRequirements } from '../../../kube/selectors.ts';
import type { LabelSelector } from '../../../kube/types.ts';
import { invalidValue, required, type StatusCause } from '../api/errors.ts';
import type { Any } from '../api/kinds.ts';

export type Operation = 'CREATE' | 'UPDATE' | 'DELETE' | 'CONNECT';

export type HookRule = {
  operations: (Operation | '*')[];
  apiGroups: string[];
  apiVersions: string[];
  resources: string[];
  scope: '*' | 'Cluster' | 'Namespaced';
};

export type ServiceReference = { namespace: string; name: string; path?: string; port: number };

export type Hook = {
  name: string;
  /** `caBundle`: PEM in base64; the system's authorities without it. */
  clientConfig: { url?: string; service?: ServiceReference; caBundle?: string };
  rules?: HookRule[];
  failurePolicy: 'Fail' | 'Ignore';
  matchPolicy: 'Equivalent' | 'Exact';
  namespaceSelector: LabelSelector;
  objectSelector: LabelSelector;
  sideEffects: 'None' | 'NoneOnDryRun';
  timeoutSeconds: number;
  admissionReviewVersions: string[];
  /** Of a mutating one. */
  reinvocationPolicy?: 'Never' | 'IfNeeded';
  matchConditions?: unknown[];
};

const isMap = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

const hooksIn = (object: Any): Record<string, unknown>[] =>
  Array.isArray(object['webhooks']) ? object['webhooks'].filter(isMap) : [];

/** Defaults of admissionregistration.k8s.io/v1. */
export function completeHooks(object: Any, mutating: boolean): void {
  for (const hook of hooksIn(object)) {
    hook['failurePolicy'] ??= 'Fail';
    hook['matchPolicy'] ??= 'Equivalent';
    hook['namespaceSelector'] ??= {};
    hook['objectSelector'] ??= {};
    hook['timeoutSeconds'] ??= 10;
    if (mutating) hook['reinvocationPolicy'] ??= 'Never';
    for (const rule of Array.isArray(hook['rules']) ? hook['rules'].filter(isMap) : []) rule['scope'] ??= '*';
    const service = isMap(hook['clientConfig']) ? hook['clientConfig']['service'] : undefined;
    if (isMap(service)) service['port'] ??= 443;
  }
}

const NAME = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?){2,}$/;
const OPERATIONS = ['*', 'CONNECT', 'CREATE', 'DELETE', 'UPDATE'];

export function checkHooks(object: Any): StatusCause[] {
  const seen = new Set<string>();
  return hooksIn(object).flatMap((each, i) => {
    const hook = each as unknown as Hook;
    const at = `webhooks[${i}]`;
    const causes = checkHook(hook, at);
    if (seen.has(hook.name))
      causes.push({
        reason: 'FieldValueDuplicate',
        message: `Duplicate value: "${hook.name}"`,
        field: `${at}.name`,
      });
    seen.add(hook.name);
    return causes;
  });
}

function checkHook(hook: Hook, at: string): StatusCause[] {
  const causes: StatusCause[] = [];
  if (!NAME.test(hook.name ?? ''))
    causes.push(
      invalidValue(
        `${at}.name`,
        hook.name ?? '',
        'should be a domain with at least three segments separated by dots',
      ),
    );
  causes.push(...checkClient(hook.clientConfig, `${at}.clientConfig`));
  causes.push(...(hook.rules ?? []).flatMap((rule, i) => checkRule(rule, `${at}.rules[${i}]`)));
  const oneOf = (field: keyof Hook, allowed: readonly string[]) => {
    const value = hook[field] as string | undefined;
    if (value !== undefined && !allowed.includes(value))
      causes.push(unsupported(`${at}.${field}`, value, allowed));
  };
  oneOf('failurePolicy', ['Fail', 'Ignore']);
  oneOf('matchPolicy', ['Equivalent', 'Exact']);
  oneOf('reinvocationPolicy', ['IfNeeded', 'Never']);
  if (hook.sideEffects === undefined)
    causes.push(required(`${at}.sideEffects`, 'must specify one of None, NoneOnDryRun'));
  else oneOf('sideEffects', ['None', 'NoneOnDryRun']);
  if (!(hook.timeoutSeconds >= 1 && hook.timeoutSeconds <= 30))
    causes.push(
      invalidValue(
        `${at}.timeoutSeconds`,
        hook.timeoutSeconds,
        'the timeout value must be between 1 and 30 seconds',
      ),
    );
  const versions = hook.admissionReviewVersions ?? [];
  if (versions.length === 0)
    causes.push(required(`${at}.admissionReviewVersions`, 'must specify one of v1, v1beta1'));
  else if (!versions.includes('v1'))
    causes.push(
      invalidValue(`${at}.admissionReviewVersions`, versions, 'must include v1: no other is sent here'),
    );
  for (const field of ['namespaceSelector', 'objectSelector'] as const) {
    try {
      selectorRequirements(hook[field] ?? {});
    } catch (error) {
      if (!(error instanceof SelectorError)) throw error;
      causes.push(invalidValue(`${at}.${field}`, hook[field], error.message));
    }
  }
  if (hook.matchConditions?.length)
    causes.push({
      reason: 'FieldValueForbidden',
      message: 'Forbidden: conditions in CEL are not evaluated here',
      field: `${at}.matchConditions`,
    });
  return causes;
}

function checkClient(config: Hook['clientConfig'] | undefined, at: string): StatusCause[] {
  const { url, service, caBundle } = config ?? {};
  if ((url === undefined) === (service === undefined))
    return [required(at, 'exactly one of url or service is required')];
  const causes: StatusCause[] = [];
  if (url !== undefined) {
    const parsed = URL.parse(url);
    const wrong = (why: string) => causes.push(invalidValue(`${at}.url`, url, why));
    if (parsed === null) wrong('url must be a valid URL; desired format: https://host[/path]');
    else if (parsed.protocol !== 'https:')
      wrong("'https' is the only allowed URL scheme; desired format: https://host[/path]");
    else if (parsed.username || parsed.password) wrong('user information is not permitted in the URL');
    else if (parsed.search || parsed.hash)
      wrong('query parameters and fragments are not permitted in the URL');
  }
  if (service !== undefined) {
    if (!service.name) causes.push(required(`${at}.service.name`));
    if (!service.namespace) causes.push(required(`${at}.service.namespace`));
    if (!(service.port > 0 && service.port < 65536))
      causes.push(
        invalidValue(`${at}.service.port`, service.port, 'port is not valid: must be between 1 and 65535'),
      );
    if (service.path && !service.path.startsWith('/'))
      causes.push(invalidValue(`${at}.service.path`, service.path, "must start with a '/'"));
  }
  if (caBundle && !Buffer.from(caBundle, 'base64').includes('-----BEGIN CERTIFICATE-----'))
    causes.push(
      invalidValue(`${at}.caBundle`, '<bytes>', 'unable to load root certificates: no certificate in PEM'),
    );
  return causes;
}

function checkRule(rule: HookRule, at: string): StatusCause[] {
  const causes: StatusCause[] = [];
  for (const field of ['operations', 'apiGroups', 'apiVersions', 'resources'] as const) {
    const values: readonly string[] = rule[field] ?? [];
    if (values.length === 0) causes.push(required(`${at}.${field}`));
    else if (field !== 'resources' && values.length > 1 && values.includes('*'))
      causes.push(invalidValue(`${at}.${field}`, values, "if '*' is present, must not specify others"));
  }
  for (const operation of rule.operations ?? [])
    if (!OPERATIONS.includes(operation)) causes.push(unsupported(`${at}.operations`, operation, OPERATIONS));
  const scopes = ['*', 'Cluster', 'Namespaced'];
  if (!scopes.includes(rule.scope)) causes.push(unsupported(`${at}.scope`, rule.scope, scopes));
  return causes;
}

const unsupported = (field: string, value: string, allowed: readonly string[]): StatusCause => ({
  reason: 'FieldValueNotSupported',
  message: `Unsupported value: "${value}": supported values: ${allowed.map((each) => `"${each}"`).join(', ')}`,
  field,
});
