#include "protocol/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(struct buf *out, const void *bytes, size_t n)
{
	const unsigned char *in = bytes;
	size_t len = n / 3 * 4 + (n % 3 ? 4 : 0);
	char *to = n > SIZE_MAX / 2 ? NULL : buf_reserve(out, len);

	if (!to)
		return -1;
	for (; n >= 3; n -= 3, in += 3) {
		*to++ = alphabet[in[0] >> 2];
		*to++ = alphabet[(in[0] & 3) << 4 | in[1] >> 4];
		*to++ = alphabet[(in[1] & 15) << 2 | in[2] >> 6];
		*to++ = alphabet[in[2] & 63];
	}
	if (n > 0) {
		unsigned second = n == 2 ? in[1] : 0;

		*to++ = alphabet[in[0] >> 2];
		*to++ = alphabet[(in[0] & 3) << 4 | second >> 4];
		*to++ = n == 2 ? alphabet[(second & 15) << 2] : '=';
		*to++ = '=';
	}
	buf_added(out, len);
	return 0;
}

/* The character's six bits; -1: none of ours. */
static int bits(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	return c == '/' || c == '_' ? 63 : -1;
}

int base64_decode(struct buf *out, const char *text, size_t len)
{
	if (len % 4 == 0 && len > 0 && text[len - 1] == '=')
		len -= text[len - 2] == '=' ? 2 : 1;
	if (len % 4 == 1)
		return -1;
	unsigned char *to = (unsigned char *)buf_reserve(out, len / 4 * 3 + (len % 4 ? len % 4 - 1 : 0));
	size_t made = 0;
	unsigned held = 0;

	if (!to)
		return -1;
	for (size_t i = 0; i < len; i++) {
		int six = bits(text[i]);

		if (six < 0) {
			buf_added(out, 0); /* the NUL is overwritten */
			return -1;
		}
		held = held << 6 | (unsigned)six;
		if (i % 4 != 0)
			to[made++] = (unsigned char)(held >> (6 - 2 * (i % 4)));
	}
	buf_added(out, made);
	return 0;
}
