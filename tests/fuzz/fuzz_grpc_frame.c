/* Messages in a gRPC body, however the stream is cut; what was read is written again as it was. */
#include "fuzz_split.h"

#include "protocol/grpc_frame.h"

static int note(void *arg, const char *message, size_t len, struct err *err)
{
	unsigned char head[GRPC_FRAME_HEAD_BYTES];

	REQUIRE(len <= 1000);
	grpc_frame_head(head, len);
	buf_append(arg, head, sizeof(head));
	return buf_append(arg, message, len);
}

static int feed(void *codec, const void *bytes, size_t n)
{
	return grpc_frames_feed(codec, bytes, n, NULL);
}

static void play(const uint8_t *data, size_t size, unsigned pattern, struct buf *log)
{
	struct grpc_frames f;
	int rc;

	grpc_frames_init(&f, 1000, note, log);
	rc = feed_pieces(&f, feed, data, size, pattern);
	if (rc == 0)
		rc = grpc_frames_finish(&f, NULL);
	REQUIRE(rc < 0 || (log->len == size && (size == 0 || memcmp(log->data, data, size) == 0)));
	buf_append_str(log, rc < 0 ? "refused" : "whole");
	grpc_frames_deinit(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return require_same_however_cut(data, size, play);
}
