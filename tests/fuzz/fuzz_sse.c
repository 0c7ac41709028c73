/* Server-sent events, however the stream is cut. */
#include "fuzz_split.h"

#include "base/utf8.h"
#include "protocol/sse.h"

static int note(void *arg, const struct sse_event *event, struct err *err)
{
	REQUIRE(utf8_is_valid(event->data, event->data_len) && utf8_is_valid(event->name, strlen(event->name)));
	REQUIRE(event->data[event->data_len] == '\0');
	buf_printf(arg, "<%s|%zu|", event->name, event->data_len);
	return buf_append(arg, event->data, event->data_len);
}

static int feed(void *codec, const void *bytes, size_t n)
{
	return sse_feed(codec, bytes, n, NULL);
}

static void play(const uint8_t *data, size_t size, unsigned pattern, struct buf *log)
{
	struct sse s;

	sse_init(&s, 200, note, log);
	if (feed_pieces(&s, feed, data, size, pattern) < 0 || sse_finish(&s, NULL) < 0)
		buf_append_str(log, "refused");
	sse_deinit(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return require_same_however_cut(data, size, play);
}
