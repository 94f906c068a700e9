// nat64: the IPv6 side of one NAT gateway, in whose namespace it is started. Packets to 64:ff9b::/96 arrive on the device
// `nat64` and leave as IPv4 on `nat46`, and back (RFC 7915, RFC 6052). Each IPv6 source has one address of 240.0.0.0/18;
// the kernel's own IPv4 NAT does the rest. The address follows from the source by a hash, so that it outlives a restart.
// TCP, UDP, ICMP echo and errors; of other protocols, and of what cannot be read, nothing passes. Fragments of TCP and
// UDP pass one by one; those of ICMP, whose checksum needs the whole, are put together first.
// Bounded: SOURCES sources (one that was silent for IDLE_S gives its address up), REASSEMBLIES datagrams in parts.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/route.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum {
	SOURCES = 16384, PROBES = 64, IDLE_S = 400, // longer than the kernel keeps a silent flow there (350 s)
	REASSEMBLIES = 32, REASSEMBLY_S = 10, MOST_PARTS = 64,
	ROOM = 65536, HEAD4 = 20, HEAD6 = 40, FRAGMENT = 8, MTU6 = 9001, MTU4 = MTU6 - HEAD6 - FRAGMENT + HEAD4, LEAST_MTU6 = 1280,
	TURNS = 64, // packets of one device before the other's turn
	TCP = 6, UDP = 17, ICMP = 1, ICMP6 = 58, HOP_BY_HOP = 0, ROUTING = 43, FRAGMENTED = 44, OPTIONS = 60,
};
static const uint8_t PREFIX[12] = {0x00, 0x64, 0xff, 0x9b};
static const uint32_t POOL = 0xf0000000;

struct source { uint8_t address[16]; time_t used; };
static struct source sources[SOURCES];
static time_t now;

static unsigned get16(const uint8_t *p) { return (unsigned)(p[0] << 8 | p[1]); }
static void put16(uint8_t *p, unsigned v) { p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v; }
static uint32_t get32(const uint8_t *p) { return (uint32_t)get16(p) << 16 | get16(p + 2); }
static void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16), put16(p + 2, v & 0xffff); }

static uint32_t sum(const uint8_t *p, size_t length, uint32_t from) {
	uint64_t total = from;
	for (; length > 1; p += 2, length -= 2) total += get16(p);
	if (length) total += (uint32_t)p[0] << 8;
	while (total >> 16) total = (total & 0xffff) + (total >> 16);
	return (uint32_t)total;
}
static unsigned fold(uint32_t total) {
	while (total >> 16) total = (total & 0xffff) + (total >> 16);
	return total;
}
/** A checksum after `was` became `is` (RFC 1624). */
static void adjust(uint8_t *field, uint32_t was, uint32_t is) {
	put16(field, ~fold((~get16(field) & 0xffff) + (~fold(was) & 0xffff) + fold(is)) & 0xffff);
}
static uint32_t pseudo6(const uint8_t *head, size_t length, unsigned protocol) { return sum(head + 8, 32, (uint32_t)(length >> 16) + (length & 0xffff) + protocol); }

/** The place of an IPv6 source, or -1 when all that it could have are in use. */
static int place_of(const uint8_t *address, bool add) {
	uint32_t hash = 2166136261u;
	for (int i = 0; i < 16; i++) hash = (hash ^ address[i]) * 16777619u;
	hash ^= hash >> 15;
	int open = -1;
	for (int i = 0; i < PROBES; i++) {
		int place = (int)((hash + (uint32_t)i) % SOURCES);
		struct source *it = &sources[place];
		if (it->used && !memcmp(it->address, address, 16)) return it->used = now, place;
		if (open < 0 && (!it->used || now - it->used > IDLE_S)) open = place;
	}
	if (open < 0 || !add) return -1;
	memcpy(sources[open].address, address, 16);
	sources[open].used = now;
	return open;
}

/** IPv4 address that stands for an IPv6 one; false when none does. */
static bool to4(const uint8_t *six, uint8_t *four, bool add) {
	if (!memcmp(six, PREFIX, 12)) {
		uint8_t first = six[12];
		if (first == 0 || first == 127 || first >= 224) return false;
		memcpy(four, six + 12, 4);
		return true;
	}
	if ((six[0] & 0xe0) != 0x20 && (six[0] & 0xfe) != 0xfc) return false; // of sources, global and unique local ones
	int place = place_of(six, add);
	if (place < 0) return false;
	put32(four, POOL + (uint32_t)place);
	return true;
}
static bool to6(const uint8_t *four, uint8_t *six) {
	uint32_t address = get32(four), place = address - POOL;
	if (place < SOURCES) {
		if (!sources[place].used) return false;
		sources[place].used = now;
		memcpy(six, sources[place].address, 16);
		return true;
	}
	if (four[0] >= 224) return false;
	memcpy(six, PREFIX, 12);
	memcpy(six + 12, four, 4);
	return true;
}

struct part { // what a packet's own header says
	unsigned protocol, offset, id; // offset: of a fragment, in bytes
	bool fragment, more;
	size_t head, length; // of the head, and of what is there after it
	size_t whole;        // bytes after the head as the packet says, which an error's copy may not have all
};

/** Reads an IPv6 packet, past its extensions. `copy`: one in an error, which may end early. */
static bool read6(const uint8_t *p, size_t size, bool copy, struct part *out) {
	if (size < HEAD6 || p[0] >> 4 != 6) return false;
	size_t end = HEAD6 + get16(p + 4);
	if (end > size && !copy) return false;
	size_t there = end < size ? end : size, at = HEAD6;
	unsigned next = p[6];
	*out = (struct part){0};
	for (int i = 0; i < 8; i++) {
		if (next == HOP_BY_HOP || next == OPTIONS || next == ROUTING) {
			if (at + 8 > there || (next == ROUTING && p[at + 3] != 0)) return false;
			next = p[at], at += 8 + 8u * p[at + 1];
			if (at > there) return false;
		} else if (next == FRAGMENTED && !out->fragment) {
			if (at + FRAGMENT > there) return false;
			out->fragment = true, out->offset = get16(p + at + 2) & 0xfff8, out->more = p[at + 3] & 1, out->id = get16(p + at + 6);
			next = p[at], at += FRAGMENT;
			if (out->offset) break; // the rest is the middle of something
		} else break;
	}
	if (out->fragment && !out->offset && !out->more) out->fragment = false; // a whole datagram (RFC 6946)
	out->protocol = next, out->head = at, out->length = there - at, out->whole = end > at ? end - at : 0;
	return next == TCP || next == UDP || next == ICMP6;
}

static bool read4(const uint8_t *p, size_t size, bool copy, struct part *out) {
	if (size < HEAD4 || p[0] >> 4 != 4) return false;
	size_t head = (p[0] & 15u) * 4u, end = get16(p + 2);
	if (head < HEAD4 || head > size || end < head || (end > size && !copy)) return false;
	unsigned flags = get16(p + 6);
	*out = (struct part){.protocol = p[9], .offset = (flags & 0x1fff) * 8, .more = flags & 0x2000, .id = get16(p + 4), .head = head};
	out->fragment = out->offset || out->more;
	out->length = (end < size ? end : size) - head, out->whole = end - head;
	for (size_t at = HEAD4; at < head && p[at] != 0;) { // a source route is another destination than it says
		if (p[at] == 131 || p[at] == 137) return false;
		if (p[at] == 1) at++;
		else if (at + 1 >= head || p[at + 1] < 2) return false;
		else at += p[at + 1];
	}
	return out->protocol == TCP || out->protocol == UDP || out->protocol == ICMP;
}

static bool head4(uint8_t *out, const uint8_t *from, const struct part *part, size_t length, bool add) {
	static uint16_t id;
	unsigned flags = part->fragment ? part->offset / 8 | (part->more ? 0x2000 : 0) : length + HEAD4 > LEAST_MTU6 - HEAD4 ? 0x4000 : 0;
	memset(out, 0, HEAD4);
	out[0] = 0x45, out[1] = (uint8_t)(from[0] << 4 | from[1] >> 4);
	put16(out + 2, (unsigned)length + HEAD4);
	put16(out + 4, part->fragment ? part->id : flags ? 0 : ++id);
	put16(out + 6, flags);
	out[8] = from[7], out[9] = (uint8_t)(part->protocol == ICMP6 ? ICMP : part->protocol);
	if (length + HEAD4 > 65535 || !to4(from + 8, out + 12, add) || !to4(from + 24, out + 16, add)) return false;
	put16(out + 10, ~sum(out, HEAD4, 0) & 0xffff);
	return true;
}

/** Length of the new head; 0 when an address stands for none. */
static size_t head6(uint8_t *out, const uint8_t *from, const struct part *part, size_t length) {
	unsigned protocol = part->protocol == ICMP ? ICMP6 : part->protocol;
	size_t more = part->fragment ? FRAGMENT : 0;
	memset(out, 0, HEAD6 + FRAGMENT);
	out[0] = (uint8_t)(0x60 | from[1] >> 4), out[1] = (uint8_t)(from[1] << 4);
	put16(out + 4, (unsigned)(length + more));
	out[6] = (uint8_t)(more ? FRAGMENTED : protocol), out[7] = from[8];
	if (length + more > 65535 || !to6(from + 12, out + 8) || !to6(from + 16, out + 24)) return 0;
	if (more) {
		out[HEAD6] = (uint8_t)protocol;
		put16(out + HEAD6 + 2, part->offset | (part->more ? 1 : 0));
		put32(out + HEAD6 + 4, part->id);
	}
	return HEAD6 + more;
}

/** The checksum of TCP or UDP, whose pseudo header has other addresses now: 32 bytes of six, 8 of four. */
static void readdress(uint8_t *body, size_t length, unsigned protocol, uint32_t was, uint32_t is) {
	size_t field = protocol == TCP ? 16 : 6;
	if (length < field + 2 || (protocol == UDP && get16(body + 6) == 0)) return;
	adjust(body + field, was, is);
	if (protocol == UDP && get16(body + 6) == 0) put16(body + 6, 0xffff);
}

static size_t translate6(const uint8_t *p, size_t size, uint8_t *out, bool copy);
static size_t translate4(const uint8_t *p, size_t size, uint8_t *out, bool copy);

/** An ICMPv6 message as ICMP; the length, or 0. `head`: the IPv6 head; `whole`: bytes of the message when it is all there. */
static size_t icmp_of_icmp6(const uint8_t *head, const uint8_t *body, size_t length, size_t whole, uint8_t *out, bool copy) {
	if (length < 8) return 0;
	unsigned type = body[0], code = body[1];
	if (type == 128 || type == 129) {
		memcpy(out, body, length);
		out[0] = type == 128 ? 8 : 0;
		adjust(out + 2, pseudo6(head, whole, ICMP6) + get16(body), get16(out));
		return length;
	}
	if (copy) return 0; // no error tells of an error
	static const int unreachable[] = {1, 10, 1, 1, 3};
	memset(out, 0, 8);
	if (type == 1 && code < 5) out[0] = 3, out[1] = (uint8_t)unreachable[code];
	else if (type == 2) {
		uint32_t mtu = get32(body + 4);
		out[0] = 3, out[1] = 4;
		put16(out + 6, mtu > MTU6 ? MTU4 : mtu < LEAST_MTU6 ? LEAST_MTU6 - HEAD4 : mtu - HEAD4);
	} else if (type == 3) out[0] = 11, out[1] = (uint8_t)code;
	else if (type == 4 && code == 1) out[0] = 3, out[1] = 2;
	else return 0;
	size_t inner = translate6(body + 8, length - 8, out + 8, true);
	if (!inner) return 0;
	put16(out + 2, ~sum(out, inner + 8, 0) & 0xffff);
	return inner + 8;
}

/** An ICMP message as ICMPv6; `head` is the IPv6 head to be, whose addresses its checksum has in it. */
static size_t icmp6_of_icmp(const uint8_t *head, const uint8_t *body, size_t length, size_t whole, uint8_t *out, bool copy) {
	if (length < 8) return 0;
	unsigned type = body[0], code = body[1];
	if (type == 8 || type == 0) {
		memcpy(out, body, length);
		out[0] = type == 8 ? 128 : 129;
		adjust(out + 2, get16(body), pseudo6(head, whole, ICMP6) + get16(out));
		return length;
	}
	if (copy) return 0;
	static const int unreachable[] = {0, 0, -1, 4, -1, 0, 0, 0, 0, 1, 1, 0, 0, 1, -1, 1};
	memset(out, 0, 8);
	if (type == 3 && code == 4) {
		unsigned mtu = get16(body + 6) + HEAD4;
		out[0] = 2;
		put32(out + 4, mtu < LEAST_MTU6 ? LEAST_MTU6 : mtu > MTU6 ? MTU6 : mtu);
	} else if (type == 3 && code == 2) out[0] = 4, out[1] = 1, out[7] = 6;
	else if (type == 3 && code < 16 && unreachable[code] >= 0) out[0] = 1, out[1] = (uint8_t)unreachable[code];
	else if (type == 11) out[0] = 3, out[1] = (uint8_t)code;
	else return 0;
	size_t inner = translate4(body + 8, length - 8, out + 8, true);
	if (!inner) return 0;
	put16(out + 2, ~sum(out, inner + 8, pseudo6(head, inner + 8, ICMP6)) & 0xffff);
	return inner + 8;
}

static size_t translate6(const uint8_t *p, size_t size, uint8_t *out, bool copy) {
	struct part part;
	if (!read6(p, size, copy, &part) || (!copy && memcmp(p + 24, PREFIX, 12))) return 0;
	if (part.protocol == ICMP6 && part.fragment) return 0;
	if (!head4(out, p, &part, part.whole, !copy)) return 0;
	const uint8_t *body = p + part.head;
	if (part.protocol == ICMP6) {
		size_t length = icmp_of_icmp6(p, body, part.length, part.whole, out + HEAD4, copy);
		if (!length) return 0;
		if (!copy && length != part.whole) head4(out, p, &part, length, true);
		return HEAD4 + length;
	}
	memcpy(out + HEAD4, body, part.length);
	if (!part.offset) readdress(out + HEAD4, part.length, part.protocol, sum(p + 8, 32, 0), sum(out + 12, 8, 0));
	return HEAD4 + part.length;
}

static size_t translate4(const uint8_t *p, size_t size, uint8_t *out, bool copy) {
	struct part part;
	if (!read4(p, size, copy, &part) || (part.protocol == ICMP && part.fragment)) return 0;
	if (!copy && get32(p + 16) - POOL >= SOURCES) return 0;
	size_t head = head6(out, p, &part, part.whole);
	if (!head) return 0;
	const uint8_t *body = p + part.head;
	if (part.protocol == ICMP) {
		size_t length = icmp6_of_icmp(out, body, part.length, part.whole, out + head, copy);
		if (!length) return 0;
		if (!copy) put16(out + 4, (unsigned)length);
		return head + length;
	}
	memcpy(out + head, body, part.length);
	if (part.offset) return head + part.length;
	if (part.protocol == UDP && part.length >= 8 && get16(body + 6) == 0 && !copy) {
		if (part.fragment) return 0; // IPv6 has no datagram without a checksum, and this one's other parts are not here
		unsigned made = ~sum(out + head, part.length, pseudo6(out, part.length, UDP)) & 0xffff;
		put16(out + head + 6, made ? made : 0xffff);
		return head + part.length;
	}
	readdress(out + head, part.length, part.protocol, sum(p + 12, 8, 0), sum(out + 8, 32, 0));
	return head + part.length;
}

/** ICMP datagrams in parts. `key`: family, addresses and number. */
struct reassembly { uint8_t key[40]; time_t began; unsigned parts; size_t got, total, head; uint8_t packet[HEAD6 + ROOM]; };
static struct reassembly reassemblies[REASSEMBLIES];

/** Takes a fragment of ICMP; the whole packet, without its head's extensions, once all is there. */
static size_t put_together(const uint8_t *p, const struct part *part, bool six, const uint8_t **whole) {
	uint8_t key[40] = {six};
	memcpy(key + 1, p + (six ? 8 : 12), six ? 32 : 8);
	put32(key + 36, part->id);
	struct reassembly *it = NULL, *oldest = &reassemblies[0];
	for (int i = 0; i < REASSEMBLIES && !it; i++) {
		struct reassembly *one = &reassemblies[i];
		if (one->began && now - one->began <= REASSEMBLY_S && !memcmp(one->key, key, sizeof key)) it = one;
		if (one->began < oldest->began) oldest = one;
	}
	size_t head = six ? HEAD6 : HEAD4;
	if (!it) {
		it = oldest;
		memcpy(it->key, key, sizeof key);
		it->began = now, it->parts = 0, it->got = it->total = 0, it->head = head;
		memcpy(it->packet, p, head);
	}
	if (part->offset + part->length > ROOM - 1 - HEAD6 || ++it->parts > MOST_PARTS) return it->began = 0, 0;
	memcpy(it->packet + head + part->offset, p + part->head, part->length);
	it->got += part->length;
	if (!part->more) it->total = part->offset + part->length;
	if (!it->total || it->got < it->total) return 0;
	it->began = 0;
	if (it->got != it->total) return 0;
	if (six) put16(it->packet + 4, (unsigned)it->total), it->packet[6] = ICMP6;
	else it->packet[0] = 0x45, put16(it->packet + 2, (unsigned)(it->total + head)), put16(it->packet + 6, 0);
	*whole = it->packet;
	return head + it->total;
}

/** One packet of one device, to the other; false when there is none. */
static bool pass(int from, int to, bool six) {
	static uint8_t in[ROOM], out[2 * ROOM];
	ssize_t size = read(from, in, sizeof in);
	if (size <= 0) return false;
	struct part part;
	const uint8_t *packet = in;
	size_t length = (size_t)size;
	bool readable = six ? read6(in, length, false, &part) : read4(in, length, false, &part);
	if (!readable) return true;
	bool joined = part.fragment && part.protocol == (six ? ICMP6 : ICMP);
	if (joined) length = put_together(in, &part, six, &packet);
	if (!length) return true;
	size_t made = six ? translate6(packet, length, out, false) : translate4(packet, length, out, false);
	if (made && joined && six) { // as it came in parts, it may go on in parts
		put16(out + 4, part.id), put16(out + 6, 0), put16(out + 10, 0);
		put16(out + 10, ~sum(out, HEAD4, 0) & 0xffff);
	}
	// A packet that the kernel does not take is lost, as any packet may be.
	if (made && write(to, out, made) < 0 && errno == EBADFD) exit(1);
	return true;
}

static void die(const char *what) {
	fprintf(stderr, "nat64: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int device(const char *name, int mtu) {
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	struct ifreq ask = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	strncpy(ask.ifr_name, name, IFNAMSIZ - 1);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ask) < 0) die(name);
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ask.ifr_mtu = mtu;
	if (control < 0 || ioctl(control, SIOCSIFMTU, &ask) < 0) die("MTU");
	ask.ifr_flags = IFF_UP;
	if (ioctl(control, SIOCSIFFLAGS, &ask) < 0) die("up");
	close(control);
	return fd;
}

static void route4(const char *name) {
	struct rtentry route = {.rt_flags = RTF_UP, .rt_dev = (char *)name};
	struct sockaddr_in *to = (struct sockaddr_in *)&route.rt_dst, *mask = (struct sockaddr_in *)&route.rt_genmask;
	to->sin_family = mask->sin_family = AF_INET;
	to->sin_addr.s_addr = htonl(POOL), mask->sin_addr.s_addr = htonl(~(uint32_t)(SOURCES - 1));
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (control < 0 || ioctl(control, SIOCADDRT, &route) < 0) die("route of IPv4");
	close(control);
}

static void route6(const char *name) {
	struct in6_rtmsg route = {.rtmsg_dst_len = 96, .rtmsg_metric = 1024, .rtmsg_flags = RTF_UP, .rtmsg_ifindex = (int)if_nametoindex(name)};
	memcpy(&route.rtmsg_dst, PREFIX, sizeof PREFIX);
	int control = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (control < 0 || ioctl(control, SIOCADDRT, &route) < 0) die("route of IPv6");
	close(control);
}

int main(void) {
	int six = device("nat64", MTU6), four = device("nat46", MTU4);
	route6("nat64");
	route4("nat46");
	printf("nat64: ready\n");
	fflush(stdout);
	for (;;) {
		struct pollfd ready[2] = {{.fd = six, .events = POLLIN}, {.fd = four, .events = POLLIN}};
		if (poll(ready, 2, -1) < 0 && errno != EINTR) die("poll");
		struct timespec t;
		clock_gettime(CLOCK_MONOTONIC, &t);
		now = t.tv_sec + IDLE_S + 1; // never 0, which is a place that nobody had
		for (int i = 0; i < TURNS && pass(six, four, true); i++) {}
		for (int i = 0; i < TURNS && pass(four, six, false); i++) {}
		if ((ready[0].revents | ready[1].revents) & (POLLERR | POLLHUP | POLLNVAL)) die("device");
	}
}
