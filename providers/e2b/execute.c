/* wire: e2b, environmentExecute. */
#include "e2b.h"

#include "log.h"

#include <math.h>
#include <string.h>

#define STDERR_KEPT_MAX ((size_t)64 << 10)

double e2b_execute_limit_ms(const struct execute_params *p, double config_ms)
{
	return p->has_timeout ? trunc(p->timeout_ms) : config_ms;
}

int e2b_execute_refuse(struct op *op, const char *text, struct execute_result *ret)
{
	output_put(op_output(op), OUTPUT_STDERR, text, strlen(text));
	ret->has_exit_code = true;
	ret->exit_code = 1;
	return 0;
}

char *e2b_stdin_path(const struct execute_params *p, const char *prefix)
{
	cleanup_free char *uuid = random_uuid();

	return p->stdin_data ? xasprintf("%s%s", prefix, uuid) : NULL;
}

/* --- output --- */

struct sink {
	struct op *op;
	struct buf stderr_end; /* the end of what stderr holds: whether it says already what we would add */
};

static void remember_stderr(struct sink *sink, const char *bytes, size_t n)
{
	size_t room = STDERR_KEPT_MAX / 2;

	if (n > room) {
		bytes += n - room;
		n = room;
	}
	if (sink->stderr_end.len + n > STDERR_KEPT_MAX)
		buf_consume(&sink->stderr_end, sink->stderr_end.len - room);
	(void)buf_append(&sink->stderr_end, bytes, n);
}

static int write_output(void *arg, enum output_stream stream, const void *bytes, size_t n, struct err *err)
{
	struct sink *sink = arg;

	if (stream == OUTPUT_STDERR)
		remember_stderr(sink, bytes, n);
	return output_write(op_output(sink->op), stream, bytes, n, err);
}

/* On a line of its own, unless the command itself has said so. */
static void add_timeout_text(struct sink *sink, const char *text)
{
	const struct buf *end = &sink->stderr_end;
	cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED);

	if (end->len > 0 && memmem(end->data, end->len, text, strlen(text)))
		return;
	buf_printf(&line, "%s%s\n", end->len > 0 && end->data[end->len - 1] != '\n' ? "\n" : "", text);
	output_put(op_output(sink->op), OUTPUT_STDERR, line.data, line.len);
}

/* --- the command --- */

static void take_end(struct op *op, struct sink *sink, const struct e2b_end *end, struct execute_result *ret)
{
	ret->timed_out = end->timed_out;
	if (end->timed_out)
		add_timeout_text(sink, end->timeout_text);
	ret->has_exit_code = !end->timed_out;
	ret->exit_code = end->exit_code;
	if (end->signal && !end->timed_out) {
		ret->has_signal_key = true;
		ret->signal_name = end->signal;
	}
	if (end->gaps == 0)
		return;
	op_log(op, LOG_LEVEL_WARN, NULL,
	       "The connection to a running command was cut and made again (%u); what it printed meanwhile is lost.", end->gaps);
	ret->metadata = json_pack("{s:i}", "outputGaps", (int)end->gaps);
}

int e2b_execute_command(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const struct execute_params *p,
			const struct e2b_execute *x, struct execute_result *ret, struct err *err)
{
	struct sink sink = {.op = op, .stderr_end = BUF_INIT(STDERR_KEPT_MAX)};
	struct e2b_command command = {
		.script = x->script, .cwd = x->cwd, .limit_ms = x->limit_ms, .on_output = write_output, .arg = &sink};
	cleanup_e2b_end struct e2b_end end = {0};
	struct e2b_failure failure;
	int rc = 0;

	if (x->stdin_path)
		rc = e2b_envd_upload(op, c, s, x->stdin_path, http_input_piece(p->stdin_data), err);
	bool uploaded = rc == 0;
	if (rc == 0)
		rc = e2b_command_run(op, c, s, &command, &end, &failure, err);
	bool removed = x->removes_stdin && uploaded && rc == 0 && !end.timed_out && !end.signal;
	if (x->stdin_path && !removed)
		e2b_envd_remove(op, c, s, x->stdin_path);
	if (rc == 0)
		take_end(op, &sink, &end, ret);
	buf_deinit(&sink.stderr_end);
	return rc;
}
