/*
 * connect_frame: the envelopes of Connect's streaming calls (connectrpc.com, "Enveloped-Message"): a byte of flags, the length in four
 * bytes (big-endian), the message. gRPC frames its messages in the same way.
 */
#ifndef PROTOCOL_CONNECT_FRAME_H
#define PROTOCOL_CONNECT_FRAME_H

#include "base/buf.h"
#include "base/err.h"

#define CONNECT_FRAME_COMPRESSED 1u
#define CONNECT_FRAME_END_STREAM 2u
#define CONNECT_FRAME_HEAD_BYTES 5

/* Takes a message (may hold NUL; no NUL follows), borrowed for the call. May wait if the caller of connect_frames_feed may. -1 ends the feeding. */
typedef int connect_frame_fn(void *arg, unsigned flags, const char *message, size_t len, struct err *err);

struct connect_frames {
	connect_frame_fn *on_frame;
	void *arg;
	size_t message_max;
	struct buf held; /* the unfinished envelope */
};

void connect_frames_init(struct connect_frames *f, size_t message_max, connect_frame_fn *on_frame, void *arg);
/* Takes a zeroed value. */
void connect_frames_deinit(struct connect_frames *f);
/* 0, or -1: what on_frame returned, or ERR_PROTOCOL for a message above the ceiling. */
int connect_frames_feed(struct connect_frames *f, const void *bytes, size_t n, struct err *err);
/* The stream has ended. -1, ERR_PROTOCOL: in the middle of an envelope. */
int connect_frames_finish(const struct connect_frames *f, struct err *err);

/* Appends an envelope. -1 at the buffer's ceiling, or for a message of 4 GiB and more. */
int connect_frame_write(struct buf *out, unsigned flags, const void *message, size_t len);

#endif
