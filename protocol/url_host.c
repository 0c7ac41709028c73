#include "protocol/url_host.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/url.h"

#include <ctype.h>
#include <string.h>

#define INVALID "the URL's host is not valid"

/* --- IPv6 --- */

struct cursor {
	const char *at, *end;
};

static int peek(const struct cursor *c)
{
	return c->at < c->end ? (unsigned char)*c->at : -1;
}

/* The last 32 bits as a dotted quad, into pieces[0..2). Nothing may follow. */
static int parse_embedded_ipv4(struct cursor *c, unsigned short *pieces)
{
	for (int number = 0; number < 4; number++) {
		int value = -1;

		if (number > 0 && (peek(c) != '.' || (c->at++, false)))
			return -1;
		while (isdigit(peek(c))) {
			if (value == 0)
				return -1;
			value = (value < 0 ? 0 : value * 10) + (*c->at++ - '0');
			if (value > 255)
				return -1;
		}
		if (value < 0)
			return -1;
		pieces[number / 2] = (unsigned short)(pieces[number / 2] << 8 | value);
	}
	return peek(c) < 0 ? 0 : -1;
}

static int parse_piece(struct cursor *c, unsigned *ret)
{
	int digits = 0;

	*ret = 0;
	while (digits < 4 && isxdigit(peek(c))) {
		int digit = (unsigned char)*c->at++;

		*ret = *ret * 16 + (unsigned)(isdigit(digit) ? digit - '0' : (digit | 0x20) - 'a' + 10);
		digits++;
	}
	return digits;
}

/* Moves what follows the "::" to the end. */
static int expand(unsigned short pieces[8], int count, int gap)
{
	if (gap < 0)
		return count == 8 ? 0 : -1;
	int tail = count - gap;

	memmove(pieces + 8 - tail, pieces + gap, (size_t)tail * sizeof(*pieces));
	memset(pieces + gap, 0, (size_t)(8 - count) * sizeof(*pieces));
	return 0;
}

static int parse_ipv6(struct cursor c, unsigned short pieces[8])
{
	int count = 0, gap = -1;

	memset(pieces, 0, 8 * sizeof(*pieces));
	if (peek(&c) == ':') {
		if (c.end - c.at < 2 || c.at[1] != ':')
			return -1;
		c.at += 2;
		gap = 0;
		count = 0;
	}
	while (peek(&c) >= 0) {
		if (count == 8)
			return -1;
		if (peek(&c) == ':') {
			if (gap >= 0)
				return -1;
			c.at++;
			gap = count;
			continue;
		}
		const char *start = c.at;
		unsigned value;
		int digits = parse_piece(&c, &value);

		if (peek(&c) == '.') {
			c.at = start;
			if (digits == 0 || count > 6 || parse_embedded_ipv4(&c, pieces + count) < 0)
				return -1;
			count += 2;
			break;
		}
		if (digits == 0)
			return -1;
		pieces[count++] = (unsigned short)value;
		if (peek(&c) < 0)
			break;
		if (peek(&c) != ':' || (c.at++, peek(&c) < 0))
			return -1;
	}
	/* Eight pieces and a "::" that stands for none are not allowed. */
	return gap >= 0 && count == 8 ? -1 : expand(pieces, count, gap);
}

/* The longest run of zero pieces, of two at least, is shortened to "::". */
static char *format_ipv6(const unsigned short pieces[8])
{
	cleanup_buf struct buf out = BUF_INIT(64);
	int best = -1, best_len = 1;

	for (int i = 0; i < 8; i++) {
		int len = 0;

		while (i + len < 8 && pieces[i + len] == 0)
			len++;
		if (len > best_len) {
			best = i;
			best_len = len;
		}
	}
	buf_append_char(&out, '[');
	for (int i = 0; i < 8; i++) {
		if (i == best) {
			buf_append_str(&out, i == 0 ? "::" : ":");
			i += best_len - 1;
			continue;
		}
		buf_printf(&out, "%x%s", (unsigned)pieces[i], i < 7 ? ":" : "");
	}
	buf_append_char(&out, ']');
	return buf_steal(&out);
}

static char *parse_bracketed(const char *text, size_t len)
{
	unsigned short pieces[8];

	if (text[len - 1] != ']' || parse_ipv6((struct cursor){text + 1, text + len - 1}, pieces) < 0)
		return NULL;
	return format_ipv6(pieces);
}

/* --- IPv4 --- */

/* 10, 0x1f or 017; "0x" is 0. -1: no number; above 32 bits: some number above 32 bits. */
static int64_t parse_ipv4_number(const char *text, size_t len)
{
	int radix = 10;
	int64_t value = 0;

	if (len == 0)
		return -1;
	if (len >= 2 && text[0] == '0' && (text[1] | 0x20) == 'x') {
		radix = 16;
		text += 2;
		len -= 2;
	} else if (len >= 2 && text[0] == '0') {
		radix = 8;
		text++;
		len--;
	}
	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)text[i];
		int digit = isdigit(c) ? c - '0' : isxdigit(c) ? (c | 0x20) - 'a' + 10 : 16;

		if (digit >= radix)
			return -1;
		if (value <= UINT32_MAX)
			value = value * radix + digit;
	}
	return value;
}

/* "Ends in a number checker": then the host is an IPv4 address or invalid. */
static bool ends_in_number(const char *host)
{
	size_t len = strlen(host);

	if (len > 0 && host[len - 1] == '.')
		len--;
	size_t start = len;

	while (start > 0 && host[start - 1] != '.')
		start--;
	if (start == len)
		return false;
	bool digits = true;

	for (size_t i = start; i < len; i++)
		digits = digits && isdigit((unsigned char)host[i]);
	return digits || parse_ipv4_number(host + start, len - start) >= 0;
}

static char *parse_ipv4(const char *host)
{
	int64_t numbers[4];
	int count = 0;

	for (;;) {
		size_t len = strcspn(host, ".");

		if (len == 0 && *host == '\0' && count > 0)
			break; /* the dot at the end */
		if (count == 4 || (numbers[count] = parse_ipv4_number(host, len)) < 0)
			return NULL;
		count++;
		host += len;
		if (*host == '\0')
			break;
		host++;
	}
	uint32_t address = 0;

	for (int i = 0; i < count - 1; i++) {
		if (numbers[i] > 255)
			return NULL;
		address |= (uint32_t)numbers[i] << (24 - 8 * i);
	}
	if (numbers[count - 1] >= INT64_C(1) << (8 * (5 - count)))
		return NULL;
	address |= (uint32_t)numbers[count - 1];
	return xasprintf("%u.%u.%u.%u", address >> 24, address >> 16 & 255, address >> 8 & 255, address & 255);
}

/* --- names --- */

static bool is_forbidden(unsigned char c, bool domain)
{
	if (c == '\0' || strchr("\t\n\r #/:<>?@[\\]^|", c))
		return true;
	return domain && (c <= 0x1F || c == '%' || c == 0x7F);
}

static char *parse_opaque(const char *text, size_t len)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (is_forbidden(c, false))
			return NULL;
		if (c <= 0x1F || c >= 0x7F)
			buf_printf(&out, "%%%02X", (unsigned)c);
		else
			buf_append_char(&out, text[i]);
	}
	return buf_steal(&out);
}

static char *parse_domain(const char *text, size_t len)
{
	cleanup_buf struct buf decoded = BUF_INIT(BUF_UNBOUNDED), ascii = BUF_INIT(BUF_UNBOUNDED);

	url_percent_decode(&decoded, text, len);
	if (decoded.len == 0 || !utf8_is_valid(decoded.data, decoded.len) ||
	    url_domain_to_ascii(decoded.data, decoded.len, &ascii) < 0)
		return NULL;
	for (size_t i = 0; i < ascii.len; i++)
		if (is_forbidden((unsigned char)ascii.data[i], true))
			return NULL;
	return ends_in_number(ascii.data) ? parse_ipv4(ascii.data) : buf_steal(&ascii);
}

char *url_host_parse(const char *text, size_t len, bool special, struct err *err)
{
	char *host;

	if (text[0] == '[')
		host = parse_bracketed(text, len);
	else
		host = special ? parse_domain(text, len) : parse_opaque(text, len);
	if (!host)
		err_set(err, ERR_INVALID, "%s", INVALID);
	return host;
}
