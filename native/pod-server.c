// pod-server: what runs in a pod that has no command. Answers on one TCP and one UDP port, IPv4 and IPv6, who it is and
// whose address it sees: "POD_NAME PEER_ADDRESS", and logs each request on stdout as "TIME tcp|udp PEER_ADDRESS:PORT".
// TCP: the first line (or the end of the stream) is answered, a line of HTTP in HTTP; what follows comes back as it came.
// One thread, epoll; bounded in connections and in bytes held; a connection that is not read from is not read to either.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HELD = 16384, ANSWER = 512, MAX_CONNECTIONS = 8192, SPARE_DESCRIPTORS = 16, EVENTS = 64, BACKLOG = 1024 };
enum state { FIRST_LINE, HTTP_HEAD, ECHO, DRAIN };

struct connection {
	int fd;
	enum state state;
	bool ended;          // the peer sends no more
	bool wants_out;      // epoll is armed for writing
	char peer[INET6_ADDRSTRLEN];
	unsigned port;
	size_t length, sent; // bytes in `held`: those read while waiting for a line or head, those to be written otherwise
	char held[HELD + ANSWER]; // the answer may be longer than the line that it takes the place of
};

static const char *pod_name = "pod";
static int epoll_fd, tcp_fd, udp_fd, connections, most_connections = MAX_CONNECTIONS;
static bool listening;

static void leave(int signal) {
	(void)signal;
	_exit(0);
}

static void die(const char *what) {
	fprintf(stderr, "pod-server: %s: %s\n", what, strerror(errno));
	exit(1);
}

// An IPv4 peer on an IPv6 socket is told as what it is.
static void name_peer(const struct sockaddr_storage *from, char text[INET6_ADDRSTRLEN], unsigned *port) {
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
		inet_ntop(AF_INET, &v4->sin_addr, text, INET6_ADDRSTRLEN);
		*port = ntohs(v4->sin_port);
		return;
	}
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
	if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr)) inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], text, INET6_ADDRSTRLEN);
	else inet_ntop(AF_INET6, &v6->sin6_addr, text, INET6_ADDRSTRLEN);
	*port = ntohs(v6->sin6_port);
}

static void log_request(const char *protocol, const char *peer, unsigned port) {
	char line[128], when[32];
	struct timespec now;
	struct tm parts;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &parts);
	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &parts);
	const char *form = strchr(peer, ':') ? "%s.%03ldZ %s [%s]:%u\n" : "%s.%03ldZ %s %s:%u\n";
	int n = snprintf(line, sizeof line, form, when, now.tv_nsec / 1000000, protocol, peer, port);
	if (write(STDOUT_FILENO, line, (size_t)n) < 0) return;  // a log that nobody can keep is no reason to stop serving
}

static void watch(int operation, int fd, void *what, uint32_t events) {
	struct epoll_event event = {.events = events, .data.ptr = what};
	if (epoll_ctl(epoll_fd, operation, fd, &event) != 0) die("epoll_ctl");
}

static void set_listening(bool wanted) {
	if (wanted == listening) return;
	listening = wanted;
	watch(wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, tcp_fd, &tcp_fd, EPOLLIN);
}

static void drop(struct connection *c) {
	close(c->fd);
	free(c);
	connections--;
	set_listening(true);
}

static void answer(struct connection *c) {
	char body[ANSWER];
	int n = snprintf(body, sizeof body, "%.400s %s\n", pod_name, c->peer);
	bool http = c->state == HTTP_HEAD;
	log_request("tcp", c->peer, c->port);
	if (!http) {
		// What came behind the first line is echoed behind the answer.
		char *end = memchr(c->held, '\n', c->length);
		size_t used = end ? (size_t)(end - c->held) + 1 : c->length, rest = c->length - used;
		memmove(c->held + n, c->held + used, rest);
		memcpy(c->held, body, (size_t)n);
		c->length = (size_t)n + rest;
	} else {
		bool head_only = memcmp(c->held, "HEAD ", 5) == 0;
		c->length = (size_t)snprintf(c->held, HELD, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", n, head_only ? "" : body);
	}
	c->sent = 0;
	c->state = http ? DRAIN : ECHO;
}

// Whether the first line, which is held whole, is one of HTTP.
static bool is_http(const struct connection *c) {
	const char *end = memchr(c->held, '\n', c->length);
	return end && memmem(c->held, (size_t)(end - c->held), " HTTP/1.", 8);
}

// Looks at what is held before the answer; answers when it is enough.
static void consider(struct connection *c) {
	bool full = c->length == HELD;
	if (c->state == FIRST_LINE && is_http(c)) c->state = HTTP_HEAD;
	if (c->state == FIRST_LINE && (memchr(c->held, '\n', c->length) || c->ended || full)) answer(c);
	else if (c->state == HTTP_HEAD && (memmem(c->held, c->length, "\r\n\r\n", 4) || memmem(c->held, c->length, "\n\n", 2) || c->ended || full)) answer(c);
}

static bool has_output(const struct connection *c) { return c->state >= ECHO && c->sent < c->length; }

// Writes what there is. False when the connection is over.
static bool flush(struct connection *c) {
	while (has_output(c)) {
		ssize_t n = send(c->fd, c->held + c->sent, c->length - c->sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0 && errno == EAGAIN) return true;
		if (n < 0) return false;
		c->sent += (size_t)n;
	}
	if (c->state < ECHO) return true;
	c->length = c->sent = 0;
	if (c->state == DRAIN) shutdown(c->fd, SHUT_WR);  // and read on until the peer has seen it: closing now could reset
	return !c->ended;
}

static void serve(struct connection *c) {
	for (int turns = 0; turns < 16; turns++) {
		if (!flush(c)) return drop(c);
		if (has_output(c)) break;
		char ignored[4096];
		bool drains = c->state == DRAIN;
		ssize_t n = recv(c->fd, drains ? ignored : c->held + c->length, drains ? sizeof ignored : HELD - c->length, 0);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0 && errno == EAGAIN) break;
		if (n < 0) return drop(c);
		if (n == 0) c->ended = true;
		if (n == 0 && c->state >= ECHO) return drop(c);
		if (!drains) c->length += (size_t)n;
		if (c->state < ECHO) consider(c);
	}
	if (has_output(c) != c->wants_out) {
		c->wants_out = !c->wants_out;
		watch(EPOLL_CTL_MOD, c->fd, c, c->wants_out ? EPOLLOUT : EPOLLIN);
	}
}

static void accept_all(void) {
	for (;;) {
		struct sockaddr_storage from;
		socklen_t length = sizeof from;
		if (connections >= most_connections) return set_listening(false);
		int fd = accept4(tcp_fd, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
		if (fd < 0) return;
		struct connection *c = malloc(sizeof *c);
		if (!c) {
			close(fd);
			return;
		}
		memset(c, 0, offsetof(struct connection, held));
		c->fd = fd;
		name_peer(&from, c->peer, &c->port);
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		connections++;
		watch(EPOLL_CTL_ADD, fd, c, EPOLLIN);
	}
}

// Answers from the address that was asked: a host may have several.
static void serve_udp(void) {
	for (int turns = 0; turns < 256; turns++) {
		char ignored[2048], control[256], body[512], peer[INET6_ADDRSTRLEN];
		unsigned port;
		struct sockaddr_storage from;
		struct iovec in = {ignored, sizeof ignored};
		struct msghdr message = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &in, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
		if (recvmsg(udp_fd, &message, MSG_DONTWAIT) < 0) {
			if (errno == EINTR) continue;
			return;
		}
		name_peer(&from, peer, &port);
		log_request("udp", peer, port);
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
			// The address goes back as it came; the way out is the routing table's choice, save for link-local peers.
			if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
				struct in6_pktinfo *to = (struct in6_pktinfo *)CMSG_DATA(c);
				if (!IN6_IS_ADDR_LINKLOCAL(&to->ipi6_addr)) to->ipi6_ifindex = 0;
			} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
				struct in_pktinfo *to = (struct in_pktinfo *)CMSG_DATA(c);
				to->ipi_ifindex = 0;
				to->ipi_spec_dst = to->ipi_addr;
			}
		}
		struct iovec out = {body, (size_t)snprintf(body, sizeof body, "%.400s %s\n", pod_name, peer)};
		message.msg_iov = &out;
		message.msg_flags = 0;
		sendmsg(udp_fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

// A bound socket for both families; for IPv4 alone where the kernel has no IPv6.
static int bound(int type, unsigned port) {
	int on = 1, off = 0, fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	if (fd >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
		if (bind(fd, (struct sockaddr *)&v6, sizeof v6) == 0) return fd;
		if (errno != EADDRNOTAVAIL) die("bind");
		close(fd);
	}
	fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&v4, sizeof v4) != 0) die("bind");
	return fd;
}

int main(int argc, char **argv) {
	unsigned long port = 8080;
	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;
		char *end = NULL;
		if (more && strcmp(argv[i], "--name") == 0) pod_name = argv[++i];
		else if (more && strcmp(argv[i], "--port") == 0) port = strtoul(argv[++i], &end, 10);
		else port = 0;
		if (port == 0 || port > 65535 || (end && *end)) {
			fprintf(stderr, "usage: pod-server --name POD_NAME [--port 8080]\n");
			return 2;
		}
	}
	signal(SIGTERM, leave);
	signal(SIGINT, leave);
	signal(SIGPIPE, SIG_IGN);
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
		if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < MAX_CONNECTIONS + SPARE_DESCRIPTORS) {
			most_connections = files.rlim_cur > 2 * SPARE_DESCRIPTORS ? (int)files.rlim_cur - SPARE_DESCRIPTORS : SPARE_DESCRIPTORS;
		}
	}
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0) die("epoll_create1");
	tcp_fd = bound(SOCK_STREAM, (unsigned)port);
	udp_fd = bound(SOCK_DGRAM, (unsigned)port);
	if (listen(tcp_fd, BACKLOG) != 0) die("listen");
	set_listening(true);
	watch(EPOLL_CTL_ADD, udp_fd, &udp_fd, EPOLLIN);
	for (;;) {
		struct epoll_event events[EVENTS];
		int count = epoll_wait(epoll_fd, events, EVENTS, -1);
		if (count < 0 && errno != EINTR) die("epoll_wait");
		for (int i = 0; i < count; i++) {
			void *what = events[i].data.ptr;
			if (what == &tcp_fd) accept_all();
			else if (what == &udp_fd) serve_udp();
			else serve(what);
		}
	}
}
