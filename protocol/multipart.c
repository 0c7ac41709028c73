/*
 * Reading: each feed appends to `held`, and steps from there as far as the bytes go: preamble, delimiter, headers, data, delimiter, …
 * A step takes bytes and goes on (1), needs more bytes (0), or fails (-1).
 */
#include "protocol/multipart.h"

#include "base/mem.h"
#include "protocol/header_value.h"

#include <string.h>
#include <strings.h>

#define HEADERS_MAX (64 * 1024)
#define BOUNDARY_MAX 200

int multipart_init(struct multipart *m, const char *content_type, const struct multipart_events *events, struct err *err)
{
	bool multipart = content_type && strncasecmp(content_type, "multipart/", 10) == 0;
	cleanup_free char *boundary = multipart ? header_param(content_type, "boundary") : NULL;

	*m = (struct multipart){.events = *events, .held = BUF_INIT(BUF_UNBOUNDED)};
	if (!multipart)
		return err_set(err, ERR_PROTOCOL, "the answer is no multipart message");
	if (!boundary || !*boundary || strlen(boundary) > BOUNDARY_MAX)
		return err_set(err, ERR_PROTOCOL, "the multipart message states no usable boundary");
	m->delimiter = xasprintf("\r\n--%s", boundary);
	/* The first delimiter stands at the very start, without a line end before it. */
	buf_append_str(&m->held, "\r\n");
	return 0;
}

void multipart_deinit(struct multipart *m)
{
	free(m->delimiter);
	m->delimiter = NULL;
	buf_wipe(&m->held);
}

static const char *held_bytes(const struct multipart *m)
{
	return m->held.data + m->start;
}

static size_t held_len(const struct multipart *m)
{
	return m->held.len - m->start;
}

/* True if what follows a delimiter's text shows that it is one: "--", a line end or blanks. Needs a byte after it. */
static bool delimiter_ends(char next)
{
	return next == '-' || next == '\r' || next == ' ' || next == '\t';
}

/*
 * Looks for the delimiter. Returns true and where it starts; or false and how many bytes surely are not part of one.
 */
static bool find_delimiter(const struct multipart *m, size_t *ret_at)
{
	const char *bytes = held_bytes(m);
	size_t len = held_len(m), size = strlen(m->delimiter), from = 0;

	for (;;) {
		const char *found = memmem(bytes + from, len - from, m->delimiter, size);

		if (!found) {
			size_t keep = len - from < size - 1 ? len - from : size - 1;

			*ret_at = len - keep;
			return false;
		}
		*ret_at = (size_t)(found - bytes);
		if (*ret_at + size == len)
			return false; /* what follows decides */
		if (delimiter_ends(found[size]))
			return true;
		from = *ret_at + 1;
	}
}

static int step_preamble(struct multipart *m)
{
	size_t at;
	bool found = find_delimiter(m, &at);

	m->start += at + (found ? strlen(m->delimiter) : 0);
	if (found)
		m->state = MULTIPART_DELIMITER;
	return found;
}

/* After the delimiter's text: "--" ends the message; blanks and a line end begin a part. */
static int step_delimiter(struct multipart *m, struct err *err)
{
	const char *bytes = held_bytes(m);
	size_t len = held_len(m), blanks = 0;

	if (len < 2)
		return 0;
	if (memcmp(bytes, "--", 2) == 0) {
		m->state = MULTIPART_EPILOGUE;
		return 1;
	}
	while (blanks < len && (bytes[blanks] == ' ' || bytes[blanks] == '\t'))
		blanks++;
	if (blanks > HEADERS_MAX)
		return err_set(err, ERR_PROTOCOL, "the multipart message has a malformed boundary line");
	if (len - blanks < 2)
		return 0;
	if (memcmp(bytes + blanks, "\r\n", 2) != 0)
		return err_set(err, ERR_PROTOCOL, "the multipart message has a malformed boundary line");
	/* The line end stays: it stands before the first header or before the blank line of a part without any. */
	m->start += blanks;
	m->state = MULTIPART_HEADERS;
	return 1;
}

/* The value of the header in lines "\r\nName: value…" that end with "\r\n": new string, or NULL. */
static char *part_header(const char *lines, size_t len, const char *name)
{
	size_t name_len = strlen(name);

	while (len > 2) {
		const char *end = memmem(lines + 2, len - 2, "\r\n", 2);
		size_t line_len = end ? (size_t)(end - lines) - 2 : len - 2;
		const char *line = lines + 2;

		if (line_len > name_len && line[name_len] == ':' && strncasecmp(line, name, name_len) == 0) {
			const char *value = line + name_len + 1;
			size_t value_len = line_len - name_len - 1;

			while (value_len > 0 && (*value == ' ' || *value == '\t')) {
				value++;
				value_len--;
			}
			return xmemdup0(value, value_len);
		}
		len -= line_len + 2;
		lines += line_len + 2;
	}
	return NULL;
}

static int read_length(const char *text, int64_t *ret, struct err *err)
{
	int64_t value = 0;

	*ret = -1;
	if (!text)
		return 0;
	size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits > 18 || text[digits + strspn(text + digits, " \t")] != '\0')
		return err_set(err, ERR_PROTOCOL, "a part of the multipart message states a malformed length");
	for (size_t i = 0; i < digits; i++)
		value = value * 10 + (text[i] - '0');
	*ret = value;
	return 0;
}

static int begin_part(struct multipart *m, const char *lines, size_t len, struct err *err)
{
	cleanup_free char *disposition = part_header(lines, len, "Content-Disposition");
	cleanup_free char *content_type = part_header(lines, len, "Content-Type");
	cleanup_free char *length = part_header(lines, len, "Content-Length");
	cleanup_free char *name = disposition ? header_param(disposition, "name") : NULL;
	cleanup_free char *filename = disposition ? header_param(disposition, "filename") : NULL;
	struct multipart_part part = {.name = name, .filename = filename, .content_type = content_type};

	if (read_length(length, &part.length, err) < 0)
		return -1;
	m->state = part.length >= 0 ? MULTIPART_COUNTED : MULTIPART_SCANNED;
	m->left = part.length >= 0 ? (uint64_t)part.length : 0;
	return m->events.on_part(m->events.arg, &part, err);
}

static int step_headers(struct multipart *m, struct err *err)
{
	const char *bytes = held_bytes(m);
	size_t len = held_len(m);
	const char *end = memmem(bytes, len, "\r\n\r\n", 4);
	size_t size = end ? (size_t)(end - bytes) : len;

	if (size > HEADERS_MAX)
		return err_set(err, ERR_PROTOCOL, "a part of the multipart message has too many headers");
	if (!end)
		return 0;
	if (begin_part(m, bytes, size + 2, err) < 0)
		return -1;
	m->start += size + 4;
	return 1;
}

static int end_part(struct multipart *m, struct err *err)
{
	m->start += strlen(m->delimiter);
	m->state = MULTIPART_DELIMITER;
	return m->events.on_end(m->events.arg, err) < 0 ? -1 : 1;
}

static int give_data(struct multipart *m, size_t n, struct err *err)
{
	if (n > 0 && m->events.on_data(m->events.arg, held_bytes(m), n, err) < 0)
		return -1;
	m->start += n;
	return 0;
}

static int step_counted(struct multipart *m, struct err *err)
{
	size_t n = m->left < held_len(m) ? (size_t)m->left : held_len(m), size = strlen(m->delimiter);

	if (give_data(m, n, err) < 0)
		return -1;
	m->left -= n;
	if (m->left > 0 || held_len(m) < size)
		return 0;
	if (memcmp(held_bytes(m), m->delimiter, size) != 0)
		return err_set(err, ERR_PROTOCOL, "a part of the multipart message is longer than it states");
	return end_part(m, err);
}

static int step_scanned(struct multipart *m, struct err *err)
{
	size_t at;
	bool found = find_delimiter(m, &at);

	if (give_data(m, at, err) < 0)
		return -1;
	return found ? end_part(m, err) : 0;
}

static int step(struct multipart *m, struct err *err)
{
	switch (m->state) {
	case MULTIPART_PREAMBLE:
		return step_preamble(m);
	case MULTIPART_DELIMITER:
		return step_delimiter(m, err);
	case MULTIPART_HEADERS:
		return step_headers(m, err);
	case MULTIPART_COUNTED:
		return step_counted(m, err);
	case MULTIPART_SCANNED:
		return step_scanned(m, err);
	case MULTIPART_EPILOGUE:
	default:
		m->start = m->held.len;
		return 0;
	}
}

int multipart_feed(struct multipart *m, const void *bytes, size_t n, struct err *err)
{
	int rc;

	buf_append(&m->held, bytes, n);
	while ((rc = step(m, err)) > 0)
		;
	buf_consume(&m->held, m->start);
	m->start = 0;
	return rc;
}

int multipart_finish(const struct multipart *m, struct err *err)
{
	if (m->state == MULTIPART_EPILOGUE)
		return 0;
	return err_set(err, ERR_PROTOCOL, "the multipart message ended before its closing boundary");
}

/* --- writing --- */

void multipart_boundary(const unsigned char random[MULTIPART_RANDOM_BYTES], char out[MULTIPART_BOUNDARY_SIZE])
{
	static const char digits[] = "0123456789abcdef";

	memset(out, '-', 8);
	for (size_t i = 0; i < MULTIPART_RANDOM_BYTES; i++) {
		out[8 + 2 * i] = digits[random[i] >> 4];
		out[9 + 2 * i] = digits[random[i] & 15];
	}
	out[MULTIPART_BOUNDARY_SIZE - 1] = '\0';
}

static void write_name(struct buf *out, const char *parameter, const char *name)
{
	buf_printf(out, "; %s=\"", parameter);
	for (; *name; name++) {
		if (*name == '"' || *name == '\r' || *name == '\n')
			buf_printf(out, "%%%02X", (unsigned)(unsigned char)*name);
		else
			buf_append_char(out, *name);
	}
	buf_append_char(out, '"');
}

static void write_disposition(struct buf *out, const char *boundary, const char *name)
{
	buf_printf(out, "--%s\r\nContent-Disposition: form-data", boundary);
	write_name(out, "name", name);
}

void multipart_write_field(struct buf *out, const char *boundary, const char *name, const char *value)
{
	write_disposition(out, boundary, name);
	buf_printf(out, "\r\n\r\n%s\r\n", value);
}

void multipart_write_file_head(struct buf *out, const char *boundary, const char *name, const char *filename, const char *content_type)
{
	write_disposition(out, boundary, name);
	write_name(out, "filename", filename);
	buf_printf(out, "\r\nContent-Type: %s\r\n\r\n", content_type);
}

void multipart_write_file_tail(struct buf *out)
{
	buf_append_str(out, "\r\n");
}

void multipart_write_end(struct buf *out, const char *boundary)
{
	buf_printf(out, "--%s--\r\n", boundary);
}
