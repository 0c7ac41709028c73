/* packet: one message on a socket of wire.h. */
#ifndef INIT_PACKET_H
#define INIT_PACKET_H

#include "wire.h"

#include <stddef.h>
#include <sys/types.h>

struct packet {
	union {
		uint32_t type;
		struct wire_spawn spawn;
		struct wire_event event;
	} head;
	char strings[WIRE_INLINE_MAX];
	size_t len;
	int fds[WIRE_FDS_MAX]; /* close-on-exec; owned by who received it */
	int fd_count;
};

/* Receives without waiting. 1: packet is filled; 0: the other end is gone; -1: nothing is there. */
int packet_receive(int fd, struct packet *packet);
void packet_close_fds(struct packet *packet);

/* Sends an event; lost if the other end is gone. */
void packet_send_event(int fd, enum wire_type type, int value, unsigned detail);

#endif
