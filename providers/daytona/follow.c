/*
 * wire: daytona, Sessions, live stream: a command's log while it runs. The service sends it from its first byte, with each line labelled
 * by its stream; after a lost connection it does so again, and what was delivered before is skipped. The text is counted as it is
 * delivered, repaired to UTF-8: so it can be compared with the log in JSON, too.
 */
#include "daytona.h"

#include "output.h"
#include "ws.h"

#include <string.h>

#define QUIET_MS 3000 /* after so long without output somebody asks whether the command still runs */
#define PING_MS 30000

/* --- the labels --- */

void daytona_log_restart(struct daytona_log *log)
{
	log->stream = OUTPUT_STDOUT;
	log->carried_len = 0;
	for (size_t i = 0; i < DAYTONA_STREAMS; i++) {
		log->seen[i] = 0;
		log->repair[i] = (struct utf8_repair){0};
	}
}

/* What is new of the text that follows what was seen of the stream. */
static int deliver(struct op *op, struct daytona_log *log, enum output_stream stream, const char *text, size_t len,
		   struct err *err)
{
	uint64_t from = log->seen[stream];
	uint64_t skip = log->delivered[stream] > from ? log->delivered[stream] - from : 0;

	log->seen[stream] += len;
	if (skip >= len)
		return 0;
	log->delivered[stream] = log->seen[stream];
	return output_write(op_output(op), stream, text + skip, len - (size_t)skip, err);
}

static int take_bytes(struct op *op, struct daytona_log *log, const char *bytes, size_t n, struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);

	if (n == 0)
		return 0;
	utf8_repair_append(&log->repair[log->stream], bytes, n, &text);
	return deliver(op, log, log->stream, text.data ? text.data : "", text.len, err);
}

/* How many bytes at p are one label's, up to three. */
static size_t label_length(const char *p, const char *end)
{
	size_t n = 1;

	if (*p != 1 && *p != 2)
		return 0;
	while (n < 3 && p + n < end && p[n] == *p)
		n++;
	return n;
}

int daytona_log_feed(struct op *op, struct daytona_log *log, const char *bytes, size_t n, struct err *err)
{
	cleanup_buf struct buf joined = BUF_INIT(BUF_UNBOUNDED);

	buf_append(&joined, log->carried, log->carried_len);
	buf_append(&joined, bytes, n);
	log->carried_len = 0;
	const char *end = joined.data + joined.len, *start = joined.data, *p = start;
	while (p < end) {
		size_t label = label_length(p, end);
		if (label == 3) {
			if (take_bytes(op, log, start, (size_t)(p - start), err) < 0)
				return -1;
			log->stream = *p == 1 ? OUTPUT_STDOUT : OUTPUT_STDERR;
			p += 3;
			start = p;
		} else if (label > 0 && p + label == end) {
			/* It may go on in the next message. */
			memcpy(log->carried, p, label);
			log->carried_len = label;
			end = p;
		} else {
			p++;
		}
	}
	return take_bytes(op, log, start, (size_t)(end - start), err);
}

int daytona_log_finish(struct op *op, struct daytona_log *log, struct err *err)
{
	size_t n = log->carried_len;

	log->carried_len = 0;
	if (take_bytes(op, log, log->carried, n, err) < 0)
		return -1;
	for (size_t i = 0; i < DAYTONA_STREAMS; i++) {
		cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
		utf8_repair_finish(&log->repair[i], &text);
		if (text.len > 0 && deliver(op, log, (enum output_stream)i, text.data, text.len, err) < 0)
			return -1;
	}
	return 0;
}

int daytona_log_put(struct op *op, struct daytona_log *log, enum output_stream stream, const char *text, size_t len,
		    struct err *err)
{
	log->seen[stream] = 0;
	return deliver(op, log, stream, text, len, err);
}

/* --- the connection --- */

struct tap {
	struct op *op;
	const struct daytona_config *c;
	struct daytona_log *log;
	const char *url;
	struct event ended;
	bool closed; /* as it should be */
	struct err err;
};

static int on_message(void *arg, enum websocket_opcode opcode, const char *payload, size_t len, struct err *err)
{
	struct tap *tap = arg;

	tap->log->touched_ms = loop_now_ms();
	return daytona_log_feed(tap->op, tap->log, payload, len, err);
}

static int listen_to(struct tap *tap, struct err *err)
{
	cleanup_daytona_headers struct daytona_headers headers;
	cleanup_http_response struct http_response refusal = {0};
	struct ws *ws;
	int code = 0;

	daytona_headers_init(&headers, tap->c, NULL, NULL);
	struct ws_request request = {.url = tap->url, .headers = headers.items, .options = &tap->c->http, .ping_ms = PING_MS};
	if (ws_open(worker_http(op_worker(tap->op)), &request, &ws, &refusal, err) < 0)
		return -1;
	int rc = ws_run(ws, on_message, tap, &code, err);
	ws_close(ws);
	tap->closed = rc == 0 && code == 1000;
	return rc;
}

static void tap_main(void *arg)
{
	struct tap *tap = arg;

	(void)listen_to(tap, &tap->err);
	event_set(&tap->ended);
}

/* Until the stream ends, the time is over, or the command turns out to have ended though the stream does not say so. */
static int watch(struct tap *tap, const char *command_url, int64_t deadline, struct err *err)
{
	bool ended = false;

	while (!ended) {
		int64_t left = deadline - loop_now_ms();
		int code;
		bool has_code = false;

		if (left <= 0)
			return 0;
		if (event_wait_for(&tap->ended, left < QUIET_MS ? left : QUIET_MS, &ended, err) < 0)
			return -1;
		if (ended || loop_now_ms() - tap->log->touched_ms < QUIET_MS)
			continue;
		if (daytona_command_look(tap->op, tap->c, command_url, deadline, &has_code, &code, err) < 0)
			return -1;
		if (has_code)
			return 0;
	}
	return 0;
}

int daytona_follow(struct op *op, const struct daytona_config *c, const char *command_url, int64_t deadline,
		   struct daytona_log *log, bool *ret_closed, struct err *err)
{
	cleanup_free char *url = xasprintf("%s/logs?follow=true", command_url);
	struct tap tap = {.op = op, .c = c, .log = log, .url = url};
	struct fiber_group group;

	daytona_log_restart(log);
	log->touched_ms = loop_now_ms();
	fiber_group_init(&group);
	fiber_group_start(&group, tap_main, &tap);
	int rc = watch(&tap, command_url, deadline, err);
	fiber_group_cancel(&group);
	if (fiber_group_join(&group, rc < 0 ? NULL : err) < 0)
		rc = -1;
	*ret_closed = tap.closed;
	err_clear(&tap.err);
	return rc;
}
