// Base chains of nftables (called by the kernel), and what a rule does with all packets of some links. Reads only, to
// find foreign chains that drop pods' packets. Our own table is written through libnftables.
import type { ForwardRule } from '../forward-rules.ts';
import { Attributes, eachAttribute, putText } from './attribute.ts';
import type { ByteWriter } from './bytes.ts';
import { endMessage, type Message, NLM_F_DUMP } from './message.ts';
import { beginNetfilter, NFGEN_LENGTH, SUBSYSTEM_NFTABLES } from './nfnetlink-header.ts';

const NFT_MSG_GETCHAIN = 4;
const NFT_MSG_GETRULE = 7;
const NFTA_CHAIN_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const NFTA_CHAIN_HOOK = 4;
const NFTA_CHAIN_POLICY = 5;
const NFTA_HOOK_HOOKNUM = 1;
const NFTA_RULE_TABLE = 1;
const NFTA_RULE_CHAIN = 2;
const NFTA_RULE_EXPRESSIONS = 4;
const NFTA_LIST_ELEM = 1;
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;
const NFTA_IMMEDIATE_DATA = 2;
const NFTA_DATA_VERDICT = 2;
const NFTA_VERDICT_CODE = 1;
const NFTA_DATA_VALUE = 1;
const NFTA_TARGET_NAME = 1;
const NFTA_META_KEY = 2;
const NFTA_CMP_OP = 2;
const NFTA_CMP_DATA = 3;
const NFT_CMP_EQ = 0;
const NFT_META_IIFNAME = 6;
const NFT_META_OIFNAME = 7;
const NF_DROP = 0;
const NF_ACCEPT = 1;

/** NF_INET_FORWARD: what the node passes on. */
export const HOOK_FORWARD = 2;

export type BaseChain = { family: number; table: string; name: string; hook: number; drops: boolean };

export function encodeChainDump(w: ByteWriter): void {
  endMessage(w, beginNetfilter(w, SUBSYSTEM_NFTABLES, NFT_MSG_GETCHAIN, NLM_F_DUMP, 0));
}

/** Null for a chain that is no base chain. `drops`: its policy is drop. */
export function decodeBaseChain(message: Message): BaseChain | null {
  const attributes = new Attributes(message.bytes, message.start + NFGEN_LENGTH, message.end);
  const hook = attributes.nest(NFTA_CHAIN_HOOK)?.u32be(NFTA_HOOK_HOOKNUM);
  if (hook === undefined) return null;
  return {
    family: message.bytes[message.start]!,
    table: attributes.text(NFTA_CHAIN_TABLE) ?? '',
    name: attributes.text(NFTA_CHAIN_NAME) ?? '',
    hook,
    drops: attributes.u32be(NFTA_CHAIN_POLICY) === NF_DROP,
  };
}

export function encodeRuleDump(w: ByteWriter, { family, table, name }: BaseChain): void {
  const message = beginNetfilter(w, SUBSYSTEM_NFTABLES, NFT_MSG_GETRULE, NLM_F_DUMP, family);
  putText(w, NFTA_RULE_TABLE, table);
  putText(w, NFTA_RULE_CHAIN, name);
  endMessage(w, message);
}

/** Expressions that match nothing and decide nothing. */
const SILENT = new Set(['counter', 'log']);

/** The rule of a forward chain; `prefix` is of links' names, compared as `iifname "pw*"` and as iptables' `-i pw+`. */
export function forwardRule(message: Message, prefix: string): ForwardRule {
  const list = new Attributes(message.bytes, message.start + NFGEN_LENGTH, message.end).payload(
    NFTA_RULE_EXPRESSIONS,
  );
  if (!list) return 'other';
  let verdict: number | undefined;
  let key: number | undefined;
  const conditions: string[] = [];
  eachAttribute(list, 0, list.length, (type, at, length) => {
    if (type !== NFTA_LIST_ELEM) return;
    const expression = new Attributes(list, at, at + length);
    const name = expression.text(NFTA_EXPR_NAME) ?? '';
    const data = expression.nest(NFTA_EXPR_DATA);
    // iptables-nft keeps its own REJECT.
    if (name === 'reject' || (name === 'target' && data?.text(NFTA_TARGET_NAME) === 'REJECT'))
      verdict = NF_DROP;
    else if (name === 'immediate')
      verdict = data?.nest(NFTA_IMMEDIATE_DATA)?.nest(NFTA_DATA_VERDICT)?.u32be(NFTA_VERDICT_CODE);
    else if (name === 'meta') key = data?.u32be(NFTA_META_KEY);
    else if (name === 'cmp') conditions.push(comparison(key, data));
    else if (!SILENT.has(name)) conditions.push('unknown');
  });
  if (verdict === NF_DROP) return conditions.length === 0 ? 'drops-all' : 'other';
  if (verdict === NF_ACCEPT && conditions.length === 0) return 'accepts-all';
  if (verdict !== NF_ACCEPT || conditions.length !== 1) return 'other';
  if (conditions[0] === `${NFT_META_IIFNAME} ${prefix}`) return 'accepts-from';
  return conditions[0] === `${NFT_META_OIFNAME} ${prefix}` ? 'accepts-to' : 'other';
}

function comparison(key: number | undefined, data: Attributes | undefined): string {
  const value = data?.nest(NFTA_CMP_DATA)?.payload(NFTA_DATA_VALUE);
  if (data?.u32be(NFTA_CMP_OP) !== NFT_CMP_EQ || !value) return 'unknown';
  return `${key} ${Buffer.from(value).toString('latin1')}`;
}
