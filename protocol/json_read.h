/*
 * json_read: JavaScript's JSON to jansson values.
 *
 * Jansson's own parser refuses what JSON.parse takes: lone surrogates (here: U+FFFD), integers beyond 64 bits (here: a real),
 * 1e400 (here: the largest finite double, as jansson has no infinity). Whole numbers are integers however they are written (5.0,
 * 1e3); -0 is a real. The last of duplicate keys counts. NUL in strings and keys is kept (json_string_length, json_object_iter_key_len
 * tell). Nesting is limited, since jansson frees values recursively.
 */
#ifndef PROTOCOL_JSON_READ_H
#define PROTOCOL_JSON_READ_H

#include "base/err.h"

#define JSON_READ_DEPTH_MAX 512

/*
 * Reads exactly one value. Bytes must be valid UTF-8. New reference in *ret, or -1: ERR_PROTOCOL for bad syntax ("… at byte N"),
 * ERR_INVALID for nesting beyond JSON_READ_DEPTH_MAX levels. Does not recurse; takes some 5 KiB of stack.
 */
int json_read(const char *text, size_t len, json_t **ret, struct err *err);

#endif
