/* wire: e2b, Novita: execute. */
#include "e2b.h"

#include "protocol/js_value.h"
#include "protocol/shell_quote.h"

#include <string.h>

#define TIMED_OUT_CODE 124

static void write_cwd(struct buf *out, const char *cwd)
{
	size_t len = 0;
	const char *trimmed = cwd ? js_trim(cwd, strlen(cwd), &len) : "";
	cleanup_free char *path = len ? xmemdup0(trimmed, len) : xstrdup("/");

	buf_append_str(out, "cd ");
	shell_quote(out, path);
	buf_append_char(out, '\n');
}

static void write_env(struct buf *out, const json_t *env)
{
	const char *key;
	json_t *value;

	/* Jansson's iteration takes no const value, though it changes nothing. */
	json_object_foreach((json_t *)(uintptr_t)env, key, value) {
		if (!json_is_string(value))
			continue;
		buf_printf(out, "export %s=", key);
		shell_quote(out, json_string_value(value));
		buf_append_str(out, ";\n");
	}
}

static void write_words(struct buf *out, const struct execute_params *p)
{
	shell_quote(out, p->command);
	for (char *const *arg = p->args; *arg; arg++) {
		buf_append_char(out, ' ');
		shell_quote(out, *arg);
	}
}

/* stdin is uploaded: inside the script it would be limited to what one argument may hold. */
static void write_script(struct buf *out, const struct execute_params *p, const char *stdin_path)
{
	buf_append_str(out, "set -e\n");
	write_cwd(out, p->cwd);
	write_env(out, p->env);
	buf_append_str(out, stdin_path ? "set +e\n" : "exec ");
	write_words(out, p);
	if (!stdin_path)
		return;
	buf_append_str(out, " < ");
	shell_quote(out, stdin_path);
	buf_append_str(out, "\nstatus=$?\nrm -f ");
	shell_quote(out, stdin_path);
	buf_append_str(out, "\nexit $status");
}

static int run(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const struct execute_params *p,
	       double limit_ms, struct execute_result *ret, struct err *err)
{
	cleanup_free char *stdin_path = e2b_stdin_path(p, "/tmp/.paperclip-stdin-");
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);

	write_script(&text, p, stdin_path);
	struct e2b_execute x = {
		.stdin_path = stdin_path, .removes_stdin = true, .script = text.data, .cwd = "/", .limit_ms = limit_ms};
	if (e2b_execute_command(op, c, s, p, &x, ret, err) < 0)
		return -1;
	if (ret->timed_out) {
		ret->has_exit_code = true;
		ret->exit_code = TIMED_OUT_CODE;
	}
	ret->has_signal_key = true;
	if (!ret->metadata)
		ret->metadata = json_object();
	json_object_set_new(ret->metadata, "provider", json_string("novita"));
	json_object_set_new(ret->metadata, "sandboxId", json_string(s->id));
	return 0;
}

static int refuse_expired(struct op *op, const char *id, struct execute_result *ret)
{
	ret->has_signal_key = true;
	ret->metadata = json_pack("{s:s, s:s, s:b}", "provider", "novita", "sandboxId", id, "expired", true);
	return e2b_execute_refuse(op, "Novita sandbox lease is no longer available.\n", ret);
}

int novita_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	cleanup_novita_config struct novita_config c = {0};
	cleanup_e2b_client struct e2b_client client = {0};
	cleanup_e2b_sandbox struct e2b_sandbox s = {0};
	cleanup_err struct err e = ERR_INIT;
	const char *id = p->lease.provider_lease_id;

	if (!str_nonempty(id)) {
		ret->has_signal_key = true;
		return e2b_execute_refuse(op, "No provider lease ID available for execution.\n", ret);
	}
	novita_config_parse(p->base.config, &c);
	if (novita_config_client(op, &c, p->base.config, &client, err) < 0 || shell_check_env(p->env, err) < 0)
		return -1;
	if (e2b_lease_has_ended(op, &client, &p->base, id))
		return refuse_expired(op, id, ret);
	double seconds = e2b_lease_lifetime_s(c.timeout_ms, &p->lease);
	if (e2b_lease_connect(op, &client, &p->base, id, seconds, &s, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? refuse_expired(op, id, ret) : err_move(err, &e);
	return run(op, &client, &s, p, e2b_execute_limit_ms(p, c.timeout_ms), ret, err);
}
