/*
 * utf8: bytes of any kind to valid UTF-8, incrementally, as WHATWG's decoder does it (encoding.spec.whatwg.org,
 * "UTF-8 decoder", replacement mode, no BOM handling): each maximal part of an ill-formed sequence becomes one U+FFFD.
 * A sequence that is cut between two calls is held back until its rest comes.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include "base/buf.h"

/* Zeroed is the start of a text. */
struct utf8_repair {
	unsigned char pending[4]; /* the held-back start of a sequence */
	unsigned char pending_len;
};

/* Appends the text of the n bytes to out (up to 3 x (n + 3) bytes). Returns 0, or -1 at out's ceiling (nothing changes then). */
int utf8_repair_append(struct utf8_repair *state, const void *bytes, size_t n, struct buf *out);
/* The input has ended: a sequence that is still held back becomes U+FFFD. */
int utf8_repair_finish(struct utf8_repair *state, struct buf *out);

bool utf8_is_valid(const void *bytes, size_t n);
/* The largest k <= n with bytes[0..k) not ending inside a character of the valid text bytes[0..n). */
size_t utf8_floor(const char *text, size_t n);
/* The smallest k >= n that is the start of a character (or len) in the valid text of len bytes. */
size_t utf8_ceil(const char *text, size_t len, size_t n);
/* Writes the code point as UTF-8, 1 to 4 bytes (surrogates and values above U+10FFFF as U+FFFD). Returns how many. */
size_t utf8_put(char *out, uint32_t codepoint);
/* Appends it. */
int utf8_append_codepoint(struct buf *out, uint32_t codepoint);

#endif
