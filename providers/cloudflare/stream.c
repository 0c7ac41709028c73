/*
 * wire: cloudflare, The event stream. The event "complete" holds the whole output once more; what was shown before that came piece by
 * piece, and a piece may have been missing.
 */
#include "cloudflare.h"

#include "output.h"
#include "protocol/js_value.h"
#include "protocol/json_read.h"
#include "protocol/sse.h"

#include <string.h>

#define NO_COMPLETION "Cloudflare sandbox bridge streaming response ended without a completion event."
#define FAILED "Cloudflare sandbox bridge streaming command failed."

struct cloudflare_stream {
	struct op *op;
	struct execute_result *result;
	struct sse sse;
	bool completed; /* the result is there: nothing can spoil it any more */
};

static int show(struct cloudflare_stream *s, enum output_stream which, const struct sse_event *event, struct err *err)
{
	json_t *object = NULL;
	int rc = 0;

	if (json_read(event->data, event->data_len, &object, NULL) < 0)
		return 0;
	const json_t *data = json_object_get(object, "data");

	if (json_string_length(data) > 0)
		rc = output_write(op_output(s->op), which, json_string_value(data), json_string_length(data), err);
	json_decref(object);
	return rc;
}

static int complete(struct cloudflare_stream *s, const struct sse_event *event, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;
	json_t *object = NULL;
	int rc;

	if (json_read(event->data, event->data_len, &object, &e) < 0)
		rc = cloudflare_set_malformed(err, err_text(&e));
	else if (json_is_null(object))
		rc = err_set(err, ERR_PROTOCOL, NO_COMPLETION);
	else
		rc = cloudflare_take_result(s->op, object, s->result, err);
	s->completed = rc == 0;
	json_decref(object);
	return rc;
}

static int fail(const struct sse_event *event, struct err *err)
{
	json_t *object = NULL;

	json_read(event->data, event->data_len, &object, NULL);
	const json_t *text = json_object_get(object, "error");
	cleanup_free char *trimmed = js_trimmed(text);

	err_set(err, ERR_REMOTE, "%s", trimmed ? json_string_value(text) : FAILED);
	json_decref(object);
	return -1;
}

static int on_event(void *arg, const struct sse_event *event, struct err *err)
{
	struct cloudflare_stream *s = arg;

	if (s->completed)
		return 0;
	if (strcmp(event->name, "stdout") == 0)
		return show(s, OUTPUT_STDOUT, event, err);
	if (strcmp(event->name, "stderr") == 0)
		return show(s, OUTPUT_STDERR, event, err);
	if (strcmp(event->name, "complete") == 0)
		return complete(s, event, err);
	return strcmp(event->name, "error") == 0 ? fail(event, err) : 0;
}

struct cloudflare_stream *cloudflare_stream_create(struct op *op, struct execute_result *result)
{
	struct cloudflare_stream *s = xcalloc(1, sizeof *s);

	s->op = op;
	s->result = result;
	sse_init(&s->sse, CLOUDFLARE_ANSWER_MAX, on_event, s);
	return s;
}

void cloudflare_stream_destroy(struct cloudflare_stream *s)
{
	if (!s)
		return;
	sse_deinit(&s->sse);
	free(s);
}

int cloudflare_stream_on_answer(void *stream, const struct http_response *response, enum http_take *ret, struct err *err)
{
	*ret = http_is_success(response) && !cloudflare_speaks_json(response) ? HTTP_STREAM : HTTP_COLLECT;
	return 0;
}

int cloudflare_stream_on_body(void *stream, const char *bytes, size_t n, struct err *err)
{
	struct cloudflare_stream *s = stream;

	if (sse_feed(&s->sse, bytes, n, err) < 0)
		return -1;
	return s->completed;
}

int cloudflare_stream_finish(struct cloudflare_stream *s, struct err *err)
{
	if (!s->completed && sse_finish(&s->sse, err) < 0)
		return -1;
	return s->completed ? 0 : err_set(err, ERR_PROTOCOL, NO_COMPLETION);
}
