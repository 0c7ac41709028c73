/* peer: the benchmark's host. A worker behind UNIX sockets, as Paperclip's host has it; answers are counted, not parsed. */
#ifndef PEER_H
#define PEER_H

#include "base/buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct peer {
	pid_t pid;
	int to_fd, from_fd;
	struct buf out; /* not taken by the worker yet */
	struct buf in;  /* from the start of a line on */
	size_t in_seen; /* of it, without a line's end */
	int64_t answers;
	struct buf last; /* the beginning of the last answer's line */
	size_t last_len; /* of the whole line */
	int64_t read_bytes;
	size_t read_max; /* of one read */
};

/* Times in milliseconds. */
double now_ms(void);
void sleep_ms(double ms);

/* Starts the worker with the few variables that the host gives. A failure of the benchmark itself ends it with a message. */
void peer_start(struct peer *p, char *const argv[]);
/* Sends `shutdown`, reads to the end, reaps. */
void peer_stop(struct peer *p);

/* Queues a line for sending; the text has its line feed. */
void peer_queue(struct peer *p, const char *text, size_t len);
/* Sends and reads, waiting for at most ms (-1: no limit) until something can be done. */
void peer_pump(struct peer *p, int ms);
/* Pumps until there are so many answers in all. */
void peer_await(struct peer *p, int64_t answers);
/*
 * Sends the request and waits for its answer, which must be a result: its text (the beginning of a long one), valid
 * until the next answer.
 */
const char *peer_call(struct peer *p, const char *text, size_t len);

/* Figures of the worker with all its children, in KiB. */
struct memory {
	long rss, pss, private_dirty;
};

struct memory peer_memory(const struct peer *p);
/* The highest RSS that the worker itself has had, in KiB. */
long peer_peak(const struct peer *p);

#endif
