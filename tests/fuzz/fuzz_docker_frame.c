/* The engine's frames, however the stream is cut. */
#include "fuzz_split.h"

#include "protocol/docker_frame.h"

static int note(void *arg, const struct docker_piece *piece, struct err *err)
{
	REQUIRE(piece->n > 0 && piece->offset + piece->n <= piece->frame_size);
	if (piece->offset == 0)
		buf_printf(arg, "<%d %u>", (int)piece->type, (unsigned)piece->frame_size);
	return buf_append(arg, piece->bytes, piece->n);
}

static int feed(void *codec, const void *bytes, size_t n)
{
	return docker_frames_feed(codec, bytes, n, NULL);
}

static void play(const uint8_t *data, size_t size, unsigned pattern, struct buf *log)
{
	struct docker_frames f;

	docker_frames_init(&f, note, log);
	int rc = feed_pieces(&f, feed, data, size, pattern);

	if (rc == 0)
		rc = docker_frames_finish(&f, NULL);
	buf_append_str(log, rc < 0 ? "refused" : "whole");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return require_same_however_cut(data, size, play);
}
