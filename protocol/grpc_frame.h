/*
 * grpc_frame: messages in a gRPC body (gRPC over HTTP2, "Length-Prefixed-Message"). The envelope is Connect's (connect_frame.h), whose
 * flags have one meaning here: a compressed message, which is an error, since we never ask for any.
 */
#ifndef PROTOCOL_GRPC_FRAME_H
#define PROTOCOL_GRPC_FRAME_H

#include "protocol/connect_frame.h"

#define GRPC_FRAME_HEAD_BYTES CONNECT_FRAME_HEAD_BYTES

/* Takes a message, borrowed for the call. May wait if the caller of grpc_frames_feed may. -1 ends the feeding. */
typedef int grpc_message_fn(void *arg, const char *message, size_t len, struct err *err);

struct grpc_frames {
	struct connect_frames frames;
	grpc_message_fn *on_message;
	void *arg;
};

/* f must stay where it is. */
void grpc_frames_init(struct grpc_frames *f, size_t message_max, grpc_message_fn *on_message, void *arg);
/* Takes a zeroed value. */
void grpc_frames_deinit(struct grpc_frames *f);
/* 0, or -1: what on_message returned, or ERR_PROTOCOL: a message that is too long or compressed. */
int grpc_frames_feed(struct grpc_frames *f, const void *bytes, size_t n, struct err *err);
/* The body has ended. -1, ERR_PROTOCOL: inside a message. */
int grpc_frames_finish(const struct grpc_frames *f, struct err *err);

/* What stands before a message of less than 4 GiB. */
void grpc_frame_head(unsigned char head[GRPC_FRAME_HEAD_BYTES], size_t len);

#endif
