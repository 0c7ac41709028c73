#include "protocol/grpc_status.h"

#include "base/utf8.h"
#include "protocol/url.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	enum err_kind kind;
} statuses[] = {
	[GRPC_OK] = {"OK", ERR_NONE},
	[GRPC_CANCELLED] = {"CANCELLED", ERR_REMOTE}, /* by the service: ERR_CANCELLED is our own */
	[GRPC_UNKNOWN] = {"UNKNOWN", ERR_REMOTE},
	[GRPC_INVALID_ARGUMENT] = {"INVALID_ARGUMENT", ERR_REMOTE},
	[GRPC_DEADLINE_EXCEEDED] = {"DEADLINE_EXCEEDED", ERR_REMOTE}, /* the call's, not the request's */
	[GRPC_NOT_FOUND] = {"NOT_FOUND", ERR_NOT_FOUND},
	[GRPC_ALREADY_EXISTS] = {"ALREADY_EXISTS", ERR_CONFLICT},
	[GRPC_PERMISSION_DENIED] = {"PERMISSION_DENIED", ERR_AUTH},
	[GRPC_RESOURCE_EXHAUSTED] = {"RESOURCE_EXHAUSTED", ERR_BUSY},
	[GRPC_FAILED_PRECONDITION] = {"FAILED_PRECONDITION", ERR_CONFLICT},
	[GRPC_ABORTED] = {"ABORTED", ERR_CONFLICT},
	[GRPC_OUT_OF_RANGE] = {"OUT_OF_RANGE", ERR_REMOTE},
	[GRPC_UNIMPLEMENTED] = {"UNIMPLEMENTED", ERR_REMOTE},
	[GRPC_INTERNAL] = {"INTERNAL", ERR_REMOTE},
	[GRPC_UNAVAILABLE] = {"UNAVAILABLE", ERR_TRANSPORT},
	[GRPC_DATA_LOSS] = {"DATA_LOSS", ERR_REMOTE},
	[GRPC_UNAUTHENTICATED] = {"UNAUTHENTICATED", ERR_AUTH},
};

#define STATUS_COUNT (sizeof(statuses) / sizeof(*statuses))

const char *grpc_status_name(enum grpc_status status)
{
	return statuses[status].name;
}

enum err_kind grpc_status_kind(enum grpc_status status)
{
	return statuses[status].kind;
}

enum grpc_status grpc_status_parse(const char *text)
{
	size_t len = strlen(text);
	unsigned number = 0;

	if (len == 0 || len > 3 || strspn(text, "0123456789") != len)
		return GRPC_UNKNOWN;
	for (; *text; text++)
		number = number * 10 + (unsigned)(*text - '0');
	return number < STATUS_COUNT ? (enum grpc_status)number : GRPC_UNKNOWN;
}

enum grpc_status grpc_status_of_http(int http_status)
{
	switch (http_status) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_UNKNOWN;
	}
}

enum grpc_status grpc_status_of_reset(int http2_error)
{
	switch (http2_error) {
	case 7: /* REFUSED_STREAM */
		return GRPC_UNAVAILABLE;
	case 8: /* CANCEL */
		return GRPC_CANCELLED;
	case 11: /* ENHANCE_YOUR_CALM */
		return GRPC_RESOURCE_EXHAUSTED;
	case 12: /* INADEQUATE_SECURITY */
		return GRPC_PERMISSION_DENIED;
	default:
		return GRPC_INTERNAL;
	}
}

char *grpc_message_decode(const char *text)
{
	cleanup_buf struct buf bytes = BUF_INIT(BUF_UNBOUNDED);
	struct buf repaired = BUF_INIT(BUF_UNBOUNDED);
	struct utf8_repair repair = {0};

	url_percent_decode(&bytes, text, strlen(text));
	utf8_repair_append(&repair, bytes.data ? bytes.data : "", bytes.len, &repaired);
	utf8_repair_finish(&repair, &repaired);
	/* An err's text ends at a NUL. */
	for (size_t i = 0; i < repaired.len; i++)
		if (repaired.data[i] == '\0')
			repaired.data[i] = ' ';
	return buf_steal(&repaired);
}

char *grpc_timeout_format(int64_t ms, char *buffer)
{
	static const struct {
		char unit;
		int64_t ms;
	} units[] = {{'m', 1}, {'S', 1000}, {'M', 60000}, {'H', 3600000}};
	size_t i = 0;

	while (i + 1 < sizeof(units) / sizeof(*units) && ms / units[i].ms > 99999999)
		i++;
	int64_t count = ms / units[i].ms;

	snprintf(buffer, GRPC_TIMEOUT_BYTES, "%lld%c", count > 99999999 ? 99999999LL : (long long)count, units[i].unit);
	return buffer;
}
