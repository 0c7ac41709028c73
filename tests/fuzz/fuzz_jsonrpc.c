/* Every line is classified or refused with an error; what answers it is one line of JSON with the same id. */
#include "fuzz.h"

#include "base/utf8.h"
#include "protocol/json_read.h"
#include "protocol/jsonrpc.h"

#include <string.h>

/* One line for the host, which reads back as a message of that kind with that id. */
static void check_line(const struct buf *out, enum rpc_kind kind, const struct json_slice *id)
{
	cleanup_json json_t *want = NULL, *got = NULL;
	struct rpc_message m;

	REQUIRE(out->len > 0 && out->data[out->len - 1] == '\n');
	for (size_t i = 0; i + 1 < out->len; i++)
		REQUIRE(out->data[i] != '\n' && out->data[i] != '\r');
	REQUIRE(!memmem(out->data, out->len, "\xE2\x80\xA8", 3) && !memmem(out->data, out->len, "\xE2\x80\xA9", 3));
	REQUIRE(rpc_read(out->data, out->len, &m, NULL) == 0);
	REQUIRE(m.kind == kind);
	if (id && json_read(id->text, id->len, &want, NULL) == 0) {
		REQUIRE(json_read(m.id.text, m.id.len, &got, NULL) == 0);
		REQUIRE(json_equal(got, want));
	}
	rpc_message_deinit(&m);
}

static void check_refused(const struct rpc_message *m, const struct err *err)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
	bool has_id = m->id.kind != JSON_KIND_NONE;

	REQUIRE(err->rpc_code == RPC_PARSE_ERROR && strncmp(err_text(err), "Parse error: ", 13) == 0);
	REQUIRE(utf8_is_valid(err_text(err), strlen(err_text(err))) && strlen(err_text(err)) < 1000);
	REQUIRE(!m->method && !m->invocation_id);
	REQUIRE(!has_id || m->id.kind == JSON_KIND_STRING || m->id.kind == JSON_KIND_NUMBER);
	REQUIRE(rpc_write_error(&out, m->id.text, m->id.len, err->rpc_code, err_text(err), NULL) == 0);
	check_line(&out, has_id ? RPC_RESPONSE : RPC_IGNORED, has_id ? &m->id : NULL);
}

static void check_request(const struct rpc_message *m)
{
	cleanup_buf struct buf result = BUF_INIT(BUF_UNBOUNDED), call = BUF_INIT(BUF_UNBOUNDED);
	cleanup_json json_t *params = NULL;

	REQUIRE(m->method && m->id.kind != JSON_KIND_NONE && m->id.kind != JSON_KIND_NULL);
	if (m->params.kind != JSON_KIND_NONE && json_read(m->params.text, m->params.len, &params, NULL) < 0)
		return; /* too deep */
	REQUIRE(rpc_write_result(&result, m->id.text, m->id.len, params) == 0);
	check_line(&result, RPC_RESPONSE, &m->id);
	REQUIRE(rpc_write_request(&call, 5, m->method, params, m->invocation_id) == 0);
	check_line(&call, RPC_REQUEST, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED);
	cleanup_err struct err err = ERR_INIT;
	struct utf8_repair repair = {0};
	struct rpc_message m;

	buf_append(&line, "", 0);
	utf8_repair_append(&repair, data, size, &line);
	utf8_repair_finish(&repair, &line);
	if (rpc_read(line.data, line.len, &m, &err) < 0)
		check_refused(&m, &err);
	else if (m.kind == RPC_REQUEST)
		check_request(&m);
	rpc_message_deinit(&m);
	return 0;
}
