/*
 * init_link: the worker's end of one socket of init/wire.h: packets out, in order and without waiting; events in, by callback.
 */
#ifndef INIT_LINK_H
#define INIT_LINK_H

#include "base/err.h"
#include "base/list.h"
#include "init/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct init_link {
	uv_poll_t poll;
	int fd;             /* owned; -1: closed */
	struct list unsent; /* packets, in order */
	/* What has come; NULL: the other end is gone (said once). May close the link. */
	void (*on_event)(struct init_link *link, const struct wire_event *event);
	/* The memory is the owner's again. */
	void (*on_closed)(struct init_link *link);
};

/* A message on its way. */
struct init_packet {
	struct list link;
	int fds[WIRE_FDS_MAX]; /* owned */
	int fd_count;
	size_t len;
	unsigned char bytes[];
};

/* A message that starts with the head and has room for more bytes, which the caller adds. */
struct init_packet *init_packet_create(const void *head, size_t head_len, size_t room);

/* Takes fd over, watches it. The callbacks are set by the caller. On failure fd is closed and on_closed never called. */
int init_link_open(struct init_link *link, int fd, struct err *err);
/* on_closed is called from the loop. Harmless when repeated. */
void init_link_close(struct init_link *link);
/*
 * Steals the packet. Returns 0, or an errno value: the other end is gone (EPIPE, ECONNRESET), or it cannot be sent at all. What
 * the kernel cannot take now is kept, and sent by init_link_retry or when the socket has room.
 */
int init_link_send(struct init_link *link, struct init_packet *packet);
/* Sends what was kept because the kernel lacked memory or descriptors. */
void init_link_retry(struct init_link *link);
/* Packets are kept that only a retry will send: there is no event for "memory is back". */
bool init_link_needs_retry(const struct init_link *link);
/* Reads what is there now, as if the loop had. */
void init_link_receive(struct init_link *link);

#endif
