// Every metric and label that the alert rules and the dashboard use is one that the agent or the controller serves, and the docs
// have a line for each alert.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { createMetrics } from '../../src/agent/metrics.ts';
import { createMetrics as createControllerMetrics } from '../../src/controller/metrics.ts';
import { chart } from '../../tools/chart.ts';

const file = (name: string) => readFileSync(join(chart, 'files', name), 'utf8');
type Rule = { alert: string; expr: string; labels: object; annotations: Record<string, string> };
const rules = (parse(file('alerts.yaml')) as { groups: { rules: Rule[] }[] }).groups.flatMap(
  (group) => group.rules,
);
type Panel = { id: number; title: string; targets: { expr: string; legendFormat: string }[] };
const dashboard = JSON.parse(file('dashboard.json')) as { panels: Panel[]; templating: unknown };

/** From Prometheus' own relabelling (PodMonitor), and of a histogram's buckets. */
const ADDED = ['node', 'le'];

async function served(): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  const registries = [createMetrics().registry, createControllerMetrics().registry];
  for (const metric of registries.flatMap((registry) => registry.getMetricsAsArray()) as unknown as {
    name: string;
    type: string;
    labelNames: string[];
  }[]) {
    const names = metric.type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
    for (const suffix of names) found.set(metric.name + suffix, [...metric.labelNames, ...ADDED]);
  }
  return found;
}

/** Names of metrics in an expression, and the labels that it selects or groups by. */
function used(expr: string) {
  const names = [...expr.matchAll(/\b(podway_\w+|awscni_\w+)/g)].map((match) => match[1]!);
  const selected = [...expr.matchAll(/\{([^}]*)\}/g)].flatMap((match) =>
    [...match[1]!.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g)].map((label) => label[1]!),
  );
  const grouped = [...expr.matchAll(/\b(?:by|ignoring|on)\s*\(([^)]*)\)/g)].flatMap((match) =>
    match[1]!.split(',').map((label) => label.trim()),
  );
  return { names, labels: [...selected, ...grouped] };
}

const expressions: [string, string][] = [
  ...rules.map(({ alert, expr }): [string, string] => [alert, expr]),
  ...dashboard.panels.flatMap(({ title, targets }) =>
    targets.map(({ expr }): [string, string] => [title, expr]),
  ),
];

test('alerts and panels use metrics and labels that exist', async () => {
  const metrics = await served();
  for (const [where, expr] of expressions) {
    const { names, labels } = used(expr);
    assert.ok(names.length > 0, `${where} uses no metric`);
    for (const name of names) assert.ok(metrics.has(name), `${where}: there is no metric ${name}`);
    const known = names.flatMap((name) => metrics.get(name)!);
    for (const label of labels) assert.ok(known.includes(label), `${where}: no label ${label} of ${names}`);
  }
});

test('what an alert or a legend shows is a label that its expression keeps', () => {
  const shown = (text: string) =>
    [...text.matchAll(/\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}/g)]
      .map((match) => match[1]!)
      .filter((name) => name !== 'value');
  for (const { alert, expr, annotations } of rules)
    for (const label of shown(Object.values(annotations).join(' ')))
      assert.ok(keeps(expr, label), `${alert}: ${label}`);
  for (const { title, targets } of dashboard.panels)
    for (const { expr, legendFormat } of targets)
      for (const label of shown(legendFormat)) assert.ok(keeps(expr, label), `${title}: ${label}`);
});

/** An aggregation keeps what it groups by. */
function keeps(expr: string, label: string): boolean {
  const groups = [...expr.matchAll(/\bby\s*\(([^)]*)\)/g)].map((match) =>
    match[1]!.split(',').map((one) => one.trim()),
  );
  return groups.length === 0 || groups.some((group) => group.includes(label));
}

test('every alert says how bad it is and what to do; panels have numbers of their own', () => {
  for (const { alert, labels, annotations } of rules) {
    assert.match(alert, /^Podway[A-Z]/);
    assert.deepEqual(Object.keys(labels), ['severity']);
    assert.deepEqual(Object.keys(annotations), ['summary', 'description']);
  }
  const ids = dashboard.panels.map(({ id }) => id);
  assert.equal(new Set(ids).size, ids.length);
});

test('docs/operations.md explains every alert, and no other', () => {
  const text = readFileSync(join(chart, '../../../docs/operations.md'), 'utf8');
  const told = [...text.matchAll(/^\| `(Podway[A-Za-z]+)` \|/gm)].map((match) => match[1]);
  assert.deepEqual(told.sort(), rules.map(({ alert }) => alert).sort());
});
