#include "protocol/json_walk.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/json_block.h"

#include <string.h>

#define NEAR_LEVELS 512

void json_walk_init(struct json_walk *w, const char *text, size_t len)
{
	*w = (struct json_walk){.text = text, .len = len, .state = JSON_WANT_VALUE};
}

void json_walk_deinit(struct json_walk *w)
{
	free(w->far);
	w->far = NULL;
	w->far_words = 0;
}

static void push(struct json_walk *w, bool is_object)
{
	size_t word = w->depth / 64;
	uint64_t bit = UINT64_C(1) << w->depth % 64, *at;

	if (w->depth < NEAR_LEVELS) {
		at = &w->near[word];
	} else {
		word -= NEAR_LEVELS / 64;
		if (word >= w->far_words) {
			w->far_words = 2 * w->far_words + 16;
			w->far = xrealloc(w->far, w->far_words * sizeof(*w->far));
		}
		at = &w->far[word];
	}
	*at = is_object ? *at | bit : *at & ~bit;
	w->depth++;
}

static bool in_object(const struct json_walk *w)
{
	size_t level = w->depth - 1;
	uint64_t word = level < NEAR_LEVELS ? w->near[level / 64] : w->far[(level - NEAR_LEVELS) / 64];

	return word >> level % 64 & 1;
}

static enum json_token error_at(struct json_walk *w, size_t pos)
{
	w->pos = pos;
	w->kind = JSON_KIND_NONE;
	return JSON_TOKEN_ERROR;
}

/* The character at pos, or -1 at the end. */
static int peek(const struct json_walk *w, size_t pos)
{
	return pos < w->len ? (unsigned char)w->text[pos] : -1;
}

static void skip_space(struct json_walk *w)
{
	while (w->pos < w->len) {
		char c = w->text[w->pos];

		if (c != ' ' && c != '\n' && c != '\r' && c != '\t')
			break;
		w->pos++;
	}
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex(int c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Up to the next quote, backslash or control. */
static size_t plain_end(const struct json_walk *w, size_t pos)
{
	for (size_t n; w->len - pos >= JSON_BLOCK; pos += n) {
		n = json_block_first(json_block_special(json_block_load(w->text + pos)));
		if (n < JSON_BLOCK)
			return pos + n;
	}
	while (pos < w->len) {
		unsigned char c = (unsigned char)w->text[pos];

		if (c < 0x20 || c == '"' || c == '\\')
			break;
		pos++;
	}
	return pos;
}

/* The character after a backslash at pos; returns where the escape ends, or 0 with *ret_bad at the offending byte. */
static size_t escape_end(const struct json_walk *w, size_t pos, size_t *ret_bad)
{
	int c = peek(w, pos);

	*ret_bad = pos;
	if (c == 'u') {
		for (size_t i = 1; i <= 4; i++) {
			*ret_bad = pos + i;
			if (!is_hex(peek(w, pos + i)))
				return 0;
		}
		return pos + 5;
	}
	return c > 0 && strchr("\"\\/bfnrt", c) ? pos + 1 : 0;
}

static enum json_token string(struct json_walk *w, enum json_token token)
{
	size_t pos = w->pos + 1, bad;

	w->start = w->pos;
	w->kind = JSON_KIND_STRING;
	w->escaped = false;
	for (;;) {
		pos = plain_end(w, pos);
		int c = peek(w, pos);

		if (c == '"') {
			w->pos = w->end = pos + 1;
			return token;
		}
		if (c != '\\')
			return error_at(w, pos);
		w->escaped = true;
		pos = escape_end(w, pos + 1, &bad);
		if (!pos)
			return error_at(w, bad);
	}
}

/* At least one digit; returns the end of them, or 0. */
static size_t digits_end(const struct json_walk *w, size_t pos)
{
	if (!is_digit(peek(w, pos)))
		return 0;
	while (is_digit(peek(w, pos)))
		pos++;
	return pos;
}

static enum json_token number(struct json_walk *w)
{
	size_t pos = w->pos + (peek(w, w->pos) == '-'), end;

	w->start = w->pos;
	w->kind = JSON_KIND_NUMBER;
	end = peek(w, pos) == '0' ? pos + 1 : digits_end(w, pos);
	if (end && peek(w, end) == '.') {
		pos = end + 1;
		end = digits_end(w, pos);
	}
	if (end && (peek(w, end) | 0x20) == 'e') {
		pos = end + 1;
		if (peek(w, pos) == '+' || peek(w, pos) == '-')
			pos++;
		end = digits_end(w, pos);
	}
	if (!end)
		return error_at(w, pos);
	w->pos = w->end = end;
	return JSON_TOKEN_VALUE;
}

static enum json_token literal(struct json_walk *w, const char *word, enum json_kind kind)
{
	size_t i = 0;

	while (word[i] && peek(w, w->pos + i) == (unsigned char)word[i])
		i++;
	if (word[i])
		return error_at(w, w->pos + i);
	w->start = w->pos;
	w->kind = kind;
	w->pos = w->end = w->pos + i;
	return JSON_TOKEN_VALUE;
}

static enum json_token begin(struct json_walk *w, bool is_object)
{
	push(w, is_object);
	w->start = w->pos++;
	w->end = w->pos;
	w->kind = is_object ? JSON_KIND_OBJECT : JSON_KIND_ARRAY;
	w->state = is_object ? JSON_WANT_KEY_OR_END : JSON_WANT_ELEMENT_OR_END;
	return JSON_TOKEN_BEGIN;
}

static enum json_token value(struct json_walk *w)
{
	int c = peek(w, w->pos);

	w->state = JSON_WANT_MORE_OR_END;
	switch (c) {
	case '"':
		return string(w, JSON_TOKEN_VALUE);
	case '{':
		return begin(w, true);
	case '[':
		return begin(w, false);
	case 't':
		return literal(w, "true", JSON_KIND_TRUE);
	case 'f':
		return literal(w, "false", JSON_KIND_FALSE);
	case 'n':
		return literal(w, "null", JSON_KIND_NULL);
	default:
		return c == '-' || is_digit(c) ? number(w) : error_at(w, w->pos);
	}
}

static enum json_token end(struct json_walk *w)
{
	w->kind = in_object(w) ? JSON_KIND_OBJECT : JSON_KIND_ARRAY;
	w->start = w->pos++;
	w->end = w->pos;
	w->depth--;
	w->state = JSON_WANT_MORE_OR_END;
	return JSON_TOKEN_END;
}

static enum json_token key(struct json_walk *w)
{
	if (peek(w, w->pos) != '"')
		return error_at(w, w->pos);
	if (string(w, JSON_TOKEN_KEY) == JSON_TOKEN_ERROR)
		return JSON_TOKEN_ERROR;
	skip_space(w);
	if (peek(w, w->pos) != ':')
		return error_at(w, w->pos);
	w->pos++;
	w->state = JSON_WANT_VALUE;
	return JSON_TOKEN_KEY;
}

enum json_token json_walk_next(struct json_walk *w)
{
	skip_space(w);
	int c = peek(w, w->pos);

	switch (w->state) {
	case JSON_WANT_VALUE:
		return value(w);
	case JSON_WANT_ELEMENT_OR_END:
		return c == ']' ? end(w) : value(w);
	case JSON_WANT_KEY_OR_END:
		return c == '}' ? end(w) : key(w);
	case JSON_WANT_KEY:
		return key(w);
	case JSON_WANT_MORE_OR_END:
		break;
	}
	if (w->depth == 0)
		return c < 0 ? JSON_TOKEN_DONE : error_at(w, w->pos);
	if (c == (in_object(w) ? '}' : ']'))
		return end(w);
	if (c != ',')
		return error_at(w, w->pos);
	w->pos++;
	skip_space(w);
	return in_object(w) ? key(w) : value(w);
}

int json_walk_fail(const struct json_walk *w, struct err *err)
{
	if (w->pos >= w->len)
		return err_set(err, ERR_PROTOCOL, "unexpected end at byte %zu", w->len);
	return err_set(err, ERR_PROTOCOL, "unexpected character at byte %zu", w->pos);
}

static uint32_t hex4(const char *text)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)text[i];

		value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return value;
}

/* The code point of the escape that text[0..n) starts with; half a surrogate pair as it is. *ret_len: the escape's length. */
static uint32_t unicode_escape(const char *text, size_t n, size_t *ret_len)
{
	uint32_t c = hex4(text + 2), low;

	*ret_len = 6;
	if (c < 0xD800 || c > 0xDBFF || n < 12 || text[6] != '\\' || text[7] != 'u')
		return c;
	low = hex4(text + 8);
	if (low < 0xDC00 || low > 0xDFFF)
		return c;
	*ret_len = 12;
	return 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
}

/* The byte that a backslash and c stand for. */
static char short_escape(char c)
{
	switch (c) {
	case 'b':
		return '\b';
	case 'f':
		return '\f';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	default:
		return c;
	}
}

/* Writes what the escape at s means to out, which has room for it; returns the end of it. *ret_len: the escape's length. */
static char *put_unescaped(char *out, const char *s, size_t n, size_t *ret_len)
{
	if (s[1] != 'u') {
		*ret_len = 2;
		*out = short_escape(s[1]);
		return out + 1;
	}
	return out + utf8_put(out, unicode_escape(s, n, ret_len));
}

void json_unescape(const char *text, size_t len, struct buf *out)
{
	const char *s = text, *end = text + len;
	/* All the room at once: what is written is never ahead of what was read. */
	char *start = buf_reserve(out, len), *to = start;
	size_t n;

	while (s < end) {
		const char *stop = end - s < JSON_BLOCK ? end : s + JSON_BLOCK;

		if (stop - s == JSON_BLOCK && !json_block_any((json_block)(json_block_load(s) == '\\'))) {
			memcpy(to, s, JSON_BLOCK);
			to += JSON_BLOCK;
			s = stop;
		}
		while (s < stop) {
			if (*s == '\\') {
				to = put_unescaped(to, s, (size_t)(end - s), &n);
				s += n;
			} else {
				*to++ = *s++;
			}
		}
	}
	buf_added(out, (size_t)(to - start));
}
