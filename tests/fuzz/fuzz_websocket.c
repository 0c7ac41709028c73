/* WebSocket frames from a server, however the stream is cut. */
#include "fuzz_split.h"

#include "protocol/websocket.h"

static int note(void *arg, enum websocket_opcode opcode, const char *payload, size_t len, struct err *err)
{
	REQUIRE(len <= 1000);
	buf_printf(arg, "<%d|%zu|%d|", (int)opcode, len, websocket_close_code(payload, len));
	return buf_append(arg, payload, len);
}

static int feed(void *codec, const void *bytes, size_t n)
{
	return websocket_feed(codec, bytes, n, NULL);
}

static void play(const uint8_t *data, size_t size, unsigned pattern, struct buf *log)
{
	struct websocket w;

	websocket_init(&w, 1000, note, log);
	if (feed_pieces(&w, feed, data, size, pattern) < 0)
		buf_append_str(log, "refused");
	websocket_deinit(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return require_same_however_cut(data, size, play);
}
