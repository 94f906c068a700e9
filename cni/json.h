// A strict JSON reader that keeps nothing but a few top-level strings: enough to validate what came on stdin, to say
// which field is wrong while the agent is away, and to see that the agent's answer is whole before it is printed.
// Bounded in depth and in what it keeps; reads nothing outside [at, end); fails by answering false.
#ifndef PODWAY_JSON_H
#define PODWAY_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { JSON_MAX_DEPTH = 512, JSON_FIELD = 256 };
enum json_kind { JSON_ABSENT, JSON_STRING, JSON_OTHER };

// One top-level key that somebody asked for. `length` is the string's true length, which may exceed what `text` holds.
struct json_field {
	const char *key;
	enum json_kind kind;
	size_t length;
	char text[JSON_FIELD];
};

struct json_scan {
	const char *at, *end;
	int depth;
	struct json_field *fields;
	size_t count;
};

// Where decoded string bytes go: counts all, stores what fits.
struct json_sink {
	char *text;
	size_t cap, length;
};

static void json_put(struct json_sink *sink, unsigned byte) {
	if (sink->length < sink->cap) sink->text[sink->length] = (char)byte;
	sink->length++;
}

static void json_put_rune(struct json_sink *sink, unsigned rune) {
	if (rune < 0x80) {
		json_put(sink, rune);
	} else if (rune < 0x800) {
		json_put(sink, 0xc0 | rune >> 6);
		json_put(sink, 0x80 | (rune & 0x3f));
	} else if (rune < 0x10000) {
		json_put(sink, 0xe0 | rune >> 12);
		json_put(sink, 0x80 | (rune >> 6 & 0x3f));
		json_put(sink, 0x80 | (rune & 0x3f));
	} else {
		json_put(sink, 0xf0 | rune >> 18);
		json_put(sink, 0x80 | (rune >> 12 & 0x3f));
		json_put(sink, 0x80 | (rune >> 6 & 0x3f));
		json_put(sink, 0x80 | (rune & 0x3f));
	}
}

static void json_space(struct json_scan *s) {
	while (s->at < s->end && (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r')) s->at++;
}

static bool json_take(struct json_scan *s, char wanted) {
	if (s->at >= s->end || *s->at != wanted) return false;
	s->at++;
	return true;
}

// Four hex digits after `\u`.
static bool json_hex4(struct json_scan *s, unsigned *value) {
	if (s->end - s->at < 4) return false;
	*value = 0;
	for (int i = 0; i < 4; i++) {
		char c = *s->at++;
		unsigned digit;
		if (c >= '0' && c <= '9') digit = (unsigned)(c - '0');
		else if (c >= 'a' && c <= 'f') digit = (unsigned)(c - 'a' + 10);
		else if (c >= 'A' && c <= 'F') digit = (unsigned)(c - 'A' + 10);
		else return false;
		*value = *value << 4 | digit;
	}
	return true;
}

static bool json_escape(struct json_scan *s, struct json_sink *sink) {
	static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
	if (s->at >= s->end) return false;
	char c = *s->at++;
	if (c != 'u') {
		const char *found = c ? strchr(names, c) : NULL;
		if (!found) return false;
		json_put(sink, (unsigned char)bytes[found - names]);
		return true;
	}
	unsigned rune, low;
	if (!json_hex4(s, &rune)) return false;
	if (rune >= 0xd800 && rune < 0xdc00 && s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u') {
		struct json_scan ahead = {.at = s->at + 2, .end = s->end};
		if (!json_hex4(&ahead, &low)) return false;
		if (low >= 0xdc00 && low < 0xe000) {
			rune = 0x10000 + ((rune - 0xd800) << 10) + (low - 0xdc00);
			s->at = ahead.at;
		}
	}
	json_put_rune(sink, rune >= 0xd800 && rune < 0xe000 ? 0xfffd : rune);  // half a surrogate pair is no character
	return true;
}

static bool json_string(struct json_scan *s, struct json_sink *sink) {
	if (!json_take(s, '"')) return false;
	while (s->at < s->end) {
		unsigned char c = (unsigned char)*s->at++;
		if (c == '"') return true;
		if (c < 0x20) return false;
		if (c != '\\') json_put(sink, c);
		else if (!json_escape(s, sink)) return false;
	}
	return false;
}

static bool json_digits(struct json_scan *s) {
	const char *start = s->at;
	while (s->at < s->end && *s->at >= '0' && *s->at <= '9') s->at++;
	return s->at > start;
}

static bool json_number(struct json_scan *s) {
	json_take(s, '-');
	if (!json_take(s, '0') && !json_digits(s)) return false;
	if (json_take(s, '.') && !json_digits(s)) return false;
	if (json_take(s, 'e') || json_take(s, 'E')) {
		if (!json_take(s, '+')) json_take(s, '-');
		return json_digits(s);
	}
	return true;
}

static bool json_word(struct json_scan *s, const char *word) {
	size_t length = strlen(word);
	if ((size_t)(s->end - s->at) < length || memcmp(s->at, word, length) != 0) return false;
	s->at += length;
	return true;
}

static bool json_value(struct json_scan *s);

static bool json_member(struct json_scan *s) {
	char key[JSON_FIELD];
	struct json_sink sink = {key, sizeof key, 0};
	json_space(s);
	if (!json_string(s, &sink)) return false;
	json_space(s);
	if (!json_take(s, ':')) return false;
	json_space(s);
	struct json_field *field = NULL;
	for (size_t i = 0; s->depth == 1 && i < s->count; i++) {
		if (strlen(s->fields[i].key) == sink.length && memcmp(s->fields[i].key, key, sink.length) == 0) field = &s->fields[i];
	}
	if (!field) return json_value(s);
	if (s->at < s->end && *s->at == '"') {
		struct json_sink value = {field->text, sizeof field->text - 1, 0};
		if (!json_string(s, &value)) return false;
		field->kind = JSON_STRING;
		field->length = value.length;
		field->text[value.length < value.cap ? value.length : value.cap] = '\0';
		return true;
	}
	field->kind = s->at < s->end && *s->at == 'n' ? JSON_ABSENT : JSON_OTHER;  // null says the same as nothing
	return json_value(s);
}

static bool json_items(struct json_scan *s, char close, bool (*item)(struct json_scan *)) {
	if (++s->depth > JSON_MAX_DEPTH) return false;
	s->at++;
	json_space(s);
	if (!json_take(s, close)) {
		do {
			if (!item(s)) return false;
			json_space(s);
		} while (json_take(s, ','));
		if (!json_take(s, close)) return false;
	}
	s->depth--;
	return true;
}

static bool json_value(struct json_scan *s) {
	json_space(s);
	if (s->at >= s->end) return false;
	switch (*s->at) {
	case '{': return json_items(s, '}', json_member);
	case '[': return json_items(s, ']', json_value);
	case '"': return json_string(s, &(struct json_sink){NULL, 0, 0});
	case 't': return json_word(s, "true");
	case 'f': return json_word(s, "false");
	case 'n': return json_word(s, "null");
	default: return json_number(s);
	}
}

// True when `text` is exactly one JSON object. Fills the wanted top-level fields; of a repeated key the last one counts.
static bool json_object(const char *text, size_t length, struct json_field *fields, size_t count) {
	struct json_scan s = {.at = text, .end = text + length, .fields = fields, .count = count};
	json_space(&s);
	if (s.at >= s.end || *s.at != '{' || !json_value(&s)) return false;
	json_space(&s);
	return s.at == s.end;
}

#endif
