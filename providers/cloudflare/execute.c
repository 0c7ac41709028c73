/* wire: cloudflare, Execute. */
#include "cloudflare.h"

#include "fiber.h"
#include "output.h"
#include "protocol/js_value.h"
#include "protocol/json_write.h"

#include <math.h>
#include <string.h>

#define NO_LEASE_TEXT "No provider lease ID available for execution.\n"
#define CHANNEL_KEY "PAPERCLIP_SANDBOX_EXEC_CHANNEL"
#define STDIN_MAX ((size_t)128 << 20)
#define TIMER_MAX_MS 2147483647
/* What the bridge has to say that a command ran out of time, before we say it ourselves. */
#define GRACE_MS 3000

/* --- results --- */

static void end_without_output(struct op *op, const char *text, struct execute_result *ret)
{
	output_put(op_output(op), OUTPUT_STDERR, text, strlen(text));
	ret->has_exit_code = true;
	ret->exit_code = 1;
	ret->has_signal_key = true;
}

static void report_lost(struct op *op, const struct err *cause, struct execute_result *ret)
{
	cleanup_free char *line = xasprintf("%s\n", err_text(cause));

	end_without_output(op, line, ret);
}

static int read_exit_code(const json_t *code, struct execute_result *ret, struct err *err)
{
	if (json_is_null(code))
		return 0;
	if (!json_is_integer(code) || json_integer_value(code) < INT32_MIN || json_integer_value(code) > INT32_MAX)
		return cloudflare_set_malformed(err, "a command without exitCode");
	ret->has_exit_code = true;
	ret->exit_code = (int)json_integer_value(code);
	return 0;
}

static void settle(struct op *op, enum output_stream stream, json_t *object, const char *key)
{
	const json_t *text = json_object_get(object, key);

	if (json_is_string(text))
		output_settle(op_output(op), stream, json_string_value(text), json_string_length(text));
	json_object_del(object, key);
}

int cloudflare_take_result(struct op *op, json_t *object, struct execute_result *ret, struct err *err)
{
	if (!json_is_object(object))
		return cloudflare_set_malformed(err, "a command's result that is no object");
	if (read_exit_code(json_object_get(object, "exitCode"), ret, err) < 0)
		return -1;
	ret->timed_out = json_is_true(json_object_get(object, "timedOut"));
	settle(op, OUTPUT_STDOUT, object, "stdout");
	settle(op, OUTPUT_STDERR, object, "stderr");
	if (json_is_object(json_object_get(object, "metadata"))) {
		ret->metadata = json_incref(json_object_get(object, "metadata"));
		json_object_del(object, "metadata");
	}
	json_object_del(object, "exitCode");
	json_object_del(object, "timedOut");
	ret->extra = json_incref(object);
	return 0;
}

/* --- the request --- */

/* What of a command depends on the channel that the host runs it on. */
struct channel {
	const char *strategy; /* static */
	char *session_id;     /* owned */
	json_t *env;          /* owned; NULL: left out */
	bool streamed;
};

static void channel_init(struct channel *channel, const struct cloudflare_config *c, const struct execute_params *p)
{
	const char *value = json_string_value(json_object_get(p->env, CHANNEL_KEY));
	bool is_bridge = value && strcmp(value, "bridge") == 0;

	bool has_env = p->env_given || json_object_size(p->env) > 0;

	*channel = (struct channel){
		.strategy = is_bridge ? "named" : cloudflare_session_strategy(c),
		.session_id = is_bridge ? xasprintf("%s-bridge", c->session_id) : xstrdup(c->session_id),
		.env = has_env ? json_copy((json_t *)(uintptr_t)p->env) : NULL, /* jansson's copy takes no const value */
		.streamed = !is_bridge,
	};
	json_object_del(channel->env, CHANNEL_KEY);
}

static void channel_deinit(struct channel *channel)
{
	free(channel->session_id);
	json_decref(channel->env);
}
#define cleanup_channel cleanup(channel_deinit)

/* The command's own limit as it was asked for. */
static double asked_ms(const struct cloudflare_config *c, const struct execute_params *p)
{
	return fmin(p->has_timeout ? p->timeout_ms : c->timeout_ms, TIMER_MAX_MS);
}

static void write_text(struct buf *out, const char *key, const char *text)
{
	buf_append_str(out, key);
	json_write_string(out, text, strlen(text));
}

static void write_args(struct buf *out, char *const *args)
{
	buf_append_str(out, ",\"args\":[");
	for (size_t i = 0; args[i]; i++)
		write_text(out, i ? "," : "", args[i]);
	buf_append_char(out, ']');
}

static int write_stdin(struct buf *out, const struct input *input, struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(out, ",\"stdin\":");
	if (!input)
		return buf_append_str(out, "null");
	if (input->fd < 0)
		return json_write_string(out, input->data + input->taken, input->len - input->taken);
	if (input_read_text(input, STDIN_MAX, &text, err) < 0)
		return -1;
	return json_write_string(out, text.data ? text.data : "", text.len);
}

/* By hand, since what goes to stdin may be big. */
static int write_body(struct buf *out, const struct cloudflare_config *c, const struct execute_params *p,
		      const struct channel *channel, struct err *err)
{
	cleanup_json json_t *timeout = js_number_json(asked_ms(c, p));

	write_text(out, "{\"providerLeaseId\":", p->lease.provider_lease_id);
	write_text(out, ",\"command\":", p->command);
	if (p->args_given || *p->args)
		write_args(out, p->args);
	if (p->cwd)
		write_text(out, ",\"cwd\":", p->cwd);
	if (channel->env) {
		buf_append_str(out, ",\"env\":");
		json_write_value(out, channel->env);
	}
	if (write_stdin(out, p->stdin_data, err) < 0)
		return -1;
	buf_append_str(out, ",\"timeoutMs\":");
	json_write_value(out, timeout);
	write_text(out, ",\"sessionStrategy\":", channel->strategy);
	write_text(out, ",\"sessionId\":", channel->session_id);
	return buf_append_str(out, channel->streamed ? ",\"streamOutput\":true}" : ",\"streamOutput\":false}");
}

/* --- limits --- */

struct limits {
	double answer_ms; /* of the whole call */
	double header_ms; /* of a stream's beginning; 0: none */
	bool is_commands; /* answer_ms is the command's own time: when it is over, that is its result */
};

static struct limits limits_of(const struct cloudflare_config *c, const struct execute_params *p, bool streamed)
{
	double command_ms = trunc(asked_ms(c, p)), request_ms = c->request_timeout_ms;

	if (!(command_ms > 0) || (!streamed && command_ms < request_ms))
		return (struct limits){.answer_ms = request_ms};
	return (struct limits){
		.answer_ms = command_ms + GRACE_MS,
		.header_ms = streamed && command_ms < request_ms && request_ms < command_ms + GRACE_MS ? request_ms : 0,
		.is_commands = true,
	};
}

/* Time that is over is the command's result, unless it was the bridge that did not even begin to answer. */
static bool is_timed_out(const struct limits *limits, const struct cloudflare_answer *answer, bool streamed,
			 const struct err *err)
{
	if (!answer->timed_out || !answer->sent)
		return false;
	if (err_is(err, ERR_TIMEOUT) || (streamed && answer->status))
		return true;
	return limits->is_commands && limits->header_ms == 0;
}

/* --- one command --- */

static int perform(struct op *op, const struct cloudflare_config *c, const struct execute_params *p,
		   const struct channel *channel, const char *body, size_t len, struct execute_result *ret, struct err *err)
{
	struct cloudflare_stream *stream = channel->streamed ? cloudflare_stream_create(op, ret) : NULL;
	struct limits limits = limits_of(c, p, channel->streamed);
	struct cloudflare_call call = {
		.method = "POST",
		.path = "/exec",
		.base = &p->base,
		.issue_id = p->base.issue_id,
		.body = body,
		.body_len = len,
		.timeout_ms = limits.answer_ms,
		.header_timeout_ms = limits.header_ms,
		.runs_command = true,
		.on_answer = stream ? cloudflare_stream_on_answer : NULL,
		.on_body = stream ? cloudflare_stream_on_body : NULL,
		.arg = stream,
	};
	cleanup_cloudflare_answer struct cloudflare_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;
	int rc = cloudflare_perform(op, c, &call, &answer, &e);

	if (rc == 0 && answer.json) {
		rc = cloudflare_take_result(op, answer.json, ret, err);
	} else if (rc == 0) {
		rc = cloudflare_stream_finish(stream, err);
	} else if (cloudflare_is_lost(&answer)) {
		report_lost(op, &e, ret);
		rc = 0;
	} else if (is_timed_out(&limits, &answer, channel->streamed, &e)) {
		ret->timed_out = true;
		ret->has_signal_key = true;
		rc = 0;
	} else if (stream && err_is(&e, ERR_TRANSPORT) && cloudflare_stream_finish(stream, NULL) == 0) {
		rc = 0; /* all was said before the connection broke */
	} else {
		err_move(err, &e);
	}
	cloudflare_stream_destroy(stream);
	return rc;
}

int cloudflare_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	cleanup_cloudflare_config struct cloudflare_config c = {0};
	cleanup_channel struct channel channel = {0};
	cleanup_buf struct buf body = BUF_INIT(BUF_UNBOUNDED);
	cleanup_err struct err ended = ERR_INIT;

	if (!str_nonempty(p->lease.provider_lease_id)) {
		end_without_output(op, NO_LEASE_TEXT, ret);
		return 0;
	}
	if (cloudflare_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	if (cloudflare_lease_check(op, &c, &p->base, p->lease.provider_lease_id, &ended) < 0) {
		report_lost(op, &ended, ret);
		return 0;
	}
	channel_init(&channel, &c, p);
	if (write_body(&body, &c, p, &channel, err) < 0)
		return -1;
	return perform(op, &c, p, &channel, body.data, body.len, ret, err);
}
