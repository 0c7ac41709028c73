#include "base/utf8.h"

#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD"

/* Big inputs are checked and copied a piece at a time, so that the copy finds the bytes in the cache. */
#define PIECE 16384

enum verdict { WHOLE, ILL_FORMED, CUT_SHORT };

/*
 * Judges the sequence at s[0..n), n > 0 (Unicode, table 3-7). *ret_len is the length of the character, or of the maximal part of
 * an ill-formed one, or n if the bytes are a start that needs more.
 */
static enum verdict judge(const unsigned char *s, size_t n, size_t *ret_len)
{
	unsigned char lead = s[0], low = 0x80, high = 0xBF;
	size_t need;

	*ret_len = 1;
	if (lead < 0x80)
		return WHOLE;
	if (lead < 0xC2 || lead > 0xF4)
		return ILL_FORMED;
	need = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
	if (lead == 0xE0)
		low = 0xA0; /* else overlong */
	else if (lead == 0xED)
		high = 0x9F; /* else a surrogate */
	else if (lead == 0xF0)
		low = 0x90;
	else if (lead == 0xF4)
		high = 0x8F; /* else above U+10FFFF */
	for (size_t i = 1; i < need; i++) {
		*ret_len = i;
		if (i == n)
			return CUT_SHORT;
		if (s[i] < low || s[i] > high)
			return ILL_FORMED;
		low = 0x80;
		high = 0xBF;
	}
	*ret_len = need;
	return WHOLE;
}

/* How many bytes at the start of s[0..n) are ASCII, give or take the last few. */
static size_t ascii_run(const unsigned char *s, size_t n)
{
	size_t i = 0;

	while (n - i >= 32) {
		uint64_t w[4];

		memcpy(w, s + i, sizeof(w));
		if ((w[0] | w[1] | w[2] | w[3]) & UINT64_C(0x8080808080808080))
			break;
		i += sizeof(w);
	}
	while (i < n && s[i] < 0x80)
		i++;
	return i;
}

static bool is_tail(unsigned char c)
{
	return (c & 0xC0) == 0x80;
}

/* How many bytes at the start are whole characters. */
static size_t valid_run(const unsigned char *s, size_t n)
{
	size_t i = 0, len;

	while (i < n) {
		/* The common cases inline: ASCII, two bytes, three bytes that are neither overlong nor surrogates. */
		if (s[i] < 0x80)
			i += ascii_run(s + i, n - i);
		else if (s[i] >= 0xC2 && s[i] < 0xE0 && n - i >= 2 && is_tail(s[i + 1]))
			i += 2;
		else if (s[i] > 0xE0 && s[i] < 0xF0 && s[i] != 0xED && n - i >= 3 && is_tail(s[i + 1]) && is_tail(s[i + 2]))
			i += 3;
		else if (judge(s + i, n - i, &len) == WHOLE)
			i += len;
		else
			break;
	}
	return i;
}

/* Completes the held-back sequence with bytes of s. Returns how many were taken, or -1 at the ceiling. */
static ssize_t append_pending(struct utf8_repair *state, const unsigned char *s, size_t n, struct buf *out)
{
	size_t taken = 0, len;

	while (state->pending_len && taken < n) {
		state->pending[state->pending_len] = s[taken];
		switch (judge(state->pending, state->pending_len + 1u, &len)) {
		case CUT_SHORT:
			state->pending_len++;
			taken++;
			break;
		case WHOLE:
			state->pending_len = 0;
			taken++;
			if (buf_append(out, state->pending, len) < 0)
				return -1;
			break;
		case ILL_FORMED:
			/* What was held back is the maximal part; the new byte starts afresh. */
			state->pending_len = 0;
			if (buf_append(out, REPLACEMENT, 3) < 0)
				return -1;
			break;
		}
	}
	return (ssize_t)taken;
}

static int append(struct utf8_repair *state, const unsigned char *s, size_t n, struct buf *out)
{
	ssize_t taken = append_pending(state, s, n, out);

	if (taken < 0)
		return -1;
	for (size_t i = (size_t)taken; i < n;) {
		size_t piece = n - i < PIECE ? n - i : PIECE;
		size_t run = valid_run(s + i, piece), len;

		if (buf_append(out, s + i, run) < 0)
			return -1;
		i += run;
		if (i == n)
			break;
		switch (judge(s + i, n - i, &len)) {
		case WHOLE: /* cut by the piece's end only */
			break;
		case ILL_FORMED:
			if (buf_append(out, REPLACEMENT, 3) < 0)
				return -1;
			i += len;
			break;
		case CUT_SHORT:
			memcpy(state->pending, s + i, len);
			state->pending_len = (unsigned char)len;
			i += len;
			break;
		}
	}
	return 0;
}

int utf8_repair_append(struct utf8_repair *state, const void *bytes, size_t n, struct buf *out)
{
	struct utf8_repair old_state = *state;
	size_t old_len = out->len;

	/* Text never gets shorter than its bytes (less those held back): grow once. At the ceiling the appends decide. */
	if (n > PIECE)
		buf_reserve(out, n);
	if (append(state, bytes, n, out) < 0) {
		*state = old_state;
		buf_truncate(out, old_len);
		return -1;
	}
	return 0;
}

int utf8_repair_finish(struct utf8_repair *state, struct buf *out)
{
	if (state->pending_len && buf_append(out, REPLACEMENT, 3) < 0)
		return -1;
	state->pending_len = 0;
	return 0;
}

bool utf8_is_valid(const void *bytes, size_t n)
{
	return valid_run(bytes, n) == n;
}

size_t utf8_floor(const char *text, size_t n)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t start = n, len;

	/* The last character's first byte is at most four bytes back. */
	while (start > 0 && n - start < 4 && is_tail(s[start - 1]))
		start--;
	if (start == 0)
		return n;
	start--;
	return judge(s + start, n - start, &len) == CUT_SHORT ? start : n;
}

size_t utf8_ceil(const char *text, size_t len, size_t n)
{
	while (n < len && is_tail((unsigned char)text[n]))
		n++;
	return n < len ? n : len;
}

size_t utf8_put(char *out, uint32_t c)
{
	if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
		c = 0xFFFD;
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	size_t len = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = len - 1; i > 0; i--, c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3F));
	out[0] = (char)((len == 2 ? 0xC0 : len == 3 ? 0xE0 : 0xF0) | c);
	return len;
}

int utf8_append_codepoint(struct buf *out, uint32_t codepoint)
{
	char character[4];

	return buf_append(out, character, utf8_put(character, codepoint));
}
