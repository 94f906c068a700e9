// Calls that no runtime should make, and good ones among them, for the plugin of one node: everything that can be wrong
// with a call's variables and config, alone and together. Arbitraries of fast-check, so that a seed repeats a run.
import { join } from 'node:path';
import fc from 'fast-check';
import { nearlyConf } from '../../src/cni/testing/arbitrary.ts';
import { SUPPORTED_VERSIONS, VERBS } from '../../src/cni/versions.ts';
import { NETNS_DIR } from '../../src/kernel/netns.ts';

/** `away`: its config names a socket without a listener. */
export type Call = { env: Record<string, string>; stdin: Buffer; away?: boolean };

export type Target = {
  agentSocket: string;
  cniBinDir: string;
  /** Holds `fifo`, `plain`, `link`, `dangling`, `loop`; `nothing` is not there. */
  folder: string;
  /** Names of namespaces that calls may use. */
  sandboxes: readonly string[];
  /** Path of the node's own namespace, which no call may have. */
  nodeNetns: string;
  /** Calls made at the same time: each gets a sandbox of its own. */
  atOnce: number;
};

/** A call with nothing wrong. */
export function goodCall(agentSocket: string, verb: string, containerId: string, netns = ''): Call {
  return {
    env: { CNI_COMMAND: verb, CNI_CONTAINERID: containerId, CNI_NETNS: netns, CNI_IFNAME: 'eth0' },
    stdin: Buffer.from(JSON.stringify(confOf(agentSocket))),
  };
}
const confOf = (agentSocket: string) => ({
  cniVersion: '1.1.0',
  name: 'podway',
  type: 'podway-cni',
  agentSocket,
});

/** `calls`: any, by chance; `inTurn`: each single thing that can be wrong, once. */
export function malformedCalls({ agentSocket, cniBinDir, folder, sandboxes, nodeNetns, atOnce }: Target): {
  calls: fc.Arbitrary<Call>;
  inTurn: Call[];
} {
  const conf = confOf(agentSocket);
  const good = (verb: string, id: string, netns?: string) => goodCall(agentSocket, verb, id, netns);
  const file = (name: string): string => join(folder, name);

  const often = <T>(...some: T[]) => ({ weight: 4, arbitrary: fc.constantFrom(...some) });
  const once = <T>(...some: T[]) => ({ weight: 1, arbitrary: fc.constantFrom(...some) });
  const long = (length: number) => 'x'.repeat(length);

  const oddCommands = ['', 'add', 'ADD ', 'UPDATE', '__proto__', long(4000), 'ADD\n', 'DEL;ADD'];
  const commands = fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom('ADD', 'ADD', 'ADD', 'DEL', 'DEL', ...VERBS) },
    once(...oddCommands),
  );
  const oddIds = [
    '',
    '.',
    '..',
    '-c',
    '../c1',
    'c/1',
    'c 1',
    'c\n',
    'cä',
    '__proto__',
    'constructor',
    long(201),
    long(9000),
  ];
  const containerIds = fc.oneof(often('c1', 'c2', 'c3', 'c4', long(200)), once(...oddIds));
  const oddNetnses = [
    ...['', '/', '.', folder, file('fifo'), file('plain'), file('dangling'), file('loop'), file('nothing')],
    ...[nodeNetns, '/proc/1/ns/net', '/proc/self/ns/net', '/proc/self/ns/mnt'],
    ...[agentSocket, '/dev/null', '/dev/zero', '/dev/tty', '/proc/self/fd/0', `/${long(5000)}`, 'a\nb'],
    ...[`${NETNS_DIR}/${sandboxes[0]}/`, `run/netns/${sandboxes[0]}`, `../..${NETNS_DIR}/${sandboxes[0]}`],
  ];
  const netnses = fc.oneof(
    often(...sandboxes.map((name) => `${NETNS_DIR}/${name}`), file('link')),
    once(...oddNetnses),
  );
  const oddIfnames = [
    ...[
      '',
      '.',
      '..',
      'a/b',
      'a:b',
      'a b',
      'a\tb',
      'a\u00a0b',
      '\x01',
      '\x7f',
      long(15),
      long(16),
      'ääääääää',
    ],
    ...[
      'lo',
      'all',
      'default',
      'eth%d',
      '%d',
      '%s',
      'pw0123456789ab',
      '-',
      '"',
      "'",
      '\\',
      '$(id)',
      '__proto__',
    ],
  ];
  const ifnames = fc.oneof(often('eth0', 'net1'), once(...oddIfnames));
  const oddArgs = [
    ...[
      'a',
      '=',
      '=b',
      'a=',
      'a=b=c',
      ';',
      ';;',
      'a=b',
      'a=b;',
      'IgnoreUnknown=maybe',
      'IgnoreUnknown=1;a=b',
    ],
    ...['IP=10.0.0.9', 'IP=10.0.0', 'IP=::1', 'MAC=zz', 'MAC=02:00:00:00:00:05', 'MAC=01:00:00:00:00:05'],
    ...[
      '__proto__=1',
      'K8S_POD_NAME=../../x;K8S_POD_NAMESPACE=a/b',
      `a=${long(100_000)}`,
      'IgnoreUnknown=1;\u0001=\u2028',
    ],
  ];
  const args = fc.oneof(
    often(
      '',
      'IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u',
    ),
    once(...oddArgs),
  );
  const environments = fc.record(
    {
      CNI_COMMAND: commands,
      CNI_CONTAINERID: containerIds,
      CNI_NETNS: netnses,
      CNI_IFNAME: ifnames,
      CNI_ARGS: args,
      CNI_PATH: fc.constantFrom('', cniBinDir, ':::', long(10_000)),
      CNI_NETNS_OVERRIDE: fc.constantFrom('', '1', 'true', 'x'),
    },
    { requiredKeys: ['CNI_COMMAND'] },
  );

  const nonsense: unknown[] = [
    ...[null, true, 0, -1, 1.5, 1e99, 4294967296, '', 'x', long(300), '\u0000', '\u2028"\\', '__proto__'],
    ...[[], [null], [[]], [{}], ['x'], {}, { a: {} }, { name: 7 }, { toString: 1 }],
  ];
  const results: unknown[] = [
    { cniVersion: '1.1.0', interfaces: [{ name: 'x' }], ips: [{ address: '10.9.9.9/24', interface: 7 }] },
    { cniVersion: '0.2.0', ip4: { ip: '10.9.9.9/24', routes: [{ dst: '0.0.0.0/0' }] } },
    { cniVersion: '9.9.9', ips: [] },
    { ips: [{ address: '10.0.0.5' }] },
    { interfaces: [{ name: 'eth0', mac: 'no', sandbox: '/x', mtu: -1 }], dns: { nameservers: 'x' } },
  ];
  const routes: unknown[] = [
    ...[
      { dst: '10.0.0.0/8' },
      { dst: '0.0.0.0/0' },
      { dst: '::/0' },
      { dst: '10.0.0.0/33' },
      { dst: '0.0.0.0/0', gw: '10.0.0.1' },
    ],
    ...[
      { dst: '10.1.0.0/16', gw: '::1' },
      { dst: '10.0.0.0/8', scope: 253 },
      { dst: '10.0.0.0/8', scope: 7 },
      { gw: '10.0.0.1' },
    ],
    ...[
      { dst: '10.0.0.0/8', gw: '127.0.0.1' },
      { dst: '10.0.0.0/8', gw: '224.0.0.1' },
      { dst: '10.0.0.0/8', gw: '0.0.0.0' },
    ],
    ...[
      { dst: '224.0.0.0/4' },
      { dst: '127.0.0.0/8' },
      { dst: '169.254.1.1/32' },
      { dst: '255.255.255.255/32' },
    ],
    ...[
      { dst: '10.0.0.0/8', mtu: 4294967295 },
      { dst: '10.0.0.0/8', mtu: 1 },
      { dst: '10.0.0.0/8', advmss: 4294967295 },
    ],
    ...[
      { dst: '10.0.0.0/8', table: 0 },
      { dst: '10.0.0.0/8', table: 255 },
      { dst: '10.0.0.0/8', table: 4294967295 },
    ],
    ...[
      { dst: '10.0.0.0/8', priority: 4294967295 },
      { dst: '10.0.0.0/8', scope: 254 },
      { dst: '10.0.0.0/8', scope: 254, gw: '10.0.0.1' },
    ],
  ];
  const valuesOf: Record<string, unknown[]> = {
    cniVersion: [...SUPPORTED_VERSIONS, '2.0.0', '1', '1.1', '1.1.0 ', '01.1.0', '999999999999.1.1'],
    name: ['podway', 'other', '../x', '-x', 'a b', 'ä', long(255), long(256), '.'],
    type: ['podway-cni', '../../bin/sh'],
    mtu: [1500, 575, 576, 9001, 9002, 65535, 65536, '1500'],
    dns: [
      { nameservers: ['10.0.0.2'], search: ['a'] },
      { nameservers: [1] },
      { nameservers: ['not an address'] },
      { domain: 7 },
    ],
    routes: [
      ...routes.map((route) => [route]),
      routes.slice(0, 2),
      [{ dst: '10.0.0.0/8' }, { dst: '10.0.0.0/8' }],
    ],
    args: [{ cni: { mac: '02:00:00:00:00:07' } }, { cni: { ips: ['10.0.0.9'] } }, { cni: [] }],
    runtimeConfig: [
      ...[
        { mac: '02:00:00:00:00:06' },
        { mac: 'ff:ff:ff:ff:ff:ff' },
        { mac: '00:00:00:00:00:00' },
        { mac: 7 },
      ],
      ...[
        { ips: ['10.0.0.9/32'] },
        { ips: 'x' },
        { dns: { servers: ['10.0.0.2'] } },
        { portMappings: [{}] },
        { dns: [] },
      ],
    ],
    capabilities: [{ mac: true }],
    prevResult: results,
    ipam: [{ type: 'host-local' }, { type: '/bin/sh' }],
    defaultRoute: [false, 'false', 'no'],
    'cni.dev/valid-attachments': [
      [{ containerID: 'c1', ifname: 'eth0' }],
      [{ containerID: '../x', ifname: 'eth0' }],
    ],
    agentSocket: ['relative.sock', `/${long(200)}`, 'a\u0000b', file('plain'), file('nowhere.sock'), folder],
  };
  const fields = fc
    .constantFrom(...Object.keys(valuesOf))
    .chain((key) =>
      fc.tuple(
        fc.constant(key),
        fc.oneof(often(...valuesOf[key]!), { weight: 2, arbitrary: fc.constantFrom(...nonsense) }),
      ),
    );
  const confs = fc
    .array(fields, { maxLength: 2 })
    .map((changes) => Buffer.from(JSON.stringify({ ...conf, ...Object.fromEntries(changes) })));

  const whole = JSON.stringify({ ...conf, prevResult: results[0], 'é\u{1f600}': ['\\ud800', -1.5e3, true] });
  const cut = fc.nat(whole.length).map((at) => Buffer.from(whole.slice(0, at)));
  const flipped = fc.tuple(fc.nat(whole.length - 1), fc.nat(255)).map(([at, byte]) => {
    const bytes = Buffer.from(whole);
    bytes[at] = byte;
    return bytes;
  });
  const { agentSocket: _, ...noSocket } = conf;
  const deep = (levels: number): string =>
    JSON.stringify({ ...conf, x: 0 }).replace('"x":0', `"x":${'['.repeat(levels)}${']'.repeat(levels)}`);
  const texts = fc
    .constantFrom(
      ...[
        '',
        ' ',
        'null',
        '[]',
        '{}',
        '"x"',
        '7',
        '{',
        '{"a"',
        '\u0000',
        `\ufeff${whole}`,
        `${whole}${whole}`,
        `${whole}\n\n`,
      ],
      ...[
        deep(500),
        deep(600),
        deep(100_000),
        '['.repeat(200_000),
        JSON.stringify({ ...conf, x: long(1 << 20) }),
      ],
      ...[
        `{"cniVersion":"0.4.0",${whole.slice(1)}`,
        whole.replace('"podway"', '"a\\u0000b"'),
        JSON.stringify({ ...noSocket }),
      ],
    )
    .map((text) => Buffer.from(text));
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }).map((some) => Buffer.from(some)),
    fc.constantFrom(
      Buffer.concat([
        Buffer.from(whole.slice(0, -1)),
        Buffer.from(',"x":"'),
        Buffer.from([0xff, 0xc0, 0x80]),
        Buffer.from('"}'),
      ]),
      Buffer.alloc(1000),
    ),
  );
  const stdins = fc.oneof(
    { weight: 8, arbitrary: confs },
    { weight: 2, arbitrary: nearlyConf.map((text) => Buffer.from(text)) },
    ...[cut, flipped, texts, bytes].map((arbitrary) => ({ weight: 1, arbitrary })),
  );

  /** A DEL is queued beside the socket that its config names: any but these few are told the lab's by a variable. */
  const sockets = new Set([agentSocket, ...valuesOf['agentSocket']!]);
  function aimed(env: Record<string, string>, stdin: Buffer): Call {
    let named: unknown;
    try {
      named = (JSON.parse(stdin.toString()) as { agentSocket?: unknown } | null)?.agentSocket;
    } catch {
      // No config at all.
    }
    const sayable = Object.entries(env).map(([name, value]) => [name, value.replaceAll('\0', '')]);
    const aim = sockets.has(named) ? {} : { PODWAY_AGENT_SOCKET: agentSocket };
    const away = sockets.has(named) && named !== agentSocket;
    return { env: { ...Object.fromEntries(sayable), ...aim }, stdin, away };
  }
  const calls: fc.Arbitrary<Call> = fc.oneof(
    {
      weight: 3,
      arbitrary: fc
        .tuple(environments, stdins)
        .map(([env, stdin]) => aimed(env as Record<string, string>, stdin)),
    },
    // One thing wrong, or two: the environment or the config is good.
    {
      weight: 2,
      arbitrary: environments.map((env) => aimed(env as Record<string, string>, good('ADD', 'c1').stdin)),
    },
    {
      weight: 3,
      arbitrary: fc
        .tuple(
          fc.constantFrom('ADD', 'ADD', 'ADD', 'DEL', 'DEL', 'CHECK', 'GC'),
          fc.nat(sandboxes.length - 1),
          stdins,
        )
        .map(([verb, at, stdin]) => aimed(good(verb, `c${at}`, `${NETNS_DIR}/${sandboxes[at]}`).env, stdin)),
    },
    // Nothing wrong.
    {
      weight: 2,
      arbitrary: fc
        .tuple(fc.constantFrom('ADD', 'DEL'), fc.nat(sandboxes.length - 1))
        .map(([verb, at]) => good(verb, `c${at}`, `${NETNS_DIR}/${sandboxes[at]}`)),
    },
  );

  /** Everything above that can be wrong, alone; a sandbox each for as many as are called at once. */
  const inTurn: Call[] = [
    ...Object.entries({
      CNI_COMMAND: oddCommands,
      CNI_CONTAINERID: oddIds,
      CNI_NETNS: oddNetnses,
      CNI_IFNAME: oddIfnames,
      CNI_ARGS: oddArgs,
    }).flatMap(([name, values]) => values.map((value) => ({ env: { [name]: value }, change: {} }))),
    ...Object.entries(valuesOf).flatMap(([key, values]) =>
      values.map((value) => ({ env: {}, change: { [key]: value } })),
    ),
  ].map(({ env, change }, i) =>
    aimed(
      { ...good('ADD', `one-${i}`, `${NETNS_DIR}/${sandboxes[i % atOnce]}`).env, ...env },
      Buffer.from(JSON.stringify({ ...conf, ...change })),
    ),
  );
  return { calls, inTurn };
}
