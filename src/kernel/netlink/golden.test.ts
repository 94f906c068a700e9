// Our requests against those of iproute2, nft and conntrack, and our reading of the kernel's answers to them.
// The bytes were captured by ../testdata/capture.ts. Order of attributes, the nested flag and a text's NUL are free.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { formatCidr, formatIp, parseCidr, parseIp } from '../../base/ip.ts';
import { parseMac } from '../../base/mac.ts';
import { encodeRtOp, type RtOp } from '../rtnetlink.ts';
import type { Exchange } from '../testdata/capture.ts';
import { decodeAddress } from './address.ts';
import { eachAttribute } from './attribute.ts';
import { ByteWriter } from './bytes.ts';
import { decodeConntrack } from './conntrack.ts';
import { decodeLink } from './link.ts';
import { eachMessage, type Message, NLM_F_ACK, NLM_F_EXCL, NLMSG_DONE, NLMSG_ERROR } from './message.ts';
import { decodeFdb, decodeNeighbour } from './neighbour.ts';
import { decodeRoute } from './route.ts';
import { decodeRule } from './rule.ts';
import {
  beginBatch,
  concatKey,
  decodeElements,
  encodeElementOp,
  endBatch,
  type NftElementOp,
} from './set-element.ts';

const golden = JSON.parse(readFileSync(new URL('../testdata/golden.json', import.meta.url), 'utf8')) as {
  exchanges: Exchange[];
};

function exchange(start: string): Exchange {
  const found = golden.exchanges.find(({ command }) => command.startsWith(start));
  assert.ok(found, `golden.json has no "${start}"`);
  return found;
}

/** Nests by attribute number; `header` bytes come before the attributes of a veth's peer; `free` ones may differ. */
type Schema = { header?: number; text?: number[]; free?: number[]; nests?: Record<number, Schema> };

const SLAVE_DATA = 5;
const LINK: Schema = {
  text: [3, 20],
  nests: { 18: { text: [1, 4], nests: { 2: { nests: { 1: { header: 16, text: [3] } } }, 5: {} } } },
};
// nft numbers the sets of a transaction (4, NFTA_SET_ELEM_LIST_SET_ID), which only new sets need.
const ELEMENT: Schema = {
  text: [1, 2],
  free: [4],
  nests: { 3: { nests: { 1: { nests: { 1: {}, 2: { nests: { 2: { text: [2] } } }, 10: {} } } } } },
};
const FAMILY_HEADER: Record<number, [number, Schema]> = {
  16: [16, LINK],
  17: [16, LINK],
  20: [8, {}],
  24: [12, { nests: { 8: {} } }],
  25: [12, {}],
  28: [12, {}],
  32: [12, { text: [3] }],
  33: [12, { text: [3] }],
  [0x0a0c]: [4, ELEMENT],
  [0x0a0e]: [4, ELEMENT],
};

const hexOf = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

function tree(bytes: Uint8Array, start: number, end: number, schema: Schema): unknown {
  const first = start + (schema.header ?? 0);
  const attributes: [number, unknown][] = [];
  eachAttribute(bytes, first, end, (type, at, length) => {
    if (schema.free?.includes(type)) return;
    const nest = schema.nests?.[type];
    const value = nest ? tree(bytes, at, at + length, nest) : hexOf(bytes.subarray(at, at + length));
    attributes.push([type, schema.text?.includes(type) ? String(value).replace(/(00)+$/, '') : value]);
  });
  attributes.sort(([a], [b]) => a - b);
  // iproute2 6.1 names a port's kind "bridge_slave" where newer ones, and we, name its master's kind.
  const kinds = attributes.filter(([type]) => type === SLAVE_DATA).length > 0 && schema.nests?.[SLAVE_DATA];
  if (kinds) return { attributes: attributes.filter(([type]) => type === SLAVE_DATA) };
  return { header: hexOf(bytes.subarray(start, first)), attributes };
}

/** A request without what is free. */
function canonical(bytes: Uint8Array): unknown[] {
  const messages: unknown[] = [];
  eachMessage(bytes, bytes.length, (message) => {
    // A batch's begin and end share their type numbers with RTM_NEWLINK and RTM_DELLINK, and are a bare header.
    const bare = message.end - message.start === 4;
    const [header, schema] = (bare ? undefined : FAMILY_HEADER[message.type]) ?? [4, {}];
    messages.push({
      type: message.type,
      flags: message.flags & ~NLM_F_ACK & ~(message.type >= 0x0a00 ? NLM_F_EXCL : 0),
      body: tree(message.bytes, message.start, message.end, { ...schema, header }),
    });
  });
  return messages;
}

function ours(encode: (w: ByteWriter) => void): unknown[] {
  const w = new ByteWriter(8); // small: every request makes it grow
  encode(w);
  return canonical(w.copy());
}

function answers(start: string): Message[] {
  const messages: Message[] = [];
  for (const hex of exchange(start).received) {
    const bytes = new Uint8Array(Buffer.from(hex, 'hex'));
    eachMessage(bytes, bytes.length, (message) => {
      if (message.type !== NLMSG_ERROR && message.type !== NLMSG_DONE) messages.push(message);
    });
  }
  return messages;
}

const mac = (last: string) => parseMac(`02:00:00:00:00:${last}`);
/** Indices in the capture's namespace. */
const [V1, V0, B0] = [2, 3, 4];

const RULE = {
  family: 4,
  priority: 512,
  from: parseCidr('10.0.0.0/24'),
  to: parseCidr('10.1.0.0/16'),
  iifname: 'v0',
  fwmark: 1,
  fwmask: 0x7f,
  table: 20481,
  suppressPrefixLength: 0,
} as const;

const REQUESTS: [string, RtOp][] = [
  [
    'ip link add v0 address',
    {
      op: 'veth-add',
      name: 'v0',
      mac: mac('01'),
      mtu: 9001,
      group: 7,
      txqlen: 100,
      peer: { name: 'v1', mac: mac('02'), mtu: 1400 },
    },
  ],
  ['ip link add b0', { op: 'bridge-add', name: 'b0', mac: mac('03'), ageingTime: 300, mcastSnooping: false }],
  ['ip link set v0 up', { op: 'link-set', index: V0, up: true }],
  ['ip link set v1 master', { op: 'link-set', index: V1, master: B0 }],
  [
    'ip link set v1 type bridge_slave',
    { op: 'link-set', index: V1, port: { isolated: true, learning: false, neighSuppress: true } },
  ],
  ['ip link set v0 alias', { op: 'link-set', index: V0, alias: 'podway' }],
  ['ip addr add', { op: 'addr-add', index: V0, ip: parseIp('10.0.0.5'), length: 24, noPrefixRoute: true }],
  ['ip -6 addr add', { op: 'addr-add', index: V0, ip: parseIp('fd00::5'), length: 64, noDad: true }],
  ['ip neigh replace', { op: 'neigh-replace', index: V0, ip: parseIp('169.254.1.1'), mac: mac('09') }],
  ['ip route add 169', { op: 'route-add', dst: parseCidr('169.254.1.1/32'), table: 254, oif: V0 }],
  [
    'ip route add default',
    {
      op: 'route-add',
      dst: parseCidr('0.0.0.0/0'),
      table: 20481,
      gateway: parseIp('169.254.1.1'),
      oif: V0,
      src: parseIp('10.0.0.5'),
      mtu: 1400,
      metric: 9,
      onlink: true,
    },
  ],
  [
    'ip route replace blackhole',
    { op: 'route-replace', dst: parseCidr('10.9.0.0/16'), table: 100, type: 'blackhole' },
  ],
  [
    'ip -6 route add',
    { op: 'route-add', dst: parseCidr('fd00:1::/64'), table: 20481, oif: V0, metric: 1024 },
  ],
  ['ip route del', { op: 'route-del', dst: parseCidr('169.254.1.1/32'), table: 254, oif: V0 }],
  ['ip rule add', { op: 'rule-add', ...RULE }],
  ['ip rule del', { op: 'rule-del', ...RULE }],
  ['bridge fdb replace', { op: 'fdb-replace', index: V1, mac: mac('77'), permanent: 'master-static' }],
  ['ip link del v0', { op: 'link-del', index: V0 }],
  ['ip link del group 7', { op: 'group-del', group: 7 }],
];

describe('requests are those of iproute2', () => {
  for (const [command, op] of REQUESTS) {
    test(command, () => {
      const theirs = canonical(new Uint8Array(Buffer.from(exchange(command).sent[0]!, 'hex')));
      assert.deepEqual(
        ours((w) => encodeRtOp(w, op)),
        theirs,
      );
    });
  }
});

const key = Uint8Array.of(10, 0, 0, 1);
const ELEMENTS: [string, NftElementOp][] = [
  [
    'nft add element inet t m',
    { op: 'add', family: 'inet', table: 't', set: 'm', key, verdict: { kind: 'jump', chain: 'c' } },
  ],
  [
    'nft add element inet t s',
    {
      op: 'add',
      family: 'inet',
      table: 't',
      set: 's',
      key: concatKey(Uint8Array.of(10, 0, 0, 0), Uint8Array.of(0, 80)),
      keyEnd: concatKey(Uint8Array.of(10, 0, 0, 255), Uint8Array.of(0, 90)),
    },
  ],
];

describe('element batches are those of nft', () => {
  for (const [command, op] of ELEMENTS) {
    test(command, () => {
      const theirs = canonical(new Uint8Array(Buffer.from(exchange(command).sent[0]!, 'hex')));
      const batch = ours((w) => {
        beginBatch(w);
        encodeElementOp(w, op);
        endBatch(w);
      });
      assert.deepEqual(batch, theirs);
    });
  }
});

describe('answers of the kernel', () => {
  test('link', () => {
    const link = answers('ip -d link show v1')
      .filter(({ type }) => type === 16)
      .map(decodeLink)
      .find(({ name }) => name === 'v1');
    assert.deepEqual(link, {
      index: V1,
      name: 'v1',
      mac: mac('02'),
      mtu: 1400,
      up: false,
      running: false,
      kind: 'veth',
      masterIndex: B0,
      peerIndex: V0,
      peerNetnsId: null,
      group: 0,
      alias: null,
      port: {
        hairpin: false,
        learning: false,
        flood: true,
        mcastFlood: true,
        bcastFlood: true,
        neighSuppress: true,
        isolated: true,
        proxyArp: false,
      },
    });
  });

  test('addresses', () => {
    const found = answers('ip addr show')
      .filter(({ type }) => type === 20)
      .map(decodeAddress);
    assert.deepEqual(
      found.map((it) => it && `${formatIp(it.ip)}/${it.length} ${it.noPrefixRoute}`),
      ['10.0.0.5/24 true', 'fd00::5/64 false'],
    );
  });

  test('neighbour', () => {
    const found = answers('ip neigh show')
      .filter(({ type }) => type === 28)
      .map(decodeNeighbour);
    const wanted = {
      index: V0,
      ip: parseIp('169.254.1.1'),
      mac: mac('09'),
      state: 'permanent',
      extLearn: false,
      proxy: false,
    };
    assert.deepEqual(
      found.filter((it) => it?.state === 'permanent'),
      [wanted],
    );
  });

  test('route', () => {
    const found = answers('ip route show')
      .filter(({ type }) => type === 24)
      .map(decodeRoute);
    assert.deepEqual(found, [
      {
        dst: parseCidr('0.0.0.0/0'),
        table: 20481,
        type: 'unicast',
        gateway: parseIp('169.254.1.1'),
        oif: V0,
        src: parseIp('10.0.0.5'),
        scope: 'universe',
        protocol: 80,
        metric: 9,
        onlink: true,
        mtu: 1400,
        advmss: null,
      },
    ]);
  });

  test('rule', () => {
    const found = answers('ip rule show')
      .map(decodeRule)
      .find((it) => it?.priority === 512);
    assert.equal(found && `${formatCidr(found.from!)} ${formatCidr(found.to!)}`, '10.0.0.0/24 10.1.0.0/16');
    const { fwmark, fwmask, table, protocol, suppressPrefixLength, iifname, action } = found!;
    assert.deepEqual(
      [fwmark, fwmask, table, protocol, suppressPrefixLength, iifname, action],
      [1, 0x7f, 20481, 80, 0, 'v0', 'lookup'],
    );
  });

  test('forwarding entry', () => {
    const found = answers('bridge fdb show')
      .filter(({ type }) => type === 28)
      .map(decodeFdb);
    const wanted = { index: V1, mac: mac('77'), masterIndex: B0, state: 'noarp', extLearn: false };
    assert.deepEqual(
      found.find((it) => it?.mac === mac('77')),
      wanted,
    );
  });

  test('elements', () => {
    const elements = (command: string) =>
      answers(command)
        .filter(({ type }) => type === 0x0a0c)
        .flatMap(decodeElements);
    const [verdict] = elements('nft list map inet t m');
    assert.deepEqual([verdict?.key, verdict?.verdict], [key, { kind: 'jump', chain: 'c' }]);
    const [range] = elements('nft list set inet t s');
    assert.deepEqual([hexOf(range!.key), hexOf(range!.keyEnd!)], ['0a00000000500000', '0a0000ff005a0000']);
  });

  test('conntrack entry', () => {
    const [entry] = answers('conntrack -L').map(decodeConntrack);
    assert.equal(formatIp(entry!.reply.dst), '192.0.2.4');
    const { orig, mark, status, tcpState, zone } = entry!;
    assert.deepEqual(
      [orig.protocol, orig.sport, orig.dport, mark, tcpState, zone],
      [6, 1234, 80, 7, 'established', 0],
    );
    // IPS_ASSURED of enum ip_conntrack_status.
    assert.notEqual(status & (1 << 2), 0);
  });
});
