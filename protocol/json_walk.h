/*
 * json_walk: the grammar of JSON (ECMA-262 JSON.parse, RFC 8259), one token at a time. json_scan and json_read both walk, so what
 * one of them accepts the other does too. Nothing recurses: a level of nesting costs one bit.
 */
#ifndef PROTOCOL_JSON_WALK_H
#define PROTOCOL_JSON_WALK_H

#include "base/buf.h"
#include "base/err.h"
#include "protocol/json_scan.h"

#include <stdint.h>

enum json_token {
	JSON_TOKEN_KEY,   /* a member's key; its value comes next */
	JSON_TOKEN_VALUE, /* a string, number or literal */
	JSON_TOKEN_BEGIN, /* of an array or object (see kind) */
	JSON_TOKEN_END,   /* of the innermost one */
	JSON_TOKEN_DONE,  /* the text was exactly one value */
	JSON_TOKEN_ERROR,
};

struct json_walk {
	const char *text;
	size_t len;
	size_t pos;   /* of an error: where it is */
	size_t depth; /* open arrays and objects; after BEGIN with the new one, after END without the old one */

	/* The token text[start..end): keys and strings with their quotes; of BEGIN and END the bracket. */
	enum json_kind kind;
	size_t start, end;
	bool escaped; /* a key or string that holds a backslash */

	enum { JSON_WANT_VALUE, JSON_WANT_ELEMENT_OR_END, JSON_WANT_KEY_OR_END, JSON_WANT_KEY, JSON_WANT_MORE_OR_END } state;
	uint64_t near[8]; /* a bit a level, set for objects: the first 512 levels */
	uint64_t *far;    /* owned: the levels above those */
	size_t far_words;
};

/* Borrows the text. */
void json_walk_init(struct json_walk *w, const char *text, size_t len);
void json_walk_deinit(struct json_walk *w);
enum json_token json_walk_next(struct json_walk *w);
/* After JSON_TOKEN_ERROR: ERR_PROTOCOL with what was wrong and where. Returns -1. */
int json_walk_fail(const struct json_walk *w, struct err *err);

/*
 * Appends what stands between the quotes of a valid string, unescaped (never longer than it was). Lone surrogates become U+FFFD.
 * out has no ceiling.
 */
void json_unescape(const char *text, size_t len, struct buf *out);

#endif
