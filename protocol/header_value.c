#include "protocol/header_value.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/url.h"

#include <string.h>
#include <strings.h>

#define BLANKS " \t"

bool header_is_type(const char *value, const char *type)
{
	if (!value)
		return false;
	value += strspn(value, BLANKS);
	size_t len = strcspn(value, ";" BLANKS);

	return len == strlen(type) && strncasecmp(value, type, len) == 0;
}

/* Reads a token or a quoted string. Returns what follows it. */
static const char *read_value(const char *at, struct buf *out)
{
	if (*at != '"') {
		size_t len = strcspn(at, ";" BLANKS);

		buf_append(out, at, len);
		return at + len;
	}
	for (at++; *at && *at != '"'; at++) {
		if (*at == '\\' && at[1])
			at++;
		buf_append_char(out, *at);
	}
	return *at ? at + 1 : at;
}

/* Finds the parameter of exactly this name and appends its raw value. */
static bool find(const char *value, const char *name, size_t name_len, struct buf *out)
{
	const char *at = value + strcspn(value, ";");

	while (*at == ';') {
		at++;
		at += strspn(at, BLANKS);
		size_t len = strcspn(at, "=;" BLANKS);
		bool ours = len == name_len && strncasecmp(at, name, len) == 0;

		at += len;
		at += strspn(at, BLANKS);
		if (*at == '=') {
			buf_reset(out);
			at = read_value(at + 1 + strspn(at + 1, BLANKS), out);
			if (ours)
				return true;
		}
		at += strcspn(at, ";");
	}
	return false;
}

/* utf-8'en'a%20b */
static bool decode_extended(const struct buf *raw, struct buf *out)
{
	const char *language = raw->data ? strchr(raw->data, '\'') : NULL;
	const char *text = language ? strchr(language + 1, '\'') : NULL;

	if (!text || strncasecmp(raw->data, "utf-8'", 6) != 0)
		return false;
	text++;
	url_percent_decode(out, text, strlen(text));
	return true;
}

char *header_param(const char *value, const char *name)
{
	cleanup_buf struct buf raw = BUF_INIT(BUF_UNBOUNDED), decoded = BUF_INIT(BUF_UNBOUNDED), text = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *starred = xasprintf("%s*", name);
	struct utf8_repair repair = {0};

	if (!find(value, starred, strlen(starred), &raw) || !decode_extended(&raw, &decoded)) {
		buf_reset(&raw);
		if (!find(value, name, strlen(name), &raw))
			return NULL;
		buf_append(&decoded, raw.data ? raw.data : "", raw.len);
	}
	utf8_repair_append(&repair, decoded.data ? decoded.data : "", decoded.len, &text);
	utf8_repair_finish(&repair, &text);
	return buf_steal(&text);
}
