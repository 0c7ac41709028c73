/*
 * docker_frame: the frames in which Docker's API carries a command's streams over one connection (Engine API, "Attach to a container",
 * Stream format; wire: docker, 4): a byte that names the stream, three zeros, the payload's length in four bytes (big-endian), the payload.
 *
 * A frame may be cut anywhere between reads and be of any size up to 4 GiB: payloads are passed on piece by piece, never kept.
 */
#ifndef PROTOCOL_DOCKER_FRAME_H
#define PROTOCOL_DOCKER_FRAME_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define DOCKER_FRAME_HEAD_BYTES 8

enum docker_frame_type { DOCKER_STDIN, DOCKER_STDOUT, DOCKER_STDERR, DOCKER_SYSTEM_ERROR };

/* A piece of a frame's payload, borrowed for the call; n > 0. */
struct docker_piece {
	enum docker_frame_type type;
	const char *bytes;
	size_t n;
	uint32_t offset;     /* in the payload */
	uint32_t frame_size; /* of the whole payload */
};

/* May wait if docker_frames_feed's caller may. -1 ends the feeding. */
typedef int docker_piece_fn(void *arg, const struct docker_piece *piece, struct err *err);

struct docker_frames {
	docker_piece_fn *on_piece;
	void *arg;
	unsigned char head[DOCKER_FRAME_HEAD_BYTES];
	size_t head_len;
	enum docker_frame_type type;
	uint32_t size, done; /* of the present frame */
};

void docker_frames_init(struct docker_frames *f, docker_piece_fn *on_piece, void *arg);
/* 0, or -1: what on_piece returned, or ERR_PROTOCOL for what is no frame. */
int docker_frames_feed(struct docker_frames *f, const void *bytes, size_t n, struct err *err);
/* The stream has ended. -1, ERR_PROTOCOL: in the middle of a frame. */
int docker_frames_finish(const struct docker_frames *f, struct err *err);

#endif
