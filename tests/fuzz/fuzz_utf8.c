/* Repaired text is valid, does not depend on how the bytes were cut, and is the input where that was valid. */
#include "fuzz.h"

#include "base/utf8.h"

#include <string.h>

static void repair(const uint8_t *data, size_t size, size_t piece, struct buf *out)
{
	struct utf8_repair state = {0};

	for (size_t at = 0; at < size; at += piece)
		REQUIRE(utf8_repair_append(&state, data + at, piece < size - at ? piece : size - at, out) == 0);
	REQUIRE(utf8_repair_finish(&state, out) == 0);
}

static void check_borders(const struct buf *text)
{
	for (size_t n = 0; n <= text->len; n++) {
		size_t low = utf8_floor(text->data, n), high = utf8_ceil(text->data, text->len, n);

		REQUIRE(low <= n && n <= high && high <= text->len && high - low <= 4);
		REQUIRE(utf8_is_valid(text->data, low) && utf8_is_valid(text->data + high, text->len - high));
		REQUIRE((low == n) == (high == n));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_buf struct buf whole = BUF_INIT(BUF_UNBOUNDED), again = BUF_INIT(BUF_UNBOUNDED);

	if (size == 0)
		return 0;
	repair(data, size, size, &whole);
	REQUIRE(utf8_is_valid(whole.data, whole.len));
	REQUIRE(whole.len <= 3 * (size + 3));
	REQUIRE(utf8_is_valid(data, size) == (whole.len == size && memcmp(whole.data, data, size) == 0));
	for (size_t piece = 1; piece <= 5; piece++) {
		cleanup_buf struct buf cut = BUF_INIT(BUF_UNBOUNDED);

		repair(data, size, piece, &cut);
		REQUIRE(cut.len == whole.len && memcmp(cut.data, whole.data, whole.len) == 0);
	}
	repair((const uint8_t *)whole.data, whole.len, whole.len, &again);
	REQUIRE(again.len == whole.len && memcmp(again.data, whole.data, whole.len) == 0);
	if (size < 64)
		check_borders(&whole);
	return 0;
}
