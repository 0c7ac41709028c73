#include "http_internal.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"
#include "protocol/json_read.h"

#include <string.h>
#include <strings.h>

#define HEADERS_MAX_BYTES (256 * 1024)

/* --- headers --- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int http_headers_add_line(struct http_headers *headers, const char *line, size_t len)
{
	const char *colon = len ? memchr(line, ':', len) : NULL;

	headers->bytes += len;
	if (headers->bytes > HEADERS_MAX_BYTES)
		return -1;
	if (!colon || colon == line)
		return 0;
	const char *value = colon + 1, *end = line + len;

	while (value < end && is_blank(*value))
		value++;
	while (end > value && is_blank(end[-1]))
		end--;
	headers->lines = xrealloc(headers->lines, (headers->count + 1) * sizeof(*headers->lines));
	headers->lines[headers->count++] = (struct http_header_line){
		.name = xstrndup(line, (size_t)(colon - line)),
		.value = xstrndup(value, (size_t)(end - value)),
	};
	return 0;
}

void http_headers_deinit(struct http_headers *headers)
{
	for (size_t i = 0; i < headers->count; i++) {
		free(headers->lines[i].name);
		str_wipe_free(headers->lines[i].value);
	}
	free(headers->lines);
	*headers = (struct http_headers){0};
}

const char *http_headers_get(const struct http_headers *headers, const char *name)
{
	for (size_t i = 0; i < headers->count; i++)
		if (strcasecmp(headers->lines[i].name, name) == 0)
			return headers->lines[i].value;
	return NULL;
}

/* A line end in a name or value would let it add headers, or a request, of its own. */
static bool is_safe(const struct http_header *h)
{
	if (!*h->name || strpbrk(h->name, " :\r\n\t"))
		return false;
	for (const char *c = h->value; *c; c++)
		if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7F)
			return false;
	return true;
}

int http_header_check(const struct http_header *header, const char *where, struct err *err)
{
	if (is_safe(header))
		return 0;
	return err_set(err, ERR_INVALID, "the header %s for %s holds a character that is not allowed there", header->name, where);
}

int http_status_of_line(const char *line, size_t len)
{
	const char *blank = len > 5 && memcmp(line, "HTTP/", 5) == 0 ? memchr(line, ' ', len) : NULL;
	int status = 0;

	if (!blank || line + len - blank < 4)
		return 0;
	for (int i = 1; i <= 3; i++) {
		if (blank[i] < '0' || blank[i] > '9')
			return 0;
		status = status * 10 + (blank[i] - '0');
	}
	return status;
}

/* --- the response --- */

void http_response_deinit(struct http_response *response)
{
	if (!response)
		return;
	http_headers_deinit(&response->headers);
	http_headers_deinit(&response->trailers);
	buf_wipe(&response->body);
	*response = (struct http_response){0};
}

const char *http_header(const struct http_response *response, const char *name)
{
	return http_headers_get(&response->headers, name);
}

const char *http_trailer(const struct http_response *response, const char *name)
{
	return http_headers_get(&response->trailers, name);
}

bool http_is_success(const struct http_response *response)
{
	return response->status >= 200 && response->status <= 299;
}

bool http_is_json(const struct http_response *response)
{
	const char *type = http_header(response, "Content-Type");

	if (!type)
		return false;
	size_t len = strcspn(type, "; \t");

	return (len == 16 && strncasecmp(type, "application/json", 16) == 0) || (len > 5 && strncasecmp(type + len - 5, "+json", 5) == 0);
}

int http_response_json(const struct http_response *response, json_t **ret, struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	struct utf8_repair repair = {0};
	const char *body = response->body.data ? response->body.data : "";

	if (utf8_is_valid(body, response->body.len))
		return json_read(body, response->body.len, ret, err);
	utf8_repair_append(&repair, body, response->body.len, &text);
	utf8_repair_finish(&repair, &text);
	return json_read(text.data, text.len, ret, err);
}
