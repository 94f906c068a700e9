// pod-probe: one question over real packets, asked in the namespace it is started in; the answer is one line of JSON.
//   pod-probe tcp ADDRESS PORT [COUNT [STREAM_MS]]   what pod-server answers; round trips of a line; echoed stream
//   pod-probe udp ADDRESS PORT                       what pod-server answers to a datagram
//   pod-probe ping ADDRESS [COUNT]                   ICMP or ICMPv6 echo
//   pod-probe imds ADDRESS PATH                      IMDSv2: a token, then the path with it
//   pod-probe dns NAME                               the VPC's resolver: IPv6 addresses, then IPv4 ones
// ADDRESS is of either family, or a name: of what the resolver says, the first address that the namespace has a way to. Exit 0 with {"answer":…}, else 1 with {"error":…}. Every wait is bounded by TIMEOUT_MS.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TIMEOUT_MS = 3000, MAX_COUNT = 1000, MAX_ANSWER = 4096, CHUNK = 65536 };

static double now_us(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void print_text(const char *text) {
	putchar('"');
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		if (c == '"' || c == '\\') printf("\\%c", c);
		else if (c < 0x20 || c == 0x7f) printf("\\u%04x", c);
		else putchar(c);
	}
	putchar('"');
}

static void fail(const char *what, int error) {
	char text[256];
	snprintf(text, sizeof text, error ? "%s: %s" : "%s", what, strerror(error));
	printf("{\"error\":");
	print_text(text);
	printf("}\n");
	exit(1);
}

static void wait_for(int fd, short events, const char *what) {
	struct pollfd p = {.fd = fd, .events = events};
	int ready;
	while ((ready = poll(&p, 1, TIMEOUT_MS)) < 0 && errno == EINTR) {}
	if (ready == 0) fail(what, ETIMEDOUT);
	if (ready < 0) fail(what, errno);
}

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static int by_value(const void *a, const void *b) {
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static void print_times(double *times, int count) {
	qsort(times, (size_t)count, sizeof *times, by_value);
	printf(",\"rttUs\":{\"min\":%.1f,\"p50\":%.1f,\"p99\":%.1f}", times[0], times[count / 2], times[(count * 99) / 100]);
}

/** Which the namespace can reach first, as an instance would have it from DHCP or DHCPv6. */
static const char *const RESOLVERS[] = {"169.254.169.253", "fd00:ec2::253"};
enum { A = 1, AAAA = 28, MAX_ADDRESSES = 8, DNS_TRIES = 3, DNS_MS = 1000 };

static union address plain_address(const char *text, unsigned short port, int *ok) {
	union address to;
	memset(&to, 0, sizeof to);
	*ok = 1;
	if (inet_pton(AF_INET, text, &to.v4.sin_addr) == 1) to.v4.sin_family = AF_INET, to.v4.sin_port = port;
	else if (inet_pton(AF_INET6, text, &to.v6.sin6_addr) == 1) to.v6.sin6_family = AF_INET6, to.v6.sin6_port = port;
	else *ok = 0;
	return to;
}

static socklen_t size_of(const union address *to) { return to->any.sa_family == AF_INET ? sizeof to->v4 : sizeof to->v6; }

/** A UDP socket that is connected there, or -1 when there is no way. */
static int way_to(const union address *to) {
	int fd = socket(to->any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (fd < 0) fail("socket", errno);
	if (connect(fd, &to->any, size_of(to)) == 0) return fd;
	close(fd);
	return -1;
}

/** Asks for one type; how many addresses there are. The answers that it reads begin their records with a pointer. */
static int look_up(int fd, const char *name, int type, union address *into, int room) {
	unsigned char ask[300] = {0x50, (unsigned char)type, 1, 0, 0, 1}, got[600];
	size_t at = 12;
	for (const char *part = name; *part;) {
		size_t length = strcspn(part, ".");
		if (length == 0 || length > 63 || at + length > 260) fail("not a name", 0);
		ask[at++] = (unsigned char)length;
		memcpy(ask + at, part, length);
		at += length, part += length;
		if (*part == '.') part++;
	}
	ask[at] = 0, ask[at + 2] = (unsigned char)type, ask[at + 4] = 1, at += 5;
	for (int i = 0; i < DNS_TRIES; i++) {
		if (send(fd, ask, at, 0) < 0) fail("ask the resolver", errno);
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, DNS_MS) <= 0) continue;
		ssize_t size = recv(fd, got, sizeof got, 0);
		if (size < 0) fail("ask the resolver", errno);
		if ((size_t)size < at || memcmp(got, ask, 2) != 0) continue;
		if (got[3] & 15) return (got[3] & 15) == 3 ? -1 : 0;
		int count = 0, answers = got[6] << 8 | got[7];
		const unsigned char *r = got + at;
		for (int n = 0; n < answers && count < room && r + 12 <= got + size; n++) {
			size_t length = (size_t)(r[10] << 8 | r[11]);
			if (r[0] < 0xc0 || r + 12 + length > got + size) break;
			union address *one = &into[count];
			memset(one, 0, sizeof *one);
			if (r[3] == A && length == 4) one->v4.sin_family = AF_INET, memcpy(&one->v4.sin_addr, r + 12, 4), count++;
			if (r[3] == AAAA && length == 16) one->v6.sin6_family = AF_INET6, memcpy(&one->v6.sin6_addr, r + 12, 16), count++;
			r += 12 + length;
		}
		return count;
	}
	fail("ask the resolver", ETIMEDOUT);
	return 0;
}

/** All addresses of a name, IPv6 first. */
static int resolve(const char *name, union address into[2 * MAX_ADDRESSES]) {
	int fd = -1, ok;
	for (size_t i = 0; fd < 0 && i < sizeof RESOLVERS / sizeof *RESOLVERS; i++) {
		union address resolver = plain_address(RESOLVERS[i], htons(53), &ok);
		fd = way_to(&resolver);
	}
	if (fd < 0) fail("no way to a resolver", 0);
	int six = look_up(fd, name, AAAA, into, MAX_ADDRESSES);
	if (six < 0) fail("no such name", 0);
	int four = look_up(fd, name, A, into + six, MAX_ADDRESSES);
	close(fd);
	return six + (four < 0 ? 0 : four);
}

static void dns(const char *name) {
	union address all[2 * MAX_ADDRESSES];
	double start = now_us();
	int count = resolve(name, all);
	double time = now_us() - start;
	printf("{\"answer\":\"");
	for (int i = 0; i < count; i++) {
		char text[INET6_ADDRSTRLEN];
		const void *from = all[i].any.sa_family == AF_INET ? (void *)&all[i].v4.sin_addr : (void *)&all[i].v6.sin6_addr;
		printf("%s%s", i ? " " : "", inet_ntop(all[i].any.sa_family, from, text, sizeof text));
	}
	printf("\"");
	print_times(&time, 1);
	printf("}\n");
}

static union address address_of(const char *text, const char *port) {
	unsigned short number = htons((unsigned short)atoi(port));
	int ok;
	union address to = plain_address(text, number, &ok), all[2 * MAX_ADDRESSES];
	if (ok) return to;
	if (strspn(text, "0123456789.:") == strlen(text)) fail("not an address", 0);
	int count = resolve(text, all);
	for (int i = 0; i < count; i++) {
		// The port lies at the same place in both families.
		all[i].v4.sin_port = number ? number : htons(9);
		int fd = way_to(&all[i]);
		all[i].v4.sin_port = number;
		if (fd < 0) continue;
		close(fd);
		return all[i];
	}
	fail(count ? "no way to any address of that name" : "the name has no address", 0);
	return to;
}

static int connect_to(union address to) {
	int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (fd < 0) fail("socket", errno);
	int on = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	if (connect(fd, &to.any, size_of(&to)) != 0 && errno != EINPROGRESS) fail("connect", errno);
	wait_for(fd, POLLOUT, "connect");
	int error = 0;
	socklen_t size = sizeof error;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error) fail("connect", error);
	return fd;
}

static void send_all(int fd, const char *bytes, size_t length) {
	while (length > 0) {
		ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
		if (sent < 0 && errno == EAGAIN) wait_for(fd, POLLOUT, "send");
		else if (sent < 0) fail("send", errno);
		else bytes += sent, length -= (size_t)sent;
	}
}

static size_t receive_some(int fd, char *into, size_t room) {
	for (;;) {
		ssize_t got = recv(fd, into, room, 0);
		if (got >= 0) return (size_t)got;
		if (errno != EAGAIN) fail("receive", errno);
		wait_for(fd, POLLIN, "receive");
	}
}

/** One line, without its end. */
static void receive_line(int fd, char *into, size_t room) {
	size_t length = 0;
	while (length + 1 < room) {
		size_t got = receive_some(fd, into + length, 1);
		if (got == 0) fail("the peer closed the connection", 0);
		if (into[length] == '\n') break;
		length++;
	}
	into[length] = 0;
}

static int count_of(const char *text) {
	int count = atoi(text);
	return count < 1 ? 1 : count > MAX_COUNT ? MAX_COUNT : count;
}

/** Sends and reads back for `ms`; bytes that came back and the time that took. */
static void stream(int fd, int ms) {
	static char out[CHUNK], in[CHUNK];
	memset(out, 'x', sizeof out);
	out[sizeof out - 1] = '\n';
	double start = now_us(), end = start + ms * 1e3, last = start;
	size_t offset = 0;
	long long sent = 0, echoed = 0;
	while (now_us() < end || echoed < sent) {
		int more = now_us() < end;
		struct pollfd p = {.fd = fd, .events = (short)(POLLIN | (more ? POLLOUT : 0))};
		if (poll(&p, 1, TIMEOUT_MS) <= 0) break;
		if (p.revents & POLLIN) {
			ssize_t got = recv(fd, in, sizeof in, 0);
			if (got == 0) break;
			if (got > 0) echoed += got, last = now_us();
		}
		if (more && (p.revents & POLLOUT)) {
			ssize_t put = send(fd, out + offset, sizeof out - offset, MSG_NOSIGNAL);
			if (put > 0) sent += put, offset = (offset + (size_t)put) % sizeof out;
		}
		if (p.revents & (POLLERR | POLLHUP)) break;
	}
	printf(",\"streamBytes\":%lld,\"streamUs\":%.0f", echoed, last - start);
}

static void tcp(int argc, char **argv) {
	double start = now_us();
	int fd = connect_to(address_of(argv[2], argv[3]));
	double connected = now_us();
	char answer[MAX_ANSWER];
	send_all(fd, "probe\n", 6);
	receive_line(fd, answer, sizeof answer);
	int count = argc > 4 ? count_of(argv[4]) : 0;
	double times[MAX_COUNT];
	char line[64];
	for (int i = 0; i < count; i++) {
		double began = now_us();
		send_all(fd, "0123456789abcdef\n", 17);
		receive_line(fd, line, sizeof line);
		times[i] = now_us() - began;
	}
	printf("{\"answer\":");
	print_text(answer);
	printf(",\"connectUs\":%.0f", connected - start);
	if (count > 0) print_times(times, count);
	if (argc > 5) stream(fd, atoi(argv[5]));
	printf("}\n");
}

static void udp(char **argv) {
	union address to = address_of(argv[2], argv[3]);
	int fd = socket(to.any.sa_family, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, &to.any, size_of(&to)) != 0) fail("connect", errno);
	char answer[MAX_ANSWER];
	double start = now_us();
	if (send(fd, "probe\n", 6, 0) < 0) fail("send", errno);
	size_t got = receive_some(fd, answer, sizeof answer - 1);
	double time = now_us() - start;
	while (got > 0 && answer[got - 1] == '\n') got--;
	answer[got] = 0;
	printf("{\"answer\":");
	print_text(answer);
	print_times(&time, 1);
	printf("}\n");
}

static unsigned short checksum(const void *bytes, size_t length) {
	const unsigned short *words = bytes;
	unsigned sum = 0;
	for (; length > 1; length -= 2) sum += *words++;
	while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
	return (unsigned short)~sum;
}

static void print_reply(const char *from, unsigned ttl, double *times, int count) {
	printf("{\"answer\":\"reply from %s\",\"ttl\":%u", from, ttl);
	print_times(times, count);
	printf("}\n");
}

/** The kernel fills in and checks ICMPv6 checksums, and gives the packet without its IPv6 header. */
static void ping6(int argc, char **argv, struct sockaddr_in6 to) {
	int fd = socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMPV6), on = 1;
	if (fd < 0) fail("raw socket", errno);
	setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof on);
	int count = argc > 3 ? count_of(argv[3]) : 1, hops = 0;
	unsigned short id = htons((unsigned short)getpid());
	double times[MAX_COUNT];
	for (int i = 0; i < count; i++) {
		struct { struct icmp6_hdr head; char body[56]; } echo = {.head = {.icmp6_type = ICMP6_ECHO_REQUEST}}, got;
		echo.head.icmp6_id = id;
		echo.head.icmp6_seq = htons((unsigned short)i);
		double start = now_us();
		if (sendto(fd, &echo, sizeof echo, 0, (struct sockaddr *)&to, sizeof to) < 0) fail("send", errno);
		for (;;) {
			struct sockaddr_in6 from;
			char control[64];
			struct iovec part = {.iov_base = &got, .iov_len = sizeof got};
			struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
			ssize_t size = recvmsg(fd, &message, 0);
			if (size < 0 && errno != EAGAIN) fail("receive", errno);
			if (now_us() - start > TIMEOUT_MS * 1e3) fail("echo", ETIMEDOUT);
			if (size < 0) {
				wait_for(fd, POLLIN, "echo");
				continue;
			}
			if (size < (ssize_t)sizeof got.head || memcmp(&from.sin6_addr, &to.sin6_addr, sizeof to.sin6_addr) != 0) continue;
			if (got.head.icmp6_type != ICMP6_ECHO_REPLY || got.head.icmp6_id != id || got.head.icmp6_seq != echo.head.icmp6_seq) continue;
			for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
				if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT) memcpy(&hops, CMSG_DATA(c), sizeof hops);
			break;
		}
		times[i] = now_us() - start;
	}
	print_reply(argv[2], (unsigned)hops, times, count);
}

static void ping(int argc, char **argv) {
	union address address = address_of(argv[2], "0");
	if (address.any.sa_family == AF_INET6) return ping6(argc, argv, address.v6);
	struct sockaddr_in to = address.v4;
	int fd = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP);
	if (fd < 0) fail("raw socket", errno);
	int count = argc > 3 ? count_of(argv[3]) : 1;
	unsigned short id = htons((unsigned short)getpid());
	double times[MAX_COUNT];
	unsigned ttl = 0;
	for (int i = 0; i < count; i++) {
		struct { struct icmphdr head; char body[56]; } echo = {.head = {.type = ICMP_ECHO, .un.echo = {.id = id, .sequence = htons((unsigned short)i)}}};
		echo.head.checksum = checksum(&echo, sizeof echo);
		double start = now_us();
		if (sendto(fd, &echo, sizeof echo, 0, (struct sockaddr *)&to, sizeof to) < 0) fail("send", errno);
		for (;;) {
			char packet[1500];
			size_t got = receive_some(fd, packet, sizeof packet);
			struct iphdr *ip = (struct iphdr *)packet;
			struct icmphdr *icmp = (struct icmphdr *)(packet + ip->ihl * 4);
			if (now_us() - start > TIMEOUT_MS * 1e3) fail("echo", ETIMEDOUT);
			if (got < (size_t)ip->ihl * 4 + sizeof *icmp || ip->saddr != to.sin_addr.s_addr) continue;
			if (icmp->type != ICMP_ECHOREPLY || icmp->un.echo.id != id || icmp->un.echo.sequence != htons((unsigned short)i)) continue;
			ttl = ip->ttl;
			break;
		}
		times[i] = now_us() - start;
	}
	print_reply(argv[2], ttl, times, count);
}

/** Reads an HTTP/1.1 answer until the peer closes; the body, or failure when the status is not 200. */
static void ask(const char *address, const char *request, char *body, size_t room) {
	char text[MAX_ANSWER];
	int fd = connect_to(address_of(address, "80"));
	send_all(fd, request, strlen(request));
	size_t length = 0, got;
	while (length + 1 < sizeof text && (got = receive_some(fd, text + length, sizeof text - 1 - length)) > 0) length += got;
	text[length] = 0;
	close(fd);
	char *start = strstr(text, "\r\n\r\n");
	if (!start || strncmp(text, "HTTP/1.1 200", 12) != 0) {
		text[strcspn(text, "\r\n")] = 0;
		fail(length ? text : "no answer", 0);
	}
	snprintf(body, room, "%s", start + 4);
}

static void imds(char **argv) {
	char token[1024], request[2048], answer[MAX_ANSWER];
	double start = now_us();
	ask(argv[2], "PUT /latest/api/token HTTP/1.1\r\nHost: imds\r\nConnection: close\r\nContent-Length: 0\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n", token, sizeof token);
	snprintf(request, sizeof request, "GET %.512s HTTP/1.1\r\nHost: imds\r\nConnection: close\r\nX-aws-ec2-metadata-token: %.1000s\r\n\r\n", argv[3], token);
	ask(argv[2], request, answer, sizeof answer);
	double time = now_us() - start;
	printf("{\"answer\":");
	print_text(answer);
	print_times(&time, 1);
	printf("}\n");
}

int main(int argc, char **argv) {
	const char *what = argc > 1 ? argv[1] : "";
	if (!strcmp(what, "tcp") && argc >= 4) tcp(argc, argv);
	else if (!strcmp(what, "udp") && argc == 4) udp(argv);
	else if (!strcmp(what, "ping") && argc >= 3) ping(argc, argv);
	else if (!strcmp(what, "imds") && argc == 4) imds(argv);
	else if (!strcmp(what, "dns") && argc == 3) dns(argv[2]);
	else fail("usage: pod-probe tcp ADDRESS PORT [COUNT [STREAM_MS]] | udp ADDRESS PORT | ping ADDRESS [COUNT] | imds ADDRESS PATH | dns NAME", 0);
	return 0;
}
