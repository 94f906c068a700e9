/*
 * policy-latency: TCP connections one after the other, and request and answer on one, with their server.
 *   policy-latency serve PORT           accepts and answers one byte at a time, one connection after the other
 *   policy-latency rr HOST PORT MS      one-byte request and answer for MS; prints "PER_SECOND P50 P99" (ns)
 *   policy-latency new HOST PORT MS     connect, one byte and its answer, reset; the same figures
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

enum { MAX_SAMPLES = 1 << 20, BACKLOG = 1024 };
static int64_t samples[MAX_SAMPLES];

static int64_t now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what) {
	fprintf(stderr, "policy-latency: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int sock(void) {
	int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	if (fd < 0) die("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd;
}

static struct sockaddr_in address(const char *host, const char *port) {
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	if (inet_pton(AF_INET, host, &a.sin_addr) != 1) die(host);
	return a;
}

static void serve(const char *port) {
	struct sockaddr_in a = address("0.0.0.0", port);
	int fd = sock();
	char byte;
	if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, BACKLOG)) die("listen");
	for (;;) {
		int c = accept(fd, NULL, NULL), one = 1;
		if (c < 0) continue;
		setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		while (read(c, &byte, 1) == 1 && write(c, &byte, 1) == 1) {}
		close(c);
	}
}

static int connected(const struct sockaddr_in *a) {
	int fd = sock();
	struct linger reset = {1, 0};
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
	if (connect(fd, (const struct sockaddr *)a, sizeof *a)) die("connect");
	return fd;
}

static void ask(int fd) {
	char byte = '.';
	if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1) die("answer");
}

static int by_size(const void *a, const void *b) {
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return x < y ? -1 : x > y;
}

int main(int argc, char **argv) {
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "serve")) serve(argv[2]);
	if (argc != 5) return 2;
	struct sockaddr_in a = address(argv[2], argv[3]);
	int is_new = !strcmp(argv[1], "new"), count = 0, fd = is_new ? -1 : connected(&a);
	int64_t began = now(), end = began + (int64_t)atoi(argv[4]) * 1000000, t = began;
	while (t < end && count < MAX_SAMPLES) {
		int64_t from = now();
		if (is_new) fd = connected(&a);
		ask(fd);
		if (is_new) close(fd);
		t = now();
		samples[count++] = t - from;
	}
	qsort(samples, (size_t)count, sizeof *samples, by_size);
	printf("%.0f %lld %lld\n", count * 1e9 / (double)(t - began), (long long)samples[count / 2],
	       (long long)samples[count * 99 / 100]);
	return 0;
}
