/* Connect's envelopes, however the stream is cut; what was read is written again as it was. */
#include "fuzz_split.h"

#include "protocol/connect_frame.h"

static int note(void *arg, unsigned flags, const char *message, size_t len, struct err *err)
{
	REQUIRE(len <= 1000);
	return connect_frame_write(arg, flags, message, len);
}

static int feed(void *codec, const void *bytes, size_t n)
{
	return connect_frames_feed(codec, bytes, n, NULL);
}

static void play(const uint8_t *data, size_t size, unsigned pattern, struct buf *log)
{
	struct connect_frames f;
	int rc;

	connect_frames_init(&f, 1000, note, log);
	rc = feed_pieces(&f, feed, data, size, pattern);
	if (rc == 0)
		rc = connect_frames_finish(&f, NULL);
	REQUIRE(rc < 0 || (log->len == size && (size == 0 || memcmp(log->data, data, size) == 0)));
	buf_append_str(log, rc < 0 ? "refused" : "whole");
	connect_frames_deinit(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return require_same_however_cut(data, size, play);
}
