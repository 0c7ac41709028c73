/*
 * wire: ssh, Key and host keys without files. What a form or a copy has done to a key ssh answers with "error in libcrypto", so it is put
 * right here: line ends, blanks around it, and lines that have become one.
 */
#include "ssh.h"

#include <ctype.h>
#include <string.h>

#define LINE_CHARS 70

/* Text without \r, with \n for the two characters \ and n. */
static void append_plain(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (text[0] == '\\' && text[1] == 'n') {
			buf_append_char(out, '\n');
			text++;
		} else if (*text != '\r') {
			buf_append_char(out, *text);
		}
	}
}

/* Lines of base64 from what stands between the first and the last line. */
static void append_body(struct buf *out, const char *text, const char *end)
{
	size_t column = 0;

	for (; text < end; text++) {
		if (isspace((unsigned char)*text))
			continue;
		buf_append_char(out, *text);
		if (++column % LINE_CHARS == 0)
			buf_append_char(out, '\n');
	}
	if (column % LINE_CHARS != 0)
		buf_append_char(out, '\n');
}

static int no_key(struct err *err)
{
	return err_set(err, ERR_INVALID,
		       "privateKey is not a private key: it has to be the whole text from -----BEGIN … PRIVATE KEY----- to -----END … "
		       "PRIVATE KEY-----. A public key or a path will not do.");
}

int ssh_key_mend(const char *text, char **ret, struct err *err)
{
	cleanup(buf_wipe) struct buf plain = BUF_INIT(BUF_UNBOUNDED);
	cleanup(buf_wipe) struct buf key = BUF_INIT(BUF_UNBOUNDED);

	append_plain(&plain, text);
	const char *begin = plain.data ? strstr(plain.data, "-----BEGIN ") : NULL;
	const char *body = begin ? strstr(begin, "PRIVATE KEY-----") : NULL;
	const char *end = body ? strstr(body, "-----END ") : NULL;
	const char *last = end ? strstr(end, "PRIVATE KEY-----") : NULL;

	if (!last)
		return no_key(err);
	body += strlen("PRIVATE KEY-----");
	last += strlen("PRIVATE KEY-----");
	buf_append(&key, begin, (size_t)(body - begin));
	buf_append_char(&key, '\n');
	/* An old format has headers, whose lines mean something. */
	if (memchr(body, ':', (size_t)(end - body))) {
		while (*body == '\n')
			body++;
		buf_append(&key, body, (size_t)(end - body));
	} else {
		append_body(&key, body, end);
	}
	buf_append(&key, end, (size_t)(last - end));
	buf_append_char(&key, '\n');
	*ret = buf_steal(&key);
	return 0;
}
