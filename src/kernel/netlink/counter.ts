// Counters of nftables: named objects of a table, and those within the rules of a chain. Reads only.
import { Attributes, eachAttribute, putText, putU32be } from './attribute.ts';
import type { ByteWriter } from './bytes.ts';
import { endMessage, type Message, NLM_F_DUMP } from './message.ts';
import {
  beginNetfilter,
  NFGEN_LENGTH,
  NFT_FAMILIES,
  type NftFamily,
  SUBSYSTEM_NFTABLES,
} from './nfnetlink-header.ts';

const NFT_MSG_GETRULE = 7;
const NFT_MSG_GETOBJ = 19;
const NFTA_OBJ_TABLE = 1;
const NFTA_OBJ_NAME = 2;
const NFTA_OBJ_TYPE = 3;
const NFTA_OBJ_DATA = 4;
const NFT_OBJECT_COUNTER = 1;
const NFTA_COUNTER_PACKETS = 2;
const NFTA_RULE_TABLE = 1;
const NFTA_RULE_CHAIN = 2;
const NFTA_RULE_EXPRESSIONS = 4;
const NFTA_LIST_ELEM = 1;
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;

export function encodeCounterDump(w: ByteWriter, family: NftFamily, table: string): void {
  const message = beginNetfilter(w, SUBSYSTEM_NFTABLES, NFT_MSG_GETOBJ, NLM_F_DUMP, NFT_FAMILIES[family]);
  putText(w, NFTA_OBJ_TABLE, table);
  putU32be(w, NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
  endMessage(w, message);
}

/** Null for what is no counter of the table. */
export function decodeCounter(message: Message, table: string): { name: string; packets: number } | null {
  const attributes = new Attributes(message.bytes, message.start + NFGEN_LENGTH, message.end);
  if (attributes.text(NFTA_OBJ_TABLE) !== table || attributes.u32be(NFTA_OBJ_TYPE) !== NFT_OBJECT_COUNTER)
    return null;
  const packets = attributes.nest(NFTA_OBJ_DATA)?.u64be(NFTA_COUNTER_PACKETS);
  return { name: attributes.text(NFTA_OBJ_NAME) ?? '', packets: Number(packets ?? 0n) };
}

export function encodeChainRuleDump(w: ByteWriter, family: NftFamily, table: string, chain: string): void {
  const message = beginNetfilter(w, SUBSYSTEM_NFTABLES, NFT_MSG_GETRULE, NLM_F_DUMP, NFT_FAMILIES[family]);
  putText(w, NFTA_RULE_TABLE, table);
  putText(w, NFTA_RULE_CHAIN, chain);
  endMessage(w, message);
}

/** Packets of each counter in the rule. */
export function decodeRuleCounters(message: Message): number[] {
  const list = new Attributes(message.bytes, message.start + NFGEN_LENGTH, message.end).payload(
    NFTA_RULE_EXPRESSIONS,
  );
  const found: number[] = [];
  if (!list) return found;
  eachAttribute(list, 0, list.length, (type, at, length) => {
    if (type !== NFTA_LIST_ELEM) return;
    const expression = new Attributes(list, at, at + length);
    if (expression.text(NFTA_EXPR_NAME) !== 'counter') return;
    found.push(Number(expression.nest(NFTA_EXPR_DATA)?.u64be(NFTA_COUNTER_PACKETS) ?? 0n));
  });
  return found;
}
