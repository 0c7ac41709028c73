#include "docker_frame.h"

#include <string.h>

void docker_frames_init(struct docker_frames *f, docker_piece_fn *on_piece, void *arg)
{
	*f = (struct docker_frames){.on_piece = on_piece, .arg = arg};
}

static int begin_frame(struct docker_frames *f, struct err *err)
{
	const unsigned char *h = f->head;

	if (h[0] > DOCKER_SYSTEM_ERROR || h[1] || h[2] || h[3])
		return err_set(err, ERR_PROTOCOL, "what came is no frame of a stream: it begins with %02x %02x %02x %02x", h[0], h[1], h[2], h[3]);
	f->type = h[0];
	f->size = (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | h[7];
	f->done = 0;
	return 0;
}

static bool in_payload(const struct docker_frames *f)
{
	return f->head_len == DOCKER_FRAME_HEAD_BYTES;
}

static int feed_payload(struct docker_frames *f, const char *bytes, size_t n, struct err *err)
{
	struct docker_piece piece = {.type = f->type, .bytes = bytes, .n = n, .offset = f->done, .frame_size = f->size};

	f->done += (uint32_t)n;
	return f->on_piece(f->arg, &piece, err);
}

int docker_frames_feed(struct docker_frames *f, const void *bytes, size_t n, struct err *err)
{
	const char *at = bytes;

	while (n > 0) {
		size_t want = in_payload(f) ? f->size - f->done : DOCKER_FRAME_HEAD_BYTES - f->head_len;
		size_t len = n < want ? n : want;

		if (in_payload(f)) {
			if (feed_payload(f, at, len, err) < 0)
				return -1;
		} else {
			memcpy(f->head + f->head_len, at, len);
			f->head_len += len;
			if (in_payload(f) && begin_frame(f, err) < 0)
				return -1;
		}
		if (in_payload(f) && f->done == f->size)
			f->head_len = 0;
		at += len;
		n -= len;
	}
	return 0;
}

int docker_frames_finish(const struct docker_frames *f, struct err *err)
{
	if (f->head_len == 0)
		return 0;
	return err_set(err, ERR_PROTOCOL, "the stream ended in the middle of a frame");
}
