#include "protocol/jsonrpc.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/utf8.h"
#include "protocol/json_read.h"
#include "protocol/json_write.h"

#include <inttypes.h>
#include <string.h>

/* How much of a bad line its answer quotes: UTF-16 units, as JavaScript counts. */
#define QUOTE_UNITS 200

enum { MEMBER_JSONRPC, MEMBER_ID, MEMBER_METHOD, MEMBER_PARAMS, MEMBER_RESULT, MEMBER_ERROR, MEMBER_INVOCATION, MEMBER_COUNT };

/* A new string with U+FFFD in the place of NUL. */
static char *without_nul(const char *text, size_t len)
{
	struct buf out = BUF_INIT(BUF_UNBOUNDED);

	for (size_t i = 0; i < len; i++) {
		if (text[i])
			buf_append_char(&out, text[i]);
		else
			utf8_append_codepoint(&out, 0xFFFD);
	}
	return buf_steal(&out);
}

/* The first QUOTE_UNITS of the text, white space at its start left out, as a string without NUL. */
static char *quote(const char *text, size_t len)
{
	size_t end = 0;

	while (len > 0 && (*text == ' ' || (*text >= '\t' && *text <= '\r'))) {
		text++;
		len--;
	}
	for (size_t units = 0; end < len;) {
		size_t next = utf8_ceil(text, len, end + 1);

		units += next - end > 3 ? 2 : 1;
		if (units > QUOTE_UNITS)
			break;
		end = next;
	}
	return without_nul(text, end);
}

/* The answer's text is the whole message: nothing is put in front of it. */
static int parse_error(struct err *err, const char *what, const char *detail, const char *end)
{
	if (err && err->kind == ERR_NONE)
		err->rpc_code = RPC_PARSE_ERROR;
	return err_set(err, ERR_PROTOCOL, "Parse error: %s%s%s", what, detail, end);
}

static int bad_version(const struct json_slice *version, struct err *err)
{
	cleanup_json json_t *value = NULL;
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);

	if (version->kind == JSON_KIND_NONE)
		buf_append_str(&text, "undefined");
	else if (json_read(version->text, version->len, &value, NULL) == 0)
		json_write_value(&text, value);
	else
		buf_append(&text, version->text, version->len);
	cleanup_free char *quoted = quote(text.data, text.len);
	return parse_error(err, "Invalid or missing jsonrpc version (expected \"2.0\", got ", quoted, ")");
}

/* A new string, or NULL if the slice is no string or holds a NUL: what is echoed must be the same, byte for byte. */
static char *plain_string(const struct json_slice *slice)
{
	size_t len;

	if (slice->kind != JSON_KIND_STRING)
		return NULL;
	cleanup_free char *text = json_slice_string(slice, &len);
	return strlen(text) == len ? steal(&text) : NULL;
}

static void read_scope(const struct json_slice *scope, struct rpc_message *ret)
{
	struct json_member company = {.key = "companyId"};
	enum json_kind kind;

	if (scope->kind != JSON_KIND_OBJECT)
		return;
	json_scan(scope->text, scope->len, &kind, &company, 1, NULL);
	ret->company_id = plain_string(&company.value);
}

static void read_invocation(const struct json_slice *invocation, struct rpc_message *ret)
{
	struct json_member members[] = {{.key = "id"}, {.key = "scope"}, {.key = "traceparent"}};
	enum json_kind kind;

	if (invocation->kind != JSON_KIND_OBJECT)
		return;
	json_scan(invocation->text, invocation->len, &kind, members, 3, NULL);
	ret->invocation_id = plain_string(&members[0].value);
	if (ret->invocation_id && !*ret->invocation_id) { /* what belongs to it could not be told from what belongs to none */
		free(ret->invocation_id);
		ret->invocation_id = NULL;
	}
	read_scope(&members[1].value, ret);
	ret->traceparent = plain_string(&members[2].value);
}

/* Names with a NUL are nobody's: with U+FFFD in its place they stay unknown and can be shown. */
static char *method_name(const struct json_slice *slice)
{
	size_t len;
	cleanup_free char *text = json_slice_string(slice, &len);

	if (strlen(text) == len)
		return steal(&text);
	return without_nul(text, len);
}

static void classify(const struct json_member *members, struct rpc_message *ret)
{
	const struct json_slice *id = &members[MEMBER_ID].value, *method = &members[MEMBER_METHOD].value;
	bool has_id = id->kind != JSON_KIND_NONE && id->kind != JSON_KIND_NULL;

	ret->id = *id;
	ret->params = members[MEMBER_PARAMS].value;
	ret->result = members[MEMBER_RESULT].value;
	ret->error = members[MEMBER_ERROR].value;
	if (method->kind == JSON_KIND_STRING) {
		ret->method = method_name(method);
		ret->kind = has_id ? RPC_REQUEST : id->kind == JSON_KIND_NONE ? RPC_NOTIFICATION : RPC_IGNORED;
	} else if (method->kind == JSON_KIND_NONE && has_id &&
		   (ret->result.kind != JSON_KIND_NONE || ret->error.kind != JSON_KIND_NONE)) {
		ret->kind = RPC_RESPONSE;
	}
}

/*
 * The id of a line that can't be served. None if the line is (the start of) an answer to a request of ours: its id is of our number
 * space, and an error answer with it would hit one of the host's own requests.
 */
static void salvage_id(const struct json_member *members, struct rpc_message *ret)
{
	const struct json_slice *id = &members[MEMBER_ID].value;

	if (members[MEMBER_RESULT].value.text || members[MEMBER_ERROR].value.text)
		return;
	if (id->kind == JSON_KIND_STRING || id->kind == JSON_KIND_NUMBER)
		ret->id = *id;
}

static bool is_version_2(const struct json_slice *version)
{
	cleanup_free char *text = plain_string(version);

	return str_eq(text, "2.0");
}

int rpc_read(const char *line, size_t len, struct rpc_message *ret, struct err *err)
{
	struct json_member members[MEMBER_COUNT] = {
		[MEMBER_JSONRPC] = {.key = "jsonrpc"},
		[MEMBER_ID] = {.key = "id"},
		[MEMBER_METHOD] = {.key = "method"},
		[MEMBER_PARAMS] = {.key = "params"},
		[MEMBER_RESULT] = {.key = "result"},
		[MEMBER_ERROR] = {.key = "error"},
		[MEMBER_INVOCATION] = {.key = "paperclipInvocation"},
	};
	const struct json_slice *version = &members[MEMBER_JSONRPC].value;
	enum json_kind kind;

	*ret = (struct rpc_message){.kind = RPC_IGNORED};
	if (json_scan(line, len, &kind, members, MEMBER_COUNT, NULL) < 0) {
		cleanup_free char *head = quote(line, len);

		salvage_id(members, ret);
		return parse_error(err, "Invalid JSON: ", head, "");
	}
	/* To JavaScript an array is an object too, one without a version. */
	if (kind != JSON_KIND_OBJECT && kind != JSON_KIND_ARRAY)
		return parse_error(err, "Message must be a JSON object", "", "");
	if (!is_version_2(version)) {
		salvage_id(members, ret);
		return bad_version(version, err);
	}
	classify(members, ret);
	read_invocation(&members[MEMBER_INVOCATION].value, ret);
	return 0;
}

void rpc_message_deinit(struct rpc_message *m)
{
	if (!m)
		return;
	free(m->method);
	free(m->invocation_id);
	free(m->company_id);
	free(m->traceparent);
	*m = (struct rpc_message){.kind = RPC_IGNORED};
}

/* The line's first member and the last: the end of the line. What is written between them is the caller's. */
static int begin_line(struct buf *out)
{
	return buf_append_str(out, "{\"jsonrpc\":\"2.0\"");
}

static int end_line(struct buf *out)
{
	return buf_append_str(out, "}\n");
}

/*
 * An id as it came, but for what would end the line at the host: U+2028 and U+2029, which stand in strings only, are escaped, and
 * line ends, which are white space in an id that is an array or object, become spaces.
 */
static int write_id(struct buf *out, const char *id, size_t id_len)
{
	size_t begin = 0;

	if (buf_append_str(out, ",\"id\":") < 0)
		return -1;
	if (!id)
		return buf_append_str(out, "null");
	for (size_t i = 0; i < id_len; i++) {
		bool separator = id_len - i >= 3 && memcmp(id + i, "\xE2\x80", 2) == 0 && (id[i + 2] & 0xFE) == 0xA8;

		if (!separator && id[i] != '\r' && id[i] != '\n')
			continue;
		if (buf_append(out, id + begin, i - begin) < 0 || buf_append_str(out, !separator            ? " "
										      : id[i + 2] == '\xA8' ? "\\u2028"
													    : "\\u2029") < 0)
			return -1;
		begin = i + (separator ? 3 : 1);
	}
	return buf_append(out, id + begin, id_len - begin);
}

/* key with its comma, quotes and colon: a literal. */
static int write_text(struct buf *out, const char *key, const char *text)
{
	return buf_append_str(out, key) < 0 ? -1 : json_write_string(out, text, strlen(text));
}

static int write_json(struct buf *out, const char *key, const json_t *value)
{
	return buf_append_str(out, key) < 0 ? -1 : json_write_value(out, value);
}

/* Texts of errors may quote anything: file names, another program's words. */
static int write_message(struct buf *out, const char *message)
{
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	struct utf8_repair repair = {0};

	utf8_repair_append(&repair, message, strlen(message), &text);
	utf8_repair_finish(&repair, &text);
	return write_text(out, ",\"message\":", text.data ? text.data : "");
}

/* A line that did not fit leaves nothing behind. */
static int take_back(struct buf *out, size_t len)
{
	buf_truncate(out, len);
	return -1;
}

int rpc_write_result(struct buf *out, const char *id, size_t id_len, const json_t *result)
{
	size_t before = out->len;

	if (begin_line(out) < 0 || write_id(out, id, id_len) < 0 || write_json(out, ",\"result\":", result) < 0 ||
	    end_line(out) < 0)
		return take_back(out, before);
	return 0;
}

int rpc_write_error(struct buf *out, const char *id, size_t id_len, int code, const char *message, const json_t *data)
{
	size_t before = out->len;

	if (begin_line(out) < 0 || write_id(out, id, id_len) < 0 || buf_printf(out, ",\"error\":{\"code\":%d", code) < 0 ||
	    write_message(out, message) < 0 || (data && write_json(out, ",\"data\":", data) < 0) ||
	    buf_append_char(out, '}') < 0 || end_line(out) < 0)
		return take_back(out, before);
	return 0;
}

static int write_call(struct buf *out, const char *method, const json_t *params, const char *invocation_id)
{
	if (write_text(out, ",\"method\":", method) < 0 || (params && write_json(out, ",\"params\":", params) < 0) ||
	    (invocation_id && write_text(out, ",\"paperclipInvocationId\":", invocation_id) < 0))
		return -1;
	return end_line(out);
}

int rpc_write_notification(struct buf *out, const char *method, const json_t *params, const char *invocation_id)
{
	size_t before = out->len;

	if (begin_line(out) < 0 || write_call(out, method, params, invocation_id) < 0)
		return take_back(out, before);
	return 0;
}

int rpc_write_request(struct buf *out, uint64_t id, const char *method, const json_t *params, const char *invocation_id)
{
	size_t before = out->len;

	if (begin_line(out) < 0 || buf_printf(out, ",\"id\":%" PRIu64, id) < 0 ||
	    write_call(out, method, params, invocation_id) < 0)
		return take_back(out, before);
	return 0;
}
