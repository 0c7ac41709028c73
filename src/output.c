/*
 * The text of a stream is kept in two pieces. The head takes all text up to HEAD_MAX of escaped size; live output is sent from it.
 * What comes later goes to the tail, of which only the end is kept. The final text is head, marker if anything was dropped, tail:
 * whatever was sent live is a prefix of it.
 */
#include "output_internal.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "fiber.h"
#include "protocol/json_write.h"

#include <stdio.h>
#include <string.h>

/* Of escaped text. Together 120 MiB: a result stays below the host's line limit of 128 Mi UTF-16 units. */
static const size_t head_max[] = {[OUTPUT_STDOUT] = (size_t)72 << 20, [OUTPUT_STDERR] = (size_t)18 << 20};
static const size_t tail_max[] = {[OUTPUT_STDOUT] = (size_t)24 << 20, [OUTPUT_STDERR] = (size_t)6 << 20};

/* All outputs of the worker together, with the results that the host has not taken; above it new text goes to small tails. */
#define TOTAL_MAX ((size_t)1 << 30)
#define SMALL_TAIL_MAX ((size_t)64 << 10)

#define LIVE_INTERVAL_MS 10
#define LIVE_BYTES (64 * 1024)
#define SLICE_BYTES (64 * 1024) /* of input, taken at a time; its text is at most three times, escaped 18 times that */

struct stream {
	struct utf8_repair repair;
	struct buf head;
	size_t head_escaped;
	bool head_full;
	size_t sent; /* of the head, live */
	struct buf tail;
	size_t tail_max;
	size_t dropped; /* bytes of text between head and tail */
	size_t bytes;   /* as they came */
};

struct output {
	struct output_sink sink;
	struct stream streams[2];
	int64_t sent_at_ms; /* last live piece */
	uv_timer_t *timer;  /* owned; made when first needed */
};

static size_t total_kept;

struct output *output_create(const struct output_sink *sink)
{
	struct output *out = xcalloc(1, sizeof(*out));

	out->sink = *sink;
	for (int i = 0; i < 2; i++) {
		out->streams[i].head = out->streams[i].tail = BUF_INIT(BUF_UNBOUNDED);
		out->streams[i].tail_max = tail_max[i];
	}
	return out;
}

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

void output_destroy(struct output *out)
{
	if (!out)
		return;
	for (int i = 0; i < 2; i++) {
		total_kept -= out->streams[i].head.len + out->streams[i].tail.len;
		buf_deinit(&out->streams[i].head);
		buf_deinit(&out->streams[i].tail);
	}
	if (out->timer)
		uv_close((uv_handle_t *)out->timer, on_timer_closed);
	free(out);
}

/* --- live --- */

static void send_live(struct output *out, enum output_stream which)
{
	struct stream *s = &out->streams[which];

	while (s->sent < s->head.len) {
		const char *text = s->head.data + s->sent;
		size_t left = s->head.len - s->sent;
		size_t n = left > LIVE_BYTES ? utf8_floor(text, LIVE_BYTES) : left;

		out->sink.live(out->sink.arg, which, text, n);
		s->sent += n;
	}
	out->sent_at_ms = loop_now_ms();
}

static void send_all_live(struct output *out)
{
	send_live(out, OUTPUT_STDOUT);
	send_live(out, OUTPUT_STDERR);
}

static void on_timer(uv_timer_t *timer)
{
	send_all_live(timer->data);
}

/* Sends at once what is due, and sees to it that the rest follows. */
static void live(struct output *out, enum output_stream which)
{
	struct stream *s = &out->streams[which];
	int64_t wait_ms = out->sent_at_ms + LIVE_INTERVAL_MS - loop_now_ms();

	if (!out->sink.live || s->sent == s->head.len)
		return;
	if (s->head.len - s->sent >= LIVE_BYTES) {
		send_live(out, which);
	} else if (wait_ms <= 0) {
		send_all_live(out);
	} else {
		if (!out->timer) {
			out->timer = xcalloc(1, sizeof(*out->timer));
			uv_timer_init(scheduler_loop(), out->timer);
			out->timer->data = out;
		}
		if (!uv_is_active((uv_handle_t *)out->timer))
			uv_timer_start(out->timer, on_timer, (uint64_t)wait_ms, 0);
	}
}

/* --- capture --- */

/* Keeps the end of the tail, of at most max escaped bytes. */
static void trim_tail(struct stream *s, size_t max)
{
	size_t escaped = json_escaped_size(s->tail.data, s->tail.len), from = 0;

	while (escaped > max) {
		size_t to = utf8_ceil(s->tail.data, s->tail.len,
				      from + SLICE_BYTES < s->tail.len ? from + SLICE_BYTES : s->tail.len);

		escaped -= json_escaped_size(s->tail.data + from, to - from);
		from = to;
	}
	s->dropped += from;
	total_kept -= from;
	if (from)
		buf_consume(&s->tail, from);
}

static bool too_much_is_kept(const struct output *out)
{
	return total_kept + (out->sink.queued ? out->sink.queued(out->sink.arg) : 0) > TOTAL_MAX;
}

static void added_to_head(const struct output *out, struct stream *s, size_t before, enum output_stream which)
{
	s->head_escaped += json_escaped_size(s->head.data + before, s->head.len - before);
	if (s->head_escaped > head_max[which] - 18 * SLICE_BYTES)
		s->head_full = true;
	if (too_much_is_kept(out)) {
		s->head_full = true;
		s->tail_max = SMALL_TAIL_MAX;
	}
}

static void capture(struct output *out, enum output_stream which, const char *bytes, size_t n)
{
	struct stream *s = &out->streams[which];

	while (n > 0) {
		size_t slice = n > SLICE_BYTES ? SLICE_BYTES : n;
		struct buf *to = s->head_full ? &s->tail : &s->head;
		size_t before = to->len;

		utf8_repair_append(&s->repair, bytes, slice, to);
		total_kept += to->len - before;
		if (to == &s->head)
			added_to_head(out, s, before, which);
		else if (s->tail.len > 2 * s->tail_max)
			trim_tail(s, s->tail_max);
		bytes += slice;
		n -= slice;
	}
}

void output_put(struct output *out, enum output_stream stream, const void *bytes, size_t n)
{
	out->streams[stream].bytes += n;
	if (out->sink.raw) {
		out->sink.raw(out->sink.arg, stream, bytes, n);
		return;
	}
	capture(out, stream, bytes, n);
	live(out, stream);
}

int output_write(struct output *out, enum output_stream stream, const void *bytes, size_t n, struct err *err)
{
	output_put(out, stream, bytes, n);
	return out->sink.wait ? out->sink.wait(out->sink.arg, err) : 0;
}

static bool continues(const struct output *out, const struct stream *s, const char *text, size_t n)
{
	/* Raw bytes are not kept: their count must do. */
	if (s->bytes > n || out->sink.raw || s->head.len == 0)
		return s->bytes <= n;
	return s->head.len <= n && memcmp(s->head.data, text, s->head.len) == 0;
}

static void forget(struct stream *s)
{
	total_kept -= s->head.len + s->tail.len;
	buf_deinit(&s->head);
	buf_deinit(&s->tail);
	s->repair = (struct utf8_repair){0};
	s->head_escaped = s->sent = s->dropped = s->bytes = 0;
	s->head_full = false;
}

void output_settle(struct output *out, enum output_stream stream, const char *text, size_t n)
{
	struct stream *s = &out->streams[stream];

	if (continues(out, s, text, n)) {
		output_put(out, stream, text + s->bytes, n - s->bytes);
	} else if (!out->sink.raw) {
		forget(s);
		s->bytes = n;
		capture(out, stream, text, n);
		s->sent = s->head.len; /* the host shows all of it once more */
	}
}

/* --- the end --- */

void output_finish(struct output *out)
{
	for (int i = 0; i < 2; i++) {
		struct stream *s = &out->streams[i];
		struct buf *to = s->head_full ? &s->tail : &s->head;
		size_t before = to->len;

		utf8_repair_finish(&s->repair, to);
		total_kept += to->len - before;
		if (s->tail.len)
			trim_tail(s, s->tail_max);
	}
	if (out->timer)
		uv_timer_stop(out->timer);
	if (out->sink.live)
		send_all_live(out);
}

void output_give(struct output *out, enum output_stream stream, struct message *m)
{
	struct stream *s = &out->streams[stream];

	total_kept -= s->head.len + s->tail.len;
	if (s->head.len)
		message_add_text(m, &s->head);
	if (s->dropped) {
		struct buf marker = BUF_INIT(BUF_UNBOUNDED);

		buf_printf(&marker, "\n[%zu bytes of output left out here]\n", s->dropped);
		message_add_text(m, &marker);
	}
	if (s->tail.len)
		message_add_text(m, &s->tail);
}

void output_describe_cuts(const struct output *out, json_t **metadata)
{
	static const char *const names[] = {"stdout", "stderr"};

	for (int i = 0; i < 2; i++) {
		const struct stream *s = &out->streams[i];
		char key[32];

		if (!s->dropped)
			continue;
		if (!*metadata)
			*metadata = json_object();
		snprintf(key, sizeof(key), "%sTruncated", names[i]);
		json_object_set_new(*metadata, key, json_true());
		snprintf(key, sizeof(key), "%sBytes", names[i]);
		json_object_set_new(*metadata, key, json_integer((json_int_t)s->bytes));
		snprintf(key, sizeof(key), "%sOmittedBytes", names[i]);
		json_object_set_new(*metadata, key, json_integer((json_int_t)s->dropped));
	}
}

size_t output_bytes(const struct output *out, enum output_stream stream)
{
	return out->streams[stream].bytes;
}
