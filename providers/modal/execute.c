/* wire: modal, environmentExecute; The script; Staging of stdin; Exec deadline. */
#include "modal.h"

#include "input.h"
#include "protocol/shell_quote.h"

#include <math.h>
#include <string.h>

#define NO_LEASE_TEXT "No provider lease ID available for execution."
#define GONE_TEXT "Modal sandbox lease is no longer available.\n"
#define STDIN_MAX ((size_t)1 << 30)
#define REMOVE_MS 2000
#define SUFFIX_CHARS 8

static int refuse(struct op *op, const char *text, struct execute_result *ret)
{
	output_put(op_output(op), OUTPUT_STDERR, text, strlen(text));
	ret->has_exit_code = true;
	ret->exit_code = 1;
	return 0;
}

static int64_t timeout_of(const struct execute_params *p, const struct modal_config *c)
{
	double ms = c->exec_timeout_ms;

	if (p->has_timeout && isfinite(p->timeout_ms) && p->timeout_ms > 0)
		ms = fmax(1000, floor(p->timeout_ms / 1000) * 1000);
	return ms >= 1000 ? (int64_t)fmin(ms, 4e12) : 1000;
}

/* --- output --- */

/* A byte order mark at the very start of a stream is dropped, as decoders do. */
struct sink {
	struct output *out;
	struct {
		unsigned matched; /* bytes of the mark that have come and are held back; 3: it is decided */
	} streams[2];
};

static const char mark[] = "\xEF\xBB\xBF";
#define MARK_BYTES 3u

static int on_output(void *arg, enum output_stream stream, const char *bytes, size_t n, struct err *err)
{
	struct sink *sink = arg;
	unsigned *matched = &sink->streams[stream].matched, held = *matched;

	if (*matched >= MARK_BYTES)
		return output_write(sink->out, stream, bytes, n, err);
	while (n > 0 && *matched < MARK_BYTES && *bytes == mark[*matched]) {
		bytes++;
		n--;
		++*matched;
	}
	if (*matched < MARK_BYTES && n == 0)
		return 0;
	if (*matched < MARK_BYTES) {
		held = *matched;
		*matched = MARK_BYTES;
		if (held > 0 && output_write(sink->out, stream, mark, held, err) < 0)
			return -1;
	}
	return n > 0 ? output_write(sink->out, stream, bytes, n, err) : 0;
}

/* The streams have ended: half a mark was none. */
static void finish_output(struct sink *sink)
{
	for (int i = 0; i < 2; i++) {
		unsigned held = sink->streams[i].matched;

		if (held > 0 && held < MARK_BYTES)
			output_put(sink->out, i ? OUTPUT_STDERR : OUTPUT_STDOUT, mark, held);
	}
}

/* --- stdin --- */

/* Owned. */
static char *stdin_path(void)
{
	static const char alphabet[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	unsigned char random[SUFFIX_CHARS];
	char suffix[SUFFIX_CHARS + 1];

	random_bytes(random, sizeof(random));
	for (size_t i = 0; i < SUFFIX_CHARS; i++)
		suffix[i] = alphabet[random[i] % 36];
	suffix[SUFFIX_CHARS] = '\0';
	return xasprintf("/tmp/paperclip-stdin-%lld-%s", (long long)modal_unix_now_ms(), suffix);
}

static int stage(struct modal_session *s, struct modal_lease *lease, const struct input *input, const char *path, struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);

	if (input->fd < 0)
		return modal_write_file(s, lease, path, input->data + input->taken, input->len - input->taken, err);
	if (input_read_text(input, STDIN_MAX, &text, err) < 0)
		return -1;
	return modal_write_file(s, lease, path, text.data ? text.data : "", text.len, err);
}

static void remove_file(struct modal_session *s, struct modal_lease *lease, const char *path)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(&script, "rm -f ");
	shell_quote(&script, path);
	modal_exec_detached(s, lease, script.data, REMOVE_MS);
}

/* --- the command --- */

static void report_timeout(struct op *op, const struct modal_exit *exit, struct execute_result *ret)
{
	cleanup_free char *text = xasprintf("Deadline exceeded while waiting for exec %s\n", exit->exec_id);

	output_put(op_output(op), OUTPUT_STDERR, text, strlen(text));
	ret->timed_out = true;
}

static int write_script(const struct modal_session *s, const struct execute_params *p, const char *path, struct buf *ret,
			struct err *err)
{
	struct shell_script text = {
		.cwd = p->cwd ? p->cwd : s->config.workdir,
		.exec = true,
		.env = p->env,
		.command = p->command,
		.args = p->args,
		.stdin_path = path,
	};

	shell_write_script(ret, &text);
	return modal_script_check(ret->data, err);
}

static int run_script(struct modal_session *s, struct modal_lease *lease, const char *script, int64_t timeout_ms,
		      struct execute_result *ret, struct err *err)
{
	cleanup_modal_exit struct modal_exit exit = {0};
	struct sink sink = {.out = op_output(s->op)};
	struct modal_command command = {
		.script = script,
		.timeout_ms = timeout_ms,
		.can_be_killed = true,
		.on_output = on_output,
		.arg = &sink,
	};
	int rc = modal_exec(s, lease, &command, &exit, err);

	finish_output(&sink);
	if (rc < 0)
		return -1;
	if (exit.gone)
		return refuse(s->op, GONE_TEXT, ret);
	if (exit.timed_out) {
		report_timeout(s->op, &exit, ret);
		return 0;
	}
	ret->has_exit_code = true;
	ret->exit_code = exit.code;
	return 0;
}

/* *ret_gone: there is nothing to write it into. */
static int stage_somewhere(struct modal_session *s, struct modal_lease *lease, const struct input *input, const char *path,
			   bool *ret_gone, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	/* The task's id is known after that. */
	if (modal_lease_reach(s, lease, ret_gone, err) < 0)
		return -1;
	if (*ret_gone || stage(s, lease, input, path, &e) == 0)
		return 0;
	if (!err_is(&e, ERR_NOT_FOUND))
		return err_move(err, &e);
	/* The task that we know is not there any more. */
	modal_lease_doubt(lease);
	if (modal_lease_reach(s, lease, ret_gone, err) < 0)
		return -1;
	return *ret_gone ? 0 : stage(s, lease, input, path, err);
}

static int run(struct modal_session *s, struct modal_lease *lease, const struct execute_params *p, struct execute_result *ret,
	       struct err *err)
{
	cleanup_free char *path = p->stdin_data ? stdin_path() : NULL;
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	bool gone = lease->entry.ended;
	int rc = 0;

	if (write_script(s, p, path, &script, err) < 0)
		return -1;
	if (path && !gone)
		rc = stage_somewhere(s, lease, p->stdin_data, path, &gone, err);
	if (gone)
		return refuse(s->op, GONE_TEXT, ret);
	if (rc == 0)
		rc = run_script(s, lease, script.data, timeout_of(p, &s->config), ret, err);
	if (path)
		remove_file(s, lease, path);
	return rc;
}

int modal_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	cleanup_modal_session struct modal_session s = {0};

	if (!str_nonempty(p->lease.provider_lease_id))
		return refuse(op, NO_LEASE_TEXT, ret);
	if (modal_session_open(&s, op, &p->base, err) < 0 || shell_check_env(p->env, err) < 0)
		return -1;
	struct modal_lease *lease = modal_lease_pin(&s, p->lease.provider_lease_id);
	int rc = run(&s, lease, p, ret, err);

	modal_lease_unpin(&s, lease);
	return rc;
}
