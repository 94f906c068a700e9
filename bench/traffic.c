/*
 * traffic: the two measurements of the traffic benchmark, and their server.
 *   traffic serve PORT             answers both kinds until it is killed, one process per connection; serve6: by IPv6
 *   traffic stream HOST PORT S     one TCP stream for S seconds; prints bits per second
 *   traffic rr HOST PORT S         one-byte request and answer for S seconds; prints "PER_SECOND P50 P90 P99" (ns)
 * The client's first byte says the kind: 's' or 'r'. HOST is of either family. Both ends use cubic and a window of 1 MiB: pacing (bbr) and
 * autotuned buffers, which outgrow the cache, move a stream by more than the path does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 256 << 10, MAX_SAMPLES = 4 << 20, WINDOW = 1 << 20 };

static char block[BLOCK];

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Before listen or connect, so that the window scale fits. An accepted connection has what its listener had. */
static void steady(int fd)
{
	int window = WINDOW;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &window, sizeof window) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &window, sizeof window) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5))
		die("setsockopt");
}

static void answer(int fd)
{
	char kind;
	uint64_t total = 0;
	ssize_t n;

	if (read(fd, &kind, 1) != 1)
		return;
	if (kind == 'r') {
		while (read(fd, &kind, 1) == 1 && write(fd, &kind, 1) == 1)
			;
		return;
	}
	while ((n = read(fd, block, sizeof block)) > 0)
		total += (uint64_t)n;
	/* The sender counts what arrived, not what it handed to its own kernel. */
	if (write(fd, &total, sizeof total) != sizeof total)
		die("write");
}

static void serve(int family, int port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 at6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	int one = 1, fd = socket(family, SOCK_STREAM, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	steady(fd);
	if (family == AF_INET ? bind(fd, (struct sockaddr *)&at, sizeof at) : bind(fd, (struct sockaddr *)&at6, sizeof at6))
		die("bind");
	if (listen(fd, 64))
		die("listen");
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int peer = accept(fd, NULL, NULL);

		if (peer < 0)
			continue;
		setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		if (fork() == 0) {
			close(fd);
			answer(peer);
			_exit(0);
		}
		close(peer);
	}
}

static int dial(const char *host, int port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	struct timeval limit = {.tv_sec = 5};
	int four = inet_pton(AF_INET, host, &to.sin_addr) == 1;
	int one = 1, fd = socket(four ? AF_INET : AF_INET6, SOCK_STREAM, 0);

	if (!four && inet_pton(AF_INET6, host, &to6.sin6_addr) != 1)
		die(host);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	steady(fd);
	if (four ? connect(fd, (struct sockaddr *)&to, sizeof to) : connect(fd, (struct sockaddr *)&to6, sizeof to6))
		die("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

static void stream(int fd, double seconds)
{
	int64_t began, until;
	uint64_t total;

	if (write(fd, "s", 1) != 1)
		die("write");
	began = now();
	until = began + (int64_t)(seconds * 1e9);
	while (now() < until)
		if (write(fd, block, sizeof block) < 0)
			die("write");
	shutdown(fd, SHUT_WR);
	if (read(fd, &total, sizeof total) != sizeof total)
		die("read");
	printf("%.0f\n", (double)total * 8e9 / (double)(now() - began));
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void request_response(int fd, double seconds)
{
	static uint32_t samples[MAX_SAMPLES];
	size_t n = 0;
	int64_t began, until;
	char byte = 'x';

	if (write(fd, "r", 1) != 1)
		die("write");
	began = now();
	until = began + (int64_t)(seconds * 1e9);
	for (int64_t t = began; t < until && n < MAX_SAMPLES;) {
		int64_t after;

		if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			die("request");
		after = now();
		samples[n++] = (uint32_t)(after - t);
		t = after;
	}
	double rate = (double)n * 1e9 / (double)(now() - began);

	qsort(samples, n, sizeof *samples, compare);
	printf("%.0f %u %u %u\n", rate, samples[n / 2], samples[n * 9 / 10], samples[n * 99 / 100]);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		serve(AF_INET, atoi(argv[2]));
	if (argc == 3 && strcmp(argv[1], "serve6") == 0)
		serve(AF_INET6, atoi(argv[2]));
	if (argc == 5 && strcmp(argv[1], "stream") == 0)
		return stream(dial(argv[2], atoi(argv[3])), atof(argv[4])), 0;
	if (argc == 5 && strcmp(argv[1], "rr") == 0)
		return request_response(dial(argv[2], atoi(argv[3])), atof(argv[4])), 0;
	fprintf(stderr, "usage: traffic serve PORT | serve6 PORT | stream HOST PORT SECONDS | rr HOST PORT SECONDS\n");
	return 2;
}
