/*
 * channel: the worker's side of stdin and stdout. Lines in, messages out, each by a fiber of its own.
 *
 * Messages go out in the order in which they were sent, batched into as few writes as the loop's turns allow. Big texts are not
 * escaped in memory: a message may hold raw text, which is escaped piece by piece as the host reads.
 *
 * Backpressure: channel_wait_writable makes a producer of live output wait while much is queued; reading of further requests stops
 * while the host does not take the answers to those it has sent.
 *
 * fds: what kind of file they are does not matter (host contract, "How a worker is started": UNIX sockets; a person: pipes, files,
 * terminals). The file description that others share is never made non-blocking unless it is a socket's.
 */
#ifndef CHANNEL_H
#define CHANNEL_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

struct channel;
struct message;

struct channel_events {
	/* A whole line, without its end; may be modified in place; borrowed. May start fibers, must not wait. */
	void (*on_line)(void *arg, char *line, size_t len);
	/* The first bytes of a line above the ceiling. */
	void (*on_overlong)(void *arg, char *head, size_t len);
	/* The host is gone: end of input, or output can't be written. Once. */
	void (*on_end)(void *arg);
	/* Every line as it passes, both ways (recording); NULL: nobody listens. Raw texts of messages are passed escaped. */
	void (*on_record)(void *arg, bool out, const char *line, size_t len);
	void *arg;
};

/* in_fd and out_fd become the channel's. The fibers start at once. */
struct channel *channel_create(int in_fd, int out_fd, const struct channel_events *events);
/* All fibers must have ended: call channel_close first. */
void channel_destroy(struct channel *c);

/* A message that is built in parts. */
struct message *message_create(void);
void message_destroy(struct message *m);
/* Literal bytes of the line. */
struct buf *message_tail(struct message *m);
/* Raw text (valid UTF-8), which is escaped on its way out. Takes the buffer's memory over. */
void message_add_text(struct message *m, struct buf *text);
/* Appends the message's bytes, raw texts as they are. */
void message_copy_text(const struct message *m, struct buf *ret);

/* Queues the message (taken over), which must be a whole line with its \n. After the host is gone it is dropped. */
void channel_send(struct channel *c, struct message *m);
/* Queues a whole line. */
void channel_send_line(struct channel *c, const char *line, size_t len);

/* Waits while more than the high-water mark is queued. 0, or -1 as a wait. */
int channel_wait_writable(struct channel *c, struct err *err);
/* Bytes queued and not yet taken by the host. */
size_t channel_queued(const struct channel *c);
bool channel_is_open(const struct channel *c);
/* Stops reading; waits until everything queued is written, for at most ms; then ends the fibers. Waits. */
void channel_close(struct channel *c, int64_t ms);

#endif
