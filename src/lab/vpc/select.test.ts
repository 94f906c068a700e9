import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Ec2Error, resourceWords } from './errors.ts';
import { type Selectable, select, wildcard } from './select.ts';

type Item = { id: string; color: string; tags: Record<string, string> };
const from = (items: Item[]): Selectable<Item> => ({
  items,
  idOf: (item) => item.id,
  tagsOf: (item) => item.tags,
  words: resourceWords.vpc,
  filters: { color: (item) => item.color, both: (item) => [item.color, item.id] },
});
const items: Item[] = [
  { id: 'vpc-00000001', color: 'red', tags: { a: '1' } },
  { id: 'vpc-00000002', color: 'green', tags: { a: '2', b: '' } },
  { id: 'vpc-00000003', color: 'red*', tags: {} },
];
const idsBy = (by: Parameters<typeof select>[1]) =>
  select(from(items), by).items.map((item) => item.id.slice(-1));
const refused = (code: string) => (error: unknown) => error instanceof Ec2Error && error.code === code;

test('filters: values are alternatives, filters are conditions, tags and patterns count', () => {
  const cases: [Parameters<typeof select>[1], string][] = [
    [{}, '123'],
    [{ ids: ['vpc-00000003', 'vpc-00000001'] }, '13'],
    [{ Filters: [{ Name: 'color', Values: ['red', 'green'] }] }, '12'],
    [{ Filters: [{ Name: 'color', Values: ['red*'] }] }, '13'],
    [{ Filters: [{ Name: 'color', Values: ['red\\*'] }] }, '3'],
    [{ Filters: [{ Name: 'color', Values: ['RED'] }] }, ''],
    [{ Filters: [{ Name: 'tag:a', Values: ['2', '3'] }] }, '2'],
    [{ Filters: [{ Name: 'tag-key', Values: ['a'] }] }, '12'],
    [
      {
        Filters: [
          { Name: 'tag-key', Values: ['a'] },
          { Name: 'color', Values: ['red'] },
        ],
      },
      '1',
    ],
    [{ Filters: [{ Name: 'both', Values: ['?reen', 'vpc-00000003'] }] }, '23'],
    [{ Filters: [{ Name: 'color', Values: [] }] }, ''],
  ];
  for (const [by, expected] of cases) assert.equal(idsBy(by).join(''), expected, JSON.stringify(by));
});

test('what cannot be selected is refused in the words of EC2', () => {
  const cases: [Parameters<typeof select>[1], string][] = [
    [{ ids: ['vpc-00000009'] }, 'InvalidVpcID.NotFound'],
    [{ ids: ['vpc-00000009', 'nonsense'] }, 'InvalidVpcID.Malformed'],
    [{ Filters: [{ Name: 'constructor', Values: ['x'] }] }, 'InvalidParameterValue'],
    [{ Filters: [{ Name: 'color', Values: Array<string>(201).fill('x') }] }, 'FilterLimitExceeded'],
    [{ MaxResults: 4 }, 'InvalidParameterValue'],
    [{ MaxResults: 1001 }, 'InvalidParameterValue'],
    [{ NextToken: 'nonsense' }, 'InvalidNextToken'],
  ];
  for (const [by, code] of cases)
    assert.throws(() => select(from(items), by), refused(code), JSON.stringify(by));
});

test('a pattern matches as the same regular expression does', () => {
  const pattern = fc
    .array(fc.constantFrom('a', 'b', '.', '*', '?'), { maxLength: 8 })
    .map((parts) => parts.join(''));
  const text = fc.array(fc.constantFrom('a', 'b', '.'), { maxLength: 10 }).map((parts) => parts.join(''));
  fc.assert(
    fc.property(pattern, text, (glob, word) => {
      const regex = new RegExp(`^${glob.replaceAll('.', '\\.').replaceAll('*', '.*').replaceAll('?', '.')}$`);
      assert.equal(wildcard(glob)(word), regex.test(word));
    }),
    { numRuns: 2000 },
  );
  // A pattern that would take a backtracking engine forever.
  assert.equal(wildcard('*a'.repeat(60))('a'.repeat(59)), false);
});

test('pages together give every item once, also when items come and go between them', () => {
  const id = fc.integer({ min: 0, max: 200 }).map((n) => `vpc-${n.toString(16).padStart(8, '0')}`);
  fc.assert(
    fc.property(
      fc.uniqueArray(id),
      fc.uniqueArray(id),
      fc.integer({ min: 5, max: 20 }),
      (first, second, MaxResults) => {
        const item = (one: string): Item => ({ id: one, color: '', tags: {} });
        let ids = first;
        let NextToken: string | undefined;
        const seen: string[] = [];
        for (let pages = 0; pages < 100; pages++) {
          const page = select(from(ids.map(item)), { MaxResults, NextToken });
          seen.push(...page.items.map((one) => one.id));
          NextToken = page.nextToken;
          if (NextToken === undefined) break;
          ids = second;
        }
        assert.equal(new Set(seen).size, seen.length, 'no item twice');
        for (const stayed of first.filter((one) => second.includes(one)))
          assert.ok(seen.includes(stayed), `${stayed} is missing`);
      },
    ),
  );
});
