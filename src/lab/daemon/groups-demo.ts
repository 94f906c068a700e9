// The demo of examples/security-groups.yaml: two pods on one node, of which one reaches db:5432 and the other does not,
// by security groups alone; then the rule is revoked, and the running pod does not either. Each step is a Check with
// its proof: what db answered, EC2's own words about interface and groups, the gate that is closed.
import { setTimeout as sleep } from 'node:timers/promises';
import { asksForBranch, decodePodEnis, POD_ENI, POD_ENI_CAUSE } from '../../kube/vpc-resources.ts';
import { DEMO_PODS, DEMO_PORT } from '../shape/group-policies.ts';
import type { SecurityGroup } from '../vpc/model.ts';
import { probe } from './connectivity.ts';
import { LabError } from './errors.ts';
import { closedGate } from './gates.ts';
import type { Emit } from './http.ts';
import type { OpenLab } from './lab.ts';
import { deletePods, runPod } from './pods.ts';
import type { Check, PodView } from './protocol.ts';
import { until } from './wait.ts';

const DB = 'db';
/** By name: the resolver of the VPC answers in strict mode too, whatever the groups say. */
const DB_NAME = 'db.podway.test';
/** The controller makes trunk and webhooks when it sees the first policy. */
const OFFERED_MS = 120_000;
const POD_MS = 120_000;
const LOOK_MS = 300;
const NAMESPACE = 'default';

type Pods = () => PodView[];
type Step = Omit<Check, 'ms'>;

export async function showSecurityGroups(
  lab: OpenLab,
  pods: Pods,
  signal: AbortSignal,
  emit: Emit,
): Promise<{ checks: Check[] }> {
  const checks: Check[] = [];
  const say = (text: string) => emit({ kind: 'progress', text });
  const step = async (work: () => Step | Promise<Step>) => {
    const began = performance.now();
    const made = await work();
    const check = { ...made, ms: Math.round(performance.now() - began) };
    emit({ kind: 'item', item: check });
    checks.push(check);
  };
  await letIn(lab);
  const node = await offeringNode(lab, signal, say);
  if (DEMO_PODS.some((name) => !lab.store.pod(NAMESPACE, name))) await injected(lab, node, signal, say);
  for (const name of DEMO_PODS) {
    say(`pod ${name} on ${node}`);
    await runWithBranch(lab, { name, node }, signal, say);
    await step(() => ownInterface(lab, pods, name));
  }
  await step(() => asks(lab, pods, 'shop', true));
  await step(() => asks(lab, pods, 'guest', false));
  const uid = lab.store.pod(NAMESPACE, 'shop')?.metadata.uid;
  await step(() => revoke(lab));
  await step(async () => {
    const asked = await asks(lab, pods, 'shop', false);
    const same = lab.store.pod(NAMESPACE, 'shop')?.metadata.uid === uid;
    return { ...asked, ok: asked.ok && same };
  });
  return { checks };
}

const groupOf = (lab: OpenLab, name: string): SecurityGroup => {
  const found = Object.values(lab.vpc.state().securityGroups).find((group) => group.name === name);
  if (found) return found;
  throw new LabError(
    'NO_SUCH_GROUP',
    `security group ${name} of the demo is gone`,
    `podway lab down --lab ${lab.record.name}, then lab up again`,
  );
};

/** The rule of `db` that lets `shop` in. */
const ruleOf = (lab: OpenLab) => {
  const shop = groupOf(lab, 'shop').id;
  return groupOf(lab, DB).rules.find(
    ({ direction, peer }) => direction === 'ingress' && peer.kind === 'group' && peer.groupId === shop,
  );
};

/** A demo that ran before revoked it. */
async function letIn(lab: OpenLab): Promise<void> {
  if (ruleOf(lab)) return;
  await lab.vpc.act('AuthorizeSecurityGroupIngress', {
    GroupId: groupOf(lab, DB).id,
    IpPermissions: [
      {
        IpProtocol: 'tcp',
        FromPort: DEMO_PORT,
        ToPort: DEMO_PORT,
        UserIdGroupPairs: [{ GroupId: groupOf(lab, 'shop').id }],
      },
    ],
  });
  await lab.followed();
}

async function offeringNode(lab: OpenLab, signal: AbortSignal, say: (text: string) => void): Promise<string> {
  say('waiting for a node that takes branches');
  const found = await until(
    lab.store,
    () => lab.store.nodes().find(({ status }) => Number(status?.allocatable?.[POD_ENI] ?? 0) > 0),
    OFFERED_MS,
    signal,
  );
  if (found) return found.metadata.name!;
  throw new LabError(
    'NO_TRUNK',
    `no node takes branches after ${OFFERED_MS / 1000} s`,
    `podway lab logs controller --lab ${lab.record.name}`,
  );
}

/** The API asks the webhook a moment after nodes take branches; a pod that is made before has none, for good. */
async function injected(
  lab: OpenLab,
  node: string,
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<void> {
  const end = performance.now() + OFFERED_MS;
  const [first] = DEMO_PODS;
  for (let at = 1; !signal.aborted && performance.now() < end; at++) {
    const name = `${first}-try-${at}`;
    const { known } = await make(lab, { name, app: first, node }, signal, say);
    const asks = known && asksForBranch(known);
    await deletePods(lab, { namespace: NAMESPACE, names: [name], timeoutMs: POD_MS }, signal);
    if (asks) return;
    await sleep(LOOK_MS);
  }
  throw new LabError(
    'NO_WEBHOOK',
    `the API does not ask the webhook after ${OFFERED_MS / 1000} s`,
    `podway lab logs controller --lab ${lab.record.name}`,
  );
}

async function make(
  lab: OpenLab,
  { name, app, node }: { name: string; app: string; node: string },
  signal: AbortSignal,
  say: (text: string) => void,
) {
  const pod = { namespace: NAMESPACE, name, node, labels: { app }, command: [] };
  await runPod(lab, { ...pod, timeoutMs: POD_MS, wait: false }, signal, say);
  return { known: lab.store.pod(NAMESPACE, name) };
}

async function runWithBranch(
  lab: OpenLab,
  { name, node }: { name: string; node: string },
  signal: AbortSignal,
  say: (text: string) => void,
): Promise<void> {
  const end = performance.now() + POD_MS;
  const known = () => lab.store.pod(NAMESPACE, name);
  if (!known()) await make(lab, { name, app: name, node }, signal, say);
  const runs = await until(
    lab.store,
    () => (known()?.status?.phase === 'Running' && known()?.metadata.annotations?.[POD_ENI]) || undefined,
    Math.max(1, end - performance.now()),
    signal,
  );
  if (runs !== undefined) return;
  const cause = known()?.metadata.annotations?.[POD_ENI_CAUSE];
  throw new LabError(
    'TIMEOUT',
    `pod ${name} does not run with a branch after ${POD_MS / 1000} s${cause === undefined ? '' : `: ${cause}`}`,
    `podway sg show ${name} --lab ${lab.record.name}`,
  );
}

const branchOf = (lab: OpenLab, name: string) =>
  decodePodEnis(lab.store.pod(NAMESPACE, name)?.metadata.annotations?.[POD_ENI] ?? '[]')[0]!;

/** What EC2 says of the pod's interface. */
function ownInterface(lab: OpenLab, pods: Pods, name: string): Step {
  const { eniId, vlanId } = branchOf(lab, name);
  const view = pods().find((pod) => pod.name === name && pod.namespace === NAMESPACE);
  const eni = lab.vpc.state().networkInterfaces[eniId];
  const group = groupOf(lab, name);
  const groups = eni?.groupIds.map((id) => `${lab.vpc.state().securityGroups[id]?.name} (${id})`) ?? [];
  return {
    name: 'own-interface',
    from: name,
    to: eniId,
    expected: `${view?.ips[0]} with the security group ${group.name} (${group.id})`,
    observed: `${eni?.privateIps[0]} with the security group ${groups.join(', ')}; VLAN ${vlanId} on the trunk of ${view?.node}`,
    ok: eni?.privateIps[0] === view?.ips[0] && eni?.groupIds.length === 1 && eni.groupIds[0] === group.id,
  };
}

async function asks(lab: OpenLab, pods: Pods, name: string, may: boolean): Promise<Step> {
  const view = pods().find((pod) => pod.name === name && pod.namespace === NAMESPACE)!;
  const [ip] = view.ips;
  const { answer, error } = await probe(lab.programs.probe, {
    netnsPath: view.netnsPath,
    args: ['tcp', DB_NAME, `${DEMO_PORT}`],
  });
  const db = Object.values(lab.vpc.state().instances).find((one) => one.name === DB)!;
  const dbIp = Object.values(lab.vpc.state().networkInterfaces).find(
    ({ attachment }) => attachment?.instanceId === db.id,
  )!.privateIps[0]!;
  const gate = closedGate(lab.vpc.state(), { from: ip!, to: dbIp, protocol: 'tcp', port: DEMO_PORT });
  return {
    name: may ? 'reaches-db' : 'does-not-reach-db',
    from: `${name} ${ip}`,
    to: `${DB_NAME}:${DEMO_PORT} ${dbIp}`,
    expected: may ? `${DB} ${ip}` : 'no answer',
    observed:
      answer === undefined
        ? `no answer (${error}): ${gate ?? 'every security group lets it through'}`
        : answer === `${DB} ${ip}`
          ? `${DB} saw ${ip}, by rule ${ruleOf(lab)?.id} of the security group ${DB}`
          : answer,
    ok: may ? answer === `${DB} ${ip}` : answer === undefined && gate !== undefined,
  };
}

async function revoke(lab: OpenLab): Promise<Step> {
  const rule = ruleOf(lab)!;
  const group = groupOf(lab, DB);
  await lab.vpc.act('RevokeSecurityGroupIngress', { GroupId: group.id, SecurityGroupRuleIds: [rule.id] });
  await lab.followed();
  const left = groupOf(lab, DB).rules.filter(({ direction }) => direction === 'ingress').length;
  return {
    name: 'revoke',
    from: `rule ${rule.id}`,
    to: `security group ${DB} (${group.id})`,
    expected: 'no ingress rule is left',
    observed: `${left === 0 ? 'no' : left} ingress ${left > 1 ? 'rules are' : 'rule is'} left (RevokeSecurityGroupIngress)`,
    ok: left === 0,
  };
}
