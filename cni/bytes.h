// Bytes of any length and the ways in and out of this program, each with an end: of bytes or of time (ms, monotonic).
// Fail by answering false, with errno.
#ifndef PODWAY_BYTES_H
#define PODWAY_BYTES_H

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct text {
	char *at;
	size_t length, cap;
};

static int64_t now_ms(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool write_all(int fd, const char *at, size_t length) {
	while (length > 0) {
		ssize_t n = write(fd, at, length);
		if (n < 0 && errno == EINTR) continue;
		if (n <= 0) return false;
		at += n;
		length -= (size_t)n;
	}
	return true;
}

static bool append(struct text *t, const char *bytes, size_t length) {
	if (t->cap - t->length < length) {
		size_t cap = (t->length + length) * 2 + 4096;
		char *grown = realloc(t->at, cap);
		if (!grown) return false;
		t->at = grown;
		t->cap = cap;
	}
	if (length > 0) memcpy(t->at + t->length, bytes, length);
	t->length += length;
	return true;
}

// Reads until end of file, at most `limit` bytes (one more is a failure with EFBIG) and not after `deadline`.
static bool read_all(int fd, struct text *t, size_t limit, int64_t deadline) {
	char chunk[65536];
	for (;;) {
		int64_t left = deadline - now_ms();
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int ready = poll(&p, 1, left > 0 ? (int)left : 0);
		if (ready < 0 && errno == EINTR) continue;
		if (ready < 0) return false;
		if (ready == 0) return errno = ETIMEDOUT, false;
		ssize_t n = read(fd, chunk, sizeof chunk);
		if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
		if (n < 0) return false;
		if (n == 0) return true;
		if (t->length + (size_t)n > limit) return errno = EFBIG, false;
		if (!append(t, chunk, (size_t)n)) return errno = ENOMEM, false;
	}
}

// Sends as much as it takes; an agent that stops reading is given until `deadline`.
static bool send_all(int fd, const struct text *t, int64_t deadline) {
	for (size_t at = 0; at < t->length;) {
		ssize_t n = send(fd, t->at + at, t->length - at, MSG_NOSIGNAL);
		if (n > 0) at += (size_t)n;
		else if (errno != EINTR && errno != EAGAIN) return false;
		else if (now_ms() >= deadline) return errno = ETIMEDOUT, false;
	}
	return true;
}

#endif
