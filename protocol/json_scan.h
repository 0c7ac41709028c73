/*
 * json_scan: JavaScript's JSON (ECMA-262 JSON.parse), judged and cut without building anything.
 *
 * Not recursive: any depth of nesting costs a bit a level. Numbers and strings of any size pass, lone surrogates included.
 */
#ifndef PROTOCOL_JSON_SCAN_H
#define PROTOCOL_JSON_SCAN_H

#include "base/err.h"

#include <stddef.h>

enum json_kind {
	JSON_KIND_NONE,
	JSON_KIND_NULL,
	JSON_KIND_FALSE,
	JSON_KIND_TRUE,
	JSON_KIND_NUMBER,
	JSON_KIND_STRING,
	JSON_KIND_ARRAY,
	JSON_KIND_OBJECT,
};

/* A piece of the scanned text, borrowed. kind NONE: not there. */
struct json_slice {
	enum json_kind kind;
	const char *text; /* strings with their quotes */
	size_t len;
};

/* One wanted member of an object; the last of duplicates counts, as in JavaScript. Keys are compared after unescaping. */
struct json_member {
	const char *key;
	struct json_slice value;
};

/*
 * Checks that text[0..len) is exactly one JSON value (white space around it is fine). If it is an object, fills the wanted members.
 * On a syntax error returns -1 (ERR_PROTOCOL, "… at byte N") with those members filled that were read whole before the error; one
 * that was begun but not finished has kind NONE and its text set.
 */
int json_scan(const char *text, size_t len, enum json_kind *ret_kind, struct json_member *members, size_t member_count,
	      struct err *err);

/*
 * A STRING slice of a valid text, unescaped; lone surrogates become U+FFFD. New string of *ret_len bytes and a NUL (the text may hold
 * NULs itself).
 */
char *json_slice_string(const struct json_slice *slice, size_t *ret_len);

#endif
