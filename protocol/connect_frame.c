#include "protocol/connect_frame.h"

#define HEAD CONNECT_FRAME_HEAD_BYTES

void connect_frames_init(struct connect_frames *f, size_t message_max, connect_frame_fn *on_frame, void *arg)
{
	*f = (struct connect_frames){
		.on_frame = on_frame,
		.arg = arg,
		.message_max = message_max,
		.held = BUF_INIT(message_max + HEAD),
	};
}

void connect_frames_deinit(struct connect_frames *f)
{
	buf_wipe(&f->held);
}

static size_t message_length(const char *head)
{
	const unsigned char *p = (const unsigned char *)head;

	return (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
}

/* The whole envelope at bytes[0..n): its size; 0: it is not all there yet; -1: too long. */
static ptrdiff_t whole_envelope(const struct connect_frames *f, const char *bytes, size_t n, struct err *err)
{
	if (n < HEAD)
		return 0;
	size_t len = message_length(bytes);

	if (len > f->message_max)
		return err_set(err, ERR_PROTOCOL, "the stream holds a message of %zu bytes; at most %zu are taken", len, f->message_max);
	return n - HEAD < len ? 0 : (ptrdiff_t)(HEAD + len);
}

static int hand_on(struct connect_frames *f, const char *envelope, size_t size, struct err *err)
{
	return f->on_frame(f->arg, (unsigned char)envelope[0], envelope + HEAD, size - HEAD, err);
}

/* Completes the envelope whose start is held. Returns how many of the bytes that took, or -1. */
static ptrdiff_t complete_held(struct connect_frames *f, const char *bytes, size_t n, struct err *err)
{
	size_t taken = 0;

	if (f->held.len < HEAD) {
		taken = HEAD - f->held.len < n ? HEAD - f->held.len : n;
		buf_append(&f->held, bytes, taken);
	}
	if (whole_envelope(f, f->held.data, f->held.len, err) < 0)
		return -1;
	if (f->held.len >= HEAD) {
		size_t missing = HEAD + message_length(f->held.data) - f->held.len;
		size_t more = missing < n - taken ? missing : n - taken;

		buf_append(&f->held, bytes + taken, more);
		taken += more;
		if (more == missing) {
			int rc = hand_on(f, f->held.data, f->held.len, err);

			buf_reset(&f->held);
			if (rc < 0)
				return -1;
		}
	}
	return (ptrdiff_t)taken;
}

int connect_frames_feed(struct connect_frames *f, const void *data, size_t n, struct err *err)
{
	const char *bytes = data;

	while (n > 0) {
		ptrdiff_t used;

		if (f->held.len > 0) {
			used = complete_held(f, bytes, n, err);
		} else {
			used = whole_envelope(f, bytes, n, err);
			if (used > 0 && hand_on(f, bytes, (size_t)used, err) < 0)
				return -1;
			if (used == 0) {
				buf_append(&f->held, bytes, n);
				return 0;
			}
		}
		if (used < 0)
			return -1;
		bytes += used;
		n -= (size_t)used;
	}
	return 0;
}

int connect_frames_finish(const struct connect_frames *f, struct err *err)
{
	if (f->held.len == 0)
		return 0;
	return err_set(err, ERR_PROTOCOL, "the stream ended in the middle of a message");
}

int connect_frame_write(struct buf *out, unsigned flags, const void *message, size_t len)
{
	unsigned char head[HEAD] = {
		(unsigned char)flags, (unsigned char)(len >> 24), (unsigned char)(len >> 16), (unsigned char)(len >> 8), (unsigned char)len,
	};

	if (len > UINT32_MAX || !buf_reserve(out, HEAD + len))
		return -1;
	buf_append(out, head, HEAD);
	return buf_append(out, message, len);
}
