#include "protocol/sse.h"

#include "base/utf8.h"

#include <string.h>

static const char bom[] = "\xEF\xBB\xBF";

void sse_init(struct sse *s, size_t event_max, sse_event_fn *on_event, void *arg)
{
	*s = (struct sse){
		.on_event = on_event,
		.arg = arg,
		.event_max = event_max,
		.line = BUF_INIT(event_max),
		.name = BUF_INIT(event_max),
		.data = BUF_INIT(event_max),
	};
}

void sse_deinit(struct sse *s)
{
	buf_wipe(&s->line);
	buf_wipe(&s->name);
	buf_wipe(&s->data);
}

static int overlong(const struct sse *s, struct err *err)
{
	return err_set(err, ERR_PROTOCOL, "the event stream holds an event of more than %zu bytes", s->event_max);
}

/* Valid UTF-8 in `to`, which has no ceiling: repairing makes a text up to three times as long. */
static const char *repaired(const struct buf *from, struct buf *to)
{
	struct utf8_repair repair = {0};

	if (from->len == 0)
		return "";
	utf8_repair_append(&repair, from->data, from->len, to);
	utf8_repair_finish(&repair, to);
	return to->data;
}

static int dispatch(struct sse *s, struct err *err)
{
	cleanup_buf struct buf name = BUF_INIT(BUF_UNBOUNDED), data = BUF_INIT(BUF_UNBOUNDED);
	int rc = 0;

	if (s->has_data) {
		struct sse_event event = {.name = repaired(&s->name, &name), .data = repaired(&s->data, &data)};

		event.data_len = data.len;
		rc = s->on_event(s->arg, &event, err);
	}
	s->has_data = false;
	buf_reset(&s->name);
	buf_reset(&s->data);
	return rc;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\v' || c == '\f';
}

static int take_name(struct sse *s, const char *value, size_t len, struct err *err)
{
	while (len > 0 && is_blank(*value)) {
		value++;
		len--;
	}
	while (len > 0 && is_blank(value[len - 1]))
		len--;
	buf_reset(&s->name);
	return buf_append(&s->name, value, len) < 0 ? overlong(s, err) : 0;
}

static int take_data(struct sse *s, const char *value, size_t len, struct err *err)
{
	if (len > 0 && *value == ' ') {
		value++;
		len--;
	}
	if (s->has_data && buf_append_char(&s->data, '\n') < 0)
		return overlong(s, err);
	s->has_data = true;
	return buf_append(&s->data, value, len) < 0 ? overlong(s, err) : 0;
}

/* A line without a colon is a field without a value. */
static int take_line(struct sse *s, const char *line, size_t len, struct err *err)
{
	const char *colon = len ? memchr(line, ':', len) : NULL;
	size_t field = colon ? (size_t)(colon - line) : len;
	const char *value = colon ? colon + 1 : line + len;
	size_t value_len = (size_t)(line + len - value);

	if (len == 0)
		return dispatch(s, err);
	if (field == 5 && memcmp(line, "event", 5) == 0)
		return take_name(s, value, value_len, err);
	if (field == 4 && memcmp(line, "data", 4) == 0)
		return take_data(s, value, value_len, err);
	return 0;
}

/* A line whose end has come: n bytes here, perhaps after some that were kept. */
static int end_line(struct sse *s, const char *bytes, size_t n, struct err *err)
{
	if (s->line.len == 0)
		return n > s->event_max ? overlong(s, err) : take_line(s, bytes, n, err);
	if (buf_append(&s->line, bytes, n) < 0)
		return overlong(s, err);
	int rc = take_line(s, s->line.data, s->line.len, err);

	buf_reset(&s->line);
	return rc;
}

/* Takes the byte order mark off the stream's start. Returns how many of the bytes it took. */
static size_t skip_bom(struct sse *s, const char *bytes, size_t n)
{
	size_t i = 0;

	while (s->bom < 3 && i < n && bytes[i] == bom[s->bom]) {
		s->bom++;
		i++;
	}
	if (s->bom < 3 && i < n) {
		buf_append(&s->line, bom, s->bom); /* it only began like one */
		s->bom = 3;
	}
	return i;
}

/* The first line end in bytes[0..n), or n. */
static size_t line_length(const char *bytes, size_t n)
{
	const char *lf = memchr(bytes, '\n', n);
	size_t len = lf ? (size_t)(lf - bytes) : n;
	const char *cr = memchr(bytes, '\r', len);

	return cr ? (size_t)(cr - bytes) : len;
}

int sse_feed(struct sse *s, const void *data, size_t n, struct err *err)
{
	const char *bytes = data;
	size_t skipped = n ? skip_bom(s, bytes, n) : 0;

	bytes += skipped;
	n -= skipped;
	while (n > 0) {
		if (s->after_cr && *bytes == '\n') {
			s->after_cr = false;
			bytes++;
			n--;
			continue;
		}
		s->after_cr = false;
		size_t len = line_length(bytes, n);

		if (len == n)
			return buf_append(&s->line, bytes, n) < 0 ? overlong(s, err) : 0;
		s->after_cr = bytes[len] == '\r';
		if (end_line(s, bytes, len, err) < 0)
			return -1;
		bytes += len + 1;
		n -= len + 1;
	}
	return 0;
}

int sse_finish(struct sse *s, struct err *err)
{
	if (s->bom < 3)
		buf_append(&s->line, bom, s->bom);
	if (s->line.len > 0 && end_line(s, "", 0, err) < 0)
		return -1;
	return dispatch(s, err);
}
