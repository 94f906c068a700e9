// Elements of nftables sets and maps (NFT_MSG_NEWSETELEM, DELSETELEM, GETSETELEM). Keys and data are raw bytes as the
// kernel compares them: each field of a concatenation padded to four bytes, addresses and ports in network order,
// marks in host order. A range in a concatenated interval set is one element with key and keyEnd; in a plain interval
// set it is two elements, the second (one past the end) with `intervalEnd`.
import {
  Attributes,
  beginNest,
  eachAttribute,
  endNest,
  putBytes,
  putText,
  putU32be,
  putU64be,
} from './attribute.ts';
import { align4, type ByteWriter } from './bytes.ts';
import { endMessage, type Message, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from './message.ts';
import {
  beginNetfilter,
  NFGEN_LENGTH,
  NFT_FAMILIES,
  type NftFamily,
  SUBSYSTEM_NFTABLES,
} from './nfnetlink-header.ts';

const NFT_MSG_GETSET = 10;
const NFT_MSG_NEWSETELEM = 12;
const NFT_MSG_GETSETELEM = 13;
const NFT_MSG_DELSETELEM = 14;
const NFNL_MSG_BATCH_BEGIN = 0x10;
const NFNL_MSG_BATCH_END = 0x11;

const NFTA_SET_TABLE = 1;
const NFTA_SET_NAME = 2;
const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_SET_ELEM_FLAGS = 3;
const NFTA_SET_ELEM_TIMEOUT = 4;
const NFTA_SET_ELEM_KEY_END = 10;
const NFTA_DATA_VALUE = 1;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_VERDICT_CHAIN = 2;
const NFT_SET_ELEM_INTERVAL_END = 1;

/** enum nft_verdicts and NF_DROP, NF_ACCEPT. */
const VERDICTS = { drop: 0, accept: 1, continue: -1, break: -2, jump: -3, goto: -4, return: -5 } as const;
export type VerdictKind = keyof typeof VERDICTS;
const verdictNames = new Map<number, VerdictKind>(
  Object.entries(VERDICTS).map(([name, code]) => [code, name as VerdictKind]),
);

export type Verdict = { kind: VerdictKind; chain?: string };

export type NftElementOp = {
  /** flush takes every element out of the set; it has no key. */
  op: 'add' | 'del' | 'flush';
  family: NftFamily;
  table: string;
  set: string;
  key?: Uint8Array;
  /** Last key of a range, in a concatenated interval set. */
  keyEnd?: Uint8Array;
  /** The key is the end (exclusive) of a range in a plain interval set. */
  intervalEnd?: boolean;
  /** Value of a map. */
  data?: Uint8Array;
  /** Value of a verdict map. */
  verdict?: Verdict;
  /** Milliseconds until the kernel removes the element by itself (sets with the timeout flag). */
  timeout?: number;
};

export type NftElement = {
  key: Uint8Array;
  keyEnd: Uint8Array | null;
  intervalEnd: boolean;
  data: Uint8Array | null;
  verdict: Verdict | null;
};

/** Joins the fields of a concatenated key, each padded to four bytes as the kernel's registers are. */
export function concatKey(...fields: readonly Uint8Array[]): Uint8Array {
  const key = new Uint8Array(fields.reduce((sum, field) => sum + align4(field.length), 0));
  let at = 0;
  for (const field of fields) {
    key.set(field, at);
    at += align4(field.length);
  }
  return key;
}

export function beginBatch(w: ByteWriter): void {
  endMessage(w, beginNetfilter(w, 0, NFNL_MSG_BATCH_BEGIN, 0, 0, SUBSYSTEM_NFTABLES));
}

export function endBatch(w: ByteWriter): void {
  endMessage(w, beginNetfilter(w, 0, NFNL_MSG_BATCH_END, 0, 0, SUBSYSTEM_NFTABLES));
}

function putValue(w: ByteWriter, type: number, value: Uint8Array): void {
  const at = beginNest(w, type);
  putBytes(w, NFTA_DATA_VALUE, value);
  endNest(w, at);
}

function putVerdict(w: ByteWriter, verdict: Verdict): void {
  const data = beginNest(w, NFTA_SET_ELEM_DATA);
  const at = beginNest(w, NFTA_DATA_VERDICT);
  putU32be(w, NFTA_VERDICT_CODE, VERDICTS[verdict.kind]);
  if (verdict.chain !== undefined) putText(w, NFTA_VERDICT_CHAIN, verdict.chain);
  endNest(w, at);
  endNest(w, data);
}

/** One message per operation, so that a refusal names its operation. */
export function encodeElementOp(w: ByteWriter, op: NftElementOp): void {
  const adds = op.op === 'add';
  const message = beginNetfilter(
    w,
    SUBSYSTEM_NFTABLES,
    adds ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
    adds ? NLM_F_CREATE | NLM_F_EXCL : 0,
    NFT_FAMILIES[op.family],
  );
  putText(w, NFTA_SET_ELEM_LIST_TABLE, op.table);
  putText(w, NFTA_SET_ELEM_LIST_SET, op.set);
  if (op.op !== 'flush') {
    if (op.key === undefined) throw new TypeError(`an element of ${op.table} ${op.set} needs a key`);
    const list = beginNest(w, NFTA_SET_ELEM_LIST_ELEMENTS);
    const element = beginNest(w, NFTA_LIST_ELEM);
    putValue(w, NFTA_SET_ELEM_KEY, op.key);
    if (op.keyEnd !== undefined) putValue(w, NFTA_SET_ELEM_KEY_END, op.keyEnd);
    if (op.intervalEnd) putU32be(w, NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
    if (adds && op.timeout !== undefined) putU64be(w, NFTA_SET_ELEM_TIMEOUT, BigInt(op.timeout));
    if (adds && op.data !== undefined) putValue(w, NFTA_SET_ELEM_DATA, op.data);
    if (adds && op.verdict !== undefined) putVerdict(w, op.verdict);
    endNest(w, element);
    endNest(w, list);
  }
  endMessage(w, message);
}

/** A request for one set, without its elements. */
export function encodeSetGet(w: ByteWriter, family: NftFamily, table: string, set: string): void {
  const message = beginNetfilter(w, SUBSYSTEM_NFTABLES, NFT_MSG_GETSET, 0, NFT_FAMILIES[family]);
  putText(w, NFTA_SET_TABLE, table);
  putText(w, NFTA_SET_NAME, set);
  endMessage(w, message);
}

export function encodeElementDump(w: ByteWriter, family: NftFamily, table: string, set: string): void {
  const message = beginNetfilter(w, SUBSYSTEM_NFTABLES, NFT_MSG_GETSETELEM, NLM_F_DUMP, NFT_FAMILIES[family]);
  putText(w, NFTA_SET_ELEM_LIST_TABLE, table);
  putText(w, NFTA_SET_ELEM_LIST_SET, set);
  endMessage(w, message);
}

function decodeElement(attributes: Attributes): NftElement {
  const data = attributes.nest(NFTA_SET_ELEM_DATA);
  const verdict = data?.nest(NFTA_DATA_VERDICT);
  const value = (nest: Attributes | undefined) => nest?.payload(NFTA_DATA_VALUE)?.slice() ?? null;
  const element: NftElement = {
    key: value(attributes.nest(NFTA_SET_ELEM_KEY)) ?? new Uint8Array(0),
    keyEnd: value(attributes.nest(NFTA_SET_ELEM_KEY_END)),
    intervalEnd: ((attributes.u32be(NFTA_SET_ELEM_FLAGS) ?? 0) & NFT_SET_ELEM_INTERVAL_END) !== 0,
    data: value(data),
    verdict: null,
  };
  if (verdict) {
    const chain = verdict.text(NFTA_VERDICT_CHAIN);
    element.verdict = {
      kind: verdictNames.get((verdict.u32be(NFTA_VERDICT_CODE) ?? 0) | 0) ?? 'drop',
      ...(chain === undefined ? {} : { chain }),
    };
  }
  return element;
}

export function decodeElements(message: Message): NftElement[] {
  const elements: NftElement[] = [];
  const list = new Attributes(message.bytes, message.start + NFGEN_LENGTH, message.end).payload(
    NFTA_SET_ELEM_LIST_ELEMENTS,
  );
  if (list) {
    eachAttribute(list, 0, list.length, (type, at, length) => {
      if (type === NFTA_LIST_ELEM) elements.push(decodeElement(new Attributes(list, at, at + length)));
    });
  }
  return elements;
}
