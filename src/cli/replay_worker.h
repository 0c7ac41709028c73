/* replay_worker: a worker process of our own at the other end of two pipes, and its answers by their ids. */
#ifndef CLI_REPLAY_WORKER_H
#define CLI_REPLAY_WORKER_H

#include "base/buf.h"
#include "base/err.h"
#include "protocol/ndjson.h"

#include <sys/types.h>

struct replay_worker {
	pid_t pid;        /* 0: has ended and is reaped */
	int in_fd, out_fd; /* owned, non-blocking; -1: closed */
	struct buf unsent;
	struct ndjson lines;
	json_t *answers; /* owned object: id's JSON text -> array of answers in their order */
};

/* What stands for "Ctrl-C or silence": a limit on waiting for one sign of life. */
#define REPLAY_SILENCE_MS 60000

/* Starts path, which must be executable, without arguments and with our environment and stderr. */
int replay_worker_start(struct replay_worker *w, const char *path, struct err *err);
/* Queues a line; it leaves while replay_worker_wait waits. */
void replay_worker_send(struct replay_worker *w, const char *line, size_t len);
/*
 * Sends and receives until the worker has given `count` answers with this id. -1: it ended before, or said nothing for silence_ms while
 * nothing could be sent either.
 */
int replay_worker_wait(struct replay_worker *w, const char *id, size_t count, int silence_ms, struct err *err);
/* The index-th answer with this id, borrowed; NULL: it has not come. */
const json_t *replay_worker_answer(const struct replay_worker *w, const char *id, size_t index);
/* Sends the rest, closes its stdin, waits for its end (kills it after silence_ms): its wait status. */
int replay_worker_end(struct replay_worker *w, int silence_ms);
/* Kills what is left of it. Takes a zeroed value. */
void replay_worker_deinit(struct replay_worker *w);

/* The id of a message as text; new string, NULL if it has none. */
char *replay_id_text(const json_t *message);

#endif
