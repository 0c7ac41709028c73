/*
 * sse: server-sent events out of a byte stream (WHATWG HTML, "Interpreting an event stream"; wire: cloudflare, The event stream).
 *
 * Lines end in LF, CRLF or CR, wherever the stream was cut; a byte order mark at the start is dropped; what is no UTF-8 becomes U+FFFD.
 * An unfinished last event counts as finished. The one rule of ours: an event's name loses the white space around it.
 */
#ifndef PROTOCOL_SSE_H
#define PROTOCOL_SSE_H

#include "base/buf.h"
#include "base/err.h"

struct sse_event {
	const char *name; /* "" if it has none */
	const char *data; /* NUL-terminated; several lines are joined by \n */
	size_t data_len;
};

/* Takes an event, borrowed for the call. May wait if the caller of sse_feed may. -1 ends the feeding. */
typedef int sse_event_fn(void *arg, const struct sse_event *event, struct err *err);

struct sse {
	sse_event_fn *on_event;
	void *arg;
	size_t event_max;
	struct buf line; /* the unfinished one */
	struct buf name, data;
	size_t bom;    /* bytes of the byte order mark that have been seen: 3 once it is settled */
	bool has_data; /* a data line came, though perhaps an empty one */
	bool after_cr; /* a LF now belongs to the line end before */
};

/* event_max: ceiling in bytes of a line and of an event's data. */
void sse_init(struct sse *s, size_t event_max, sse_event_fn *on_event, void *arg);
/* Takes a zeroed value. */
void sse_deinit(struct sse *s);
/* 0, or -1: what on_event returned, or ERR_PROTOCOL above the ceiling. */
int sse_feed(struct sse *s, const void *bytes, size_t n, struct err *err);
/* The stream has ended. */
int sse_finish(struct sse *s, struct err *err);

#endif
