/* Names outside ASCII: mapped, then each label as punycode (RFC 3492, RFC 5891; UTS 46 in its common part). */
#include "protocol/url_host.h"

#include "base/mem.h"

#include <string.h>

#define LABEL_MAX 1024 /* code points; a longer one is refused: punycode takes quadratic time */

/* The code point at text[*at], which moves past it. The text is valid UTF-8. */
static uint32_t next_codepoint(const char *text, size_t *at)
{
	unsigned char lead = (unsigned char)text[(*at)++];

	if (lead < 0x80)
		return lead;
	int more = lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
	uint32_t c = lead & (0x3Fu >> more);

	while (more-- > 0)
		c = c << 6 | ((unsigned char)text[(*at)++] & 0x3Fu);
	return c;
}

/* Invisible characters that the mapping drops. */
static bool is_ignored(uint32_t c)
{
	return c == 0xAD || c == 0x200B || c == 0x2060 || c == 0x2064 || c == 0xFEFF || (c >= 0xFE00 && c <= 0xFE0F);
}

static bool is_disallowed(uint32_t c)
{
	return (c >= 0x80 && c <= 0x9F) || c == 0xA0 || (c >= 0x2000 && c <= 0x200A) || (c >= 0x200E && c <= 0x200F) ||
	       (c >= 0x2028 && c <= 0x202F) || c == 0x205F || c == 0x3000 || (c >= 0xE000 && c <= 0xF8FF) ||
	       (c >= 0xFFFC && c <= 0xFFFF) || c >= 0xE0000;
}

/* Lower case, and the ASCII form of what only looks different. */
static uint32_t mapped(uint32_t c)
{
	if (c == 0x3002 || c == 0xFF0E || c == 0xFF61)
		return '.';
	if (c >= 0xFF01 && c <= 0xFF5E)
		c -= 0xFEE0;
	if ((c >= 'A' && c <= 'Z') || (c >= 0xC0 && c <= 0xDE && c != 0xD7) || (c >= 0x391 && c <= 0x3AB) || (c >= 0x410 && c <= 0x42F))
		return c + 0x20;
	if (c >= 0x400 && c <= 0x40F)
		return c + 0x50;
	/* Latin Extended-A: pairs of upper and lower case, even or odd ones first. */
	if (((c >= 0x100 && c <= 0x12F) || (c >= 0x132 && c <= 0x137) || (c >= 0x14A && c <= 0x177)) && c % 2 == 0)
		return c + 1;
	if (((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E)) && c % 2 == 1)
		return c + 1;
	return c;
}

/* --- punycode --- */

static void write_delta(struct buf *out, uint32_t delta, uint32_t bias)
{
	for (uint32_t k = 36;; k += 36) {
		uint32_t t = k <= bias ? 1 : k >= bias + 26 ? 26 : k - bias;
		uint32_t digit = delta < t ? delta : t + (delta - t) % (36 - t);

		buf_append_char(out, (char)(digit < 26 ? 'a' + digit : '0' + digit - 26));
		if (delta < t)
			return;
		delta = (delta - t) / (36 - t);
	}
}

static uint32_t adapt(uint32_t delta, uint32_t points, bool first)
{
	uint32_t k = 0;

	delta = first ? delta / 700 : delta / 2;
	delta += delta / points;
	for (; delta > 455; k += 36)
		delta /= 35;
	return k + 36 * delta / (delta + 38);
}

static uint32_t smallest_from(const uint32_t *label, size_t len, uint32_t from)
{
	uint32_t smallest = UINT32_MAX;

	for (size_t i = 0; i < len; i++)
		if (label[i] >= from && label[i] < smallest)
			smallest = label[i];
	return smallest;
}

static void write_punycode(struct buf *out, const uint32_t *label, size_t len)
{
	uint32_t n = 128, delta = 0, bias = 72, handled = 0;

	buf_append_str(out, "xn--");
	for (size_t i = 0; i < len; i++) {
		if (label[i] < 128) {
			buf_append_char(out, (char)label[i]);
			handled++;
		}
	}
	uint32_t basic = handled;

	if (basic > 0)
		buf_append_char(out, '-');
	while (handled < len) {
		uint32_t m = smallest_from(label, len, n);

		delta += (m - n) * (handled + 1); /* LABEL_MAX x U+10FFFF fits 32 bits */
		n = m;
		for (size_t i = 0; i < len; i++) {
			if (label[i] < n)
				delta++;
			if (label[i] != n)
				continue;
			write_delta(out, delta, bias);
			bias = adapt(delta, handled + 1, handled == basic);
			delta = 0;
			handled++;
		}
		delta++;
		n++;
	}
}

static int write_label(struct buf *out, const uint32_t *label, size_t len)
{
	bool ascii = true;

	for (size_t i = 0; i < len; i++)
		ascii = ascii && label[i] < 128;
	if (!ascii) {
		if (len > LABEL_MAX)
			return -1;
		write_punycode(out, label, len);
		return 0;
	}
	for (size_t i = 0; i < len; i++)
		buf_append_char(out, (char)label[i]);
	return 0;
}

int url_domain_to_ascii(const char *name, size_t len, struct buf *out)
{
	cleanup_free uint32_t *label = xcalloc(len + 1, sizeof(*label));
	size_t label_len = 0, at = 0;

	while (at < len) {
		uint32_t c = mapped(next_codepoint(name, &at));

		if (is_disallowed(c))
			return -1;
		if (c == '.') {
			if (write_label(out, label, label_len) < 0)
				return -1;
			buf_append_char(out, '.');
			label_len = 0;
		} else if (!is_ignored(c)) {
			label[label_len++] = c;
		}
	}
	if (write_label(out, label, label_len) < 0)
		return -1;
	return out->len > 0 ? 0 : -1;
}
