/* A stream gives the same lines however it is cut. The first byte is the ceiling, the second how to cut, the rest the stream. */
#include "fuzz.h"

#include "protocol/ndjson.h"

#include <string.h>

static void drain(struct ndjson *n, bool at_end, struct buf *log)
{
	enum ndjson_event event;
	size_t len;
	char *line;

	while ((event = at_end ? ndjson_finish(n, &line, &len) : ndjson_next(n, &line, &len)) != NDJSON_NEED_MORE) {
		REQUIRE(event == NDJSON_OVERLONG ? len > n->line_max : len > 0 && len <= n->line_max);
		REQUIRE(!memchr(line, '\n', len));
		buf_append_char(log, event == NDJSON_OVERLONG ? '!' : ':');
		buf_append(log, line, len);
		buf_append_char(log, '\n');
		memset(line, '#', len);
	}
}

/* pattern 0: all at once */
static void play(const uint8_t *data, size_t size, size_t line_max, uint8_t pattern, struct buf *log)
{
	struct ndjson n;
	size_t step = pattern ? 1u + pattern % 7u : size;

	ndjson_init(&n, line_max);
	for (size_t at = 0, count; at < size; at += count) {
		count = step < size - at ? step : size - at;
		memcpy(ndjson_room(&n, pattern % 3 ? count : count + 100), data + at, count);
		ndjson_added(&n, count);
		if (pattern % 2)
			drain(&n, false, log);
		step = pattern ? 1 + (step * 5 + pattern) % 100 : size;
	}
	drain(&n, true, log);
	ndjson_deinit(&n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	cleanup_buf struct buf whole = BUF_INIT(BUF_UNBOUNDED), cut = BUF_INIT(BUF_UNBOUNDED);

	if (size < 2)
		return 0;
	play(data + 2, size - 2, data[0], 0, &whole);
	play(data + 2, size - 2, data[0], data[1] | 1, &cut);
	REQUIRE(whole.len == cut.len && (whole.len == 0 || memcmp(whole.data, cut.data, whole.len) == 0));
	cut.len = 0;
	play(data + 2, size - 2, data[0], data[1] & 0xFE, &cut);
	REQUIRE(whole.len == cut.len && (whole.len == 0 || memcmp(whole.data, cut.data, whole.len) == 0));
	return 0;
}
