// How a version, a container id, a network and an interface may be named.
#ifndef PODWAY_NAMES_H
#define PODWAY_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum {
	VERSION_BYTES = 32,  // with the NUL
	MAX_IFNAME = 15,     // bytes: IFNAMSIZ - 1
};

// x, x.y or x.y.z in digits.
static bool is_version(const char *text, size_t length) {
	int parts = 1;
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '.') {
			if (i == 0 || i + 1 == length || text[i - 1] == '.' || ++parts > 3) return false;
		} else if (text[i] < '0' || text[i] > '9') {
			return false;
		}
	}
	return length > 0 && length < VERSION_BYTES;
}

static bool is_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

// The rule for container ids and network names: alphanumeric first, then also `_`, `.` and `-`.
static bool is_name(const char *text, size_t length) {
	for (size_t i = 0; i < length; i++) {
		if (!is_alnum(text[i]) && (i == 0 || (text[i] != '_' && text[i] != '.' && text[i] != '-'))) return false;
	}
	return length > 0;
}

// The rule of CNI, and what Linux would not take or, of `%`, would take for a template of another name. Whether bytes
// above ASCII are text is left to the agent.
static bool is_ifname(const char *text) {
	static const char *const taken[] = {".", "..", "all", "default"};
	for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
		if (strcmp(text, taken[i]) == 0) return false;
	}
	for (const char *c = text; *c; c++) {
		if ((unsigned char)*c <= ' ' || *c == 0x7f || *c == '/' || *c == ':' || *c == '%') return false;
	}
	return strlen(text) <= MAX_IFNAME;
}

#endif
