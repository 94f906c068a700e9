// Packets that rules of a namespace hand to a group of the kernel's log. The event loop waits for the socket, as in
// monitor.ts; a burst is read in slices. Fails with NetlinkError EBUSY while another socket has the group.
import { NetlinkError } from './errors.ts';
import { koffi } from './ffi.ts';
import { ByteWriter } from './netlink/bytes.ts';
import { decodeLogged, encodeLogBind, type LoggedPacket } from './netlink/packet-log.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './netlink/socket.ts';
import type { Netns } from './netns.ts';

/** Datagrams per turn of the event loop. */
const DATAGRAMS_PER_TURN = 64;

/** Keeps the handles from the garbage collector, which would close them. */
const watched = new Set<unknown>();

/** `onLost`: the socket's buffer was full, and some packets are not told. */
export function watchPacketLog(
  ns: Netns,
  { group, bytes }: { group: number; bytes: number },
  onPacket: (packet: LoggedPacket) => void,
  onLost: () => void,
): { close(): void } {
  const socket = NetlinkSocket.open(NETLINK_NETFILTER, { ns });
  const w = new ByteWriter(128);
  encodeLogBind(w, group, bytes);
  let refusal: NetlinkError | undefined;
  socket.transact(w, (_place, answer) => {
    refusal ??= new NetlinkError({ op: `log group ${group}`, index: 0, ...answer });
  });
  if (refusal) {
    socket.close();
    throw refusal;
  }
  let closed = false;
  let scheduled = false;
  const read = () => {
    scheduled = false;
    if (closed) return;
    const packets: LoggedPacket[] = [];
    const state = socket.drain(DATAGRAMS_PER_TURN, (message) => {
      const packet = decodeLogged(message);
      if (packet) packets.push(packet);
    });
    if (state === 'lost') onLost();
    for (const packet of packets) if (!closed) onPacket(packet);
  };
  const handle = koffi().node.poll(socket.fd, { readable: true }, () => {
    if (!scheduled && !closed) setImmediate(read);
    scheduled = true;
  });
  handle.unref();
  watched.add(handle);
  return {
    close() {
      if (closed) return;
      closed = true;
      watched.delete(handle);
      handle.close();
      socket.close();
    },
  };
}
