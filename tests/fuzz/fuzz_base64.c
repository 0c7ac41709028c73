/* Bytes encoded and decoded are the same; decoding takes any text. */
#include "fuzz.h"

#include "protocol/base64.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf text = BUF_INIT(BUF_UNBOUNDED), bytes = BUF_INIT(BUF_UNBOUNDED), any = BUF_INIT(BUF_UNBOUNDED);

	REQUIRE(base64_encode(&text, data, size) == 0 && base64_decode(&bytes, text.data, text.len) == 0);
	REQUIRE(bytes.len == size && (size == 0 || memcmp(bytes.data, data, size) == 0));
	if (base64_decode(&any, (const char *)data, size) == 0)
		REQUIRE(any.len <= size / 4 * 3 + 2);
	else
		REQUIRE(any.len == 0);
	buf_deinit(&text);
	buf_deinit(&bytes);
	buf_deinit(&any);
	return 0;
}
