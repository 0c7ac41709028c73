/*
 * Scanning and reading agree; what was read survives writing and reading; what is written is one line for the host; escaping
 * takes the bytes that it said it would.
 */
#include "fuzz.h"

#include "base/utf8.h"
#include "protocol/json_read.h"
#include "protocol/json_scan.h"
#include "protocol/json_write.h"

#include <string.h>

/* Nothing in it ends a line at the host (host contract, "Framing"). */
static void require_one_line(const struct buf *text)
{
	for (size_t i = 0; i < text->len; i++)
		REQUIRE((unsigned char)text->data[i] >= 0x20);
	REQUIRE(!memmem(text->data, text->len, "\xE2\x80\xA8", 3) && !memmem(text->data, text->len, "\xE2\x80\xA9", 3));
	REQUIRE(utf8_is_valid(text->data, text->len));
}

static void check_string(const struct buf *text)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);
	cleanup_json json_t *back = NULL;

	REQUIRE(json_write_string(&out, text->data, text->len) == 0);
	REQUIRE(out.len == json_escaped_size(text->data, text->len) + 2);
	require_one_line(&out);
	REQUIRE(json_read(out.data, out.len, &back, NULL) == 0);
	REQUIRE(json_string_length(back) == text->len && memcmp(json_string_value(back), text->data, text->len) == 0);

	struct json_slice slice = {.kind = JSON_KIND_STRING, .text = out.data, .len = out.len};
	size_t len;
	cleanup_free char *plain = json_slice_string(&slice, &len);

	REQUIRE(len == text->len && memcmp(plain, text->data, len) == 0);
}

static void check_value(const json_t *value)
{
	cleanup_buf struct buf first = BUF_INIT(BUF_UNBOUNDED), second = BUF_INIT(BUF_UNBOUNDED);
	cleanup_json json_t *again = NULL;

	REQUIRE(json_write_value(&first, value) == 0);
	require_one_line(&first);
	REQUIRE(json_read(first.data, first.len, &again, NULL) == 0);
	REQUIRE(json_write_value(&second, again) == 0);
	REQUIRE(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);
}

/* The member that scanning finds is the one that reading has. */
static void check_member(const struct buf *text, const json_t *value)
{
	struct json_member member = {.key = "id"};
	cleanup_json json_t *cut = NULL;
	enum json_kind kind;

	REQUIRE(json_scan(text->data, text->len, &kind, &member, 1, NULL) == 0);
	if (member.value.kind == JSON_KIND_NONE) {
		REQUIRE(!json_object_get(value, "id"));
		return;
	}
	REQUIRE(kind == JSON_KIND_OBJECT);
	REQUIRE(json_read(member.value.text, member.value.len, &cut, NULL) == 0);
	REQUIRE(json_equal(cut, json_object_get(value, "id")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	cleanup_err struct err read_err = ERR_INIT, scan_err = ERR_INIT;
	cleanup_json json_t *value = NULL;
	struct utf8_repair repair = {0};
	enum json_kind kind = JSON_KIND_NONE;

	buf_append(&text, "", 0);
	utf8_repair_append(&repair, data, size, &text);
	utf8_repair_finish(&repair, &text);
	check_string(&text);

	int scanned = json_scan(text.data, text.len, &kind, NULL, 0, &scan_err);
	int read = json_read(text.data, text.len, &value, &read_err);

	if (err_is(&read_err, ERR_INVALID))
		return 0; /* too deep */
	REQUIRE(scanned == read && read_err.kind == scan_err.kind);
	if (read == 0) {
		check_value(value);
		check_member(&text, value);
	}
	return 0;
}
