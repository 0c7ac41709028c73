#include "protocol/grpc_frame.h"

static int on_frame(void *arg, unsigned flags, const char *message, size_t len, struct err *err)
{
	struct grpc_frames *f = arg;

	if (flags != 0)
		return err_set(err, ERR_PROTOCOL,
			       "the answer holds a message with flags %u: compressed, though nobody asked for that", flags);
	return f->on_message(f->arg, message, len, err);
}

void grpc_frames_init(struct grpc_frames *f, size_t message_max, grpc_message_fn *on_message, void *arg)
{
	f->on_message = on_message;
	f->arg = arg;
	connect_frames_init(&f->frames, message_max, on_frame, f);
}

void grpc_frames_deinit(struct grpc_frames *f)
{
	connect_frames_deinit(&f->frames);
}

int grpc_frames_feed(struct grpc_frames *f, const void *bytes, size_t n, struct err *err)
{
	return connect_frames_feed(&f->frames, bytes, n, err);
}

int grpc_frames_finish(const struct grpc_frames *f, struct err *err)
{
	return connect_frames_finish(&f->frames, err);
}

void grpc_frame_head(unsigned char head[GRPC_FRAME_HEAD_BYTES], size_t len)
{
	head[0] = 0;
	for (int i = 0; i < 4; i++)
		head[1 + i] = (unsigned char)(len >> (24 - 8 * i));
}
