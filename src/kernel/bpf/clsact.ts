// Programs on a link before Linux 6.6: a qdisc clsact, and on each hook a filter of kind bpf with direct action.
// Ours are known by their priority; a filter of that priority that bears another's name is not touched by observation,
// but no other program is known to use it. Everything is gone with the link; the qdisc may be others' too and stays.
import { ENOENT, NetlinkError } from '../errors.ts';
import { Attributes, beginNest, endNest, putText, putU32 } from '../netlink/attribute.ts';
import { ByteWriter, textFromBytes } from '../netlink/bytes.ts';
import {
  beginMessage,
  endMessage,
  type Message,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REPLACE,
} from '../netlink/message.ts';
import { NETLINK_ROUTE, NetlinkSocket } from '../netlink/socket.ts';
import type { Netns } from '../netns.ts';
import type { Hook, LoadedProgram } from './syscall.ts';

const RTM_NEWQDISC = 36;
const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;

const TC_H_CLSACT = 0xfffffff1;
const PARENT = { ingress: 0xfffffff2, egress: 0xfffffff3 } as const;
const CLSACT_HANDLE = 0xffff0000;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_BPF_FD = 6;
const TCA_BPF_NAME = 7;
const TCA_BPF_FLAGS = 8;
const ACT_DIRECT = 1;
/** Of our filters, among those of others on the hook; the protocol number of our routes, twice. */
const PRIORITY = 0x5050;
const HANDLE = 1;
const ETH_P_ALL_BE = 0x0300;
const EEXIST = 17;
const EINVAL = 22;

/** struct tcmsg. */
function putHeader(w: ByteWriter, index: number, handle: number, parent: number, info: number): void {
  const at = w.take(20);
  w.view.setInt32(at + 4, index, true);
  w.view.setUint32(at + 8, handle, true);
  w.view.setUint32(at + 12, parent, true);
  w.view.setUint32(at + 16, info, true);
}

const filterInfo = ((PRIORITY << 16) | ETH_P_ALL_BE) >>> 0;

/** One request on a socket of its own; refusals with these numbers are no failure. */
function ask(ns: Netns, what: string, index: number, fill: (w: ByteWriter) => void, fine: number[]): void {
  using socket = NetlinkSocket.open(NETLINK_ROUTE, { ns, brief: true });
  const w = new ByteWriter(256);
  fill(w);
  socket.transact(w, (_place, answer) => {
    if (!fine.includes(answer.errno))
      throw new NetlinkError({ op: what, index: 0, detail: `link ${index}`, ...answer });
  });
}

/** Makes the qdisc unless it is there, then the filter, or gives the present filter this program in one step. */
export function clsactAttach(ns: Netns, index: number, hook: Hook, program: LoadedProgram): void {
  const qdisc = (w: ByteWriter) => {
    const message = beginMessage(w, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
    putHeader(w, index, CLSACT_HANDLE, TC_H_CLSACT, 0);
    putText(w, TCA_KIND, 'clsact');
    endMessage(w, message);
  };
  ask(ns, 'qdisc clsact', index, qdisc, [EEXIST]);
  const filter = (w: ByteWriter) => {
    const message = beginMessage(w, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_REPLACE);
    putHeader(w, index, HANDLE, PARENT[hook], filterInfo);
    putText(w, TCA_KIND, 'bpf');
    const options = beginNest(w, TCA_OPTIONS);
    putU32(w, TCA_BPF_FD, program.fd);
    putText(w, TCA_BPF_NAME, program.name);
    putU32(w, TCA_BPF_FLAGS, ACT_DIRECT);
    endNest(w, options);
    endMessage(w, message);
  };
  ask(ns, `filter ${program.name} (${hook})`, index, filter, []);
}

/** Takes our filter away; one that is not there, or whose qdisc is not, is away. */
export function clsactDetach(ns: Netns, index: number, hook: Hook): void {
  const filter = (w: ByteWriter) => {
    const message = beginMessage(w, RTM_DELTFILTER, 0);
    putHeader(w, index, 0, PARENT[hook], filterInfo);
    endMessage(w, message);
  };
  ask(ns, `end of filter (${hook})`, index, filter, [ENOENT, EINVAL]);
}

/** Names of the programs that stand at our priority. */
export function clsactPrograms(ns: Netns, index: number, hook: Hook): string[] {
  using socket = NetlinkSocket.open(NETLINK_ROUTE, { ns });
  const w = new ByteWriter(256);
  const message = beginMessage(w, RTM_GETTFILTER, NLM_F_DUMP);
  putHeader(w, index, 0, PARENT[hook], 0);
  endMessage(w, message);
  let names: string[] = [];
  try {
    socket.dump(
      w,
      `filters of link ${index}`,
      (part) => names.push(...nameOf(part, index, hook)),
      () => {
        names = [];
      },
    );
  } catch (error) {
    // Without a qdisc there is no hook to ask.
    if (error instanceof NetlinkError && (error.errno === EINVAL || error.errno === ENOENT)) return [];
    throw error;
  }
  return names;
}

function nameOf(message: Message, index: number, hook: Hook): string[] {
  const view = new DataView(message.bytes.buffer, message.bytes.byteOffset + message.start, 20);
  const isOurs =
    view.getInt32(4, true) === index &&
    view.getUint32(12, true) === PARENT[hook] &&
    view.getUint32(16, true) >>> 16 === PRIORITY;
  if (!isOurs) return [];
  const options = new Attributes(message.bytes, message.start + 20, message.end).nest(TCA_OPTIONS);
  const name = options?.payload(TCA_BPF_NAME);
  return name === undefined ? [] : [textFromBytes(name)];
}
