/* One command of the host. wire: ssh, What the remote side makes of the command. */
#include "ssh.h"

#include "output.h"
#include "protocol/shell_quote.h"

#include <math.h>
#include <string.h>

#define NO_LEASE_TEXT "No provider lease ID available for execution."

static int take_output(void *arg, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err)
{
	struct output *output = arg;

	if (may_wait)
		return output_write(output, stream, bytes, n, err);
	output_put(output, stream, bytes, n);
	return 0;
}

static void write_command(struct buf *out, const char *nonce, const void *arg)
{
	ssh_script_command(out, nonce, arg);
}

/* Nothing of it could be told to a shell. */
static int check_command(const struct execute_params *p, struct err *err)
{
	const char *key;
	json_t *value;

	if (!str_nonempty(p->command))
		return err_set(err, ERR_INVALID, "command is empty.");
	if (*p->command == '-')
		return err_set(err, ERR_INVALID, "command must not start with a dash: %s", p->command);
	if (p->cwd && *p->cwd && *p->cwd != '/')
		return err_set(err, ERR_INVALID, "cwd must be an absolute path: %s", p->cwd);
	if (shell_check_env(p->env, err) < 0)
		return -1;
	json_object_foreach((json_t *)(uintptr_t)p->env, key, value) {
		if (json_is_string(value) && strlen(json_string_value(value)) != json_string_length(value))
			return err_set(err, ERR_INVALID, "Sandbox environment variable %s must not contain a null character.", key);
	}
	return 0;
}

static int64_t pick_timeout_ms(const struct execute_params *p, const struct ssh_config *c)
{
	double ms = p->has_timeout && isfinite(p->timeout_ms) ? trunc(p->timeout_ms) : 0;

	if (!(ms >= 1))
		ms = c->timeout_ms;
	return ms < 9e15 ? (int64_t)ms : (int64_t)9e15;
}

static int describe(const struct ssh_config *c, const struct ssh_command_spec *spec, const struct ssh_reply *reply,
		    struct execute_result *ret, struct err *err)
{
	if (strcmp(reply->word, "lease") == 0)
		return err_set(err, ERR_NOT_FOUND, "The lease's directory %s on %s is not there any more.", spec->place->dir, c->host);
	if (strcmp(reply->word, "cwd") == 0)
		return err_set(err, ERR_INVALID, "Working directory %s cannot be entered on %s.", spec->cwd, c->host);
	ret->has_signal_key = true;
	ret->timed_out = reply->timed_out;
	if (reply->timed_out) {
		ret->signal_name = process_signal_name(9);
		return 0;
	}
	/* Some shells have numbers of their own for signals. */
	int signal = reply->code > 384 ? reply->code - 384 : reply->code > 256 ? reply->code - 256 : reply->code - 128;

	ret->has_exit_code = true;
	ret->exit_code = reply->code > 255 ? 128 + signal : reply->code;
	if (strstr(reply->word, "signal") || reply->code > 255)
		ret->signal_name = process_signal_name(signal);
	return 0;
}

static void tell_profiles(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct ssh_reply *reply)
{
	if (!strstr(reply->word, "profile") || account->profiles_told)
		return;
	account->profiles_told = true;
	op_log(op, LOG_LEVEL_WARN, NULL,
	       "A profile of %s on %s (/etc/profile, ~/.profile, ~/.bash_profile, ~/.bashrc) ends the shell that reads it: commands run "
	       "without profiles. Mend it, or set loginShell to false.",
	       c->username, c->host);
}

static int run(struct op *op, const struct execute_params *p, const struct ssh_config *c, struct execute_result *ret, struct err *err)
{
	cleanup_ssh_place struct ssh_place place = {0};
	struct ssh_account *account = ssh_account_find(op_state(op), &p->base, c);
	const struct input *input = p->stdin_data;
	bool has_length = !input || input->fd < 0;
	struct ssh_reply reply;

	if (ssh_lease_place(c, p->lease.provider_lease_id, &place, err) < 0)
		return -1;
	struct ssh_command_spec spec = {
		.params = p,
		.place = &place,
		.cwd = str_nonempty(p->cwd) ? p->cwd : place.dir,
		.login_shell = c->login_shell,
		.has_length = has_length,
		.input_bytes = input && has_length ? input->len : 0,
	};
	struct ssh_task task = {
		.write_script = write_command,
		.arg = &spec,
		.input = p->stdin_data,
		.take = take_output,
		.take_arg = op_output(op),
		.timeout_ms = pick_timeout_ms(p, c),
		.endable = true,
	};
	int64_t began_ms = loop_now_ms();

	if (ssh_session_run(op, account, c, &task, &reply, err) < 0 || describe(c, &spec, &reply, ret, err) < 0)
		return -1;
	tell_profiles(op, account, c, &reply);
	ret->metadata = json_pack("{s:I}", "durationMs", (json_int_t)(loop_now_ms() - began_ms));
	return 0;
}

int ssh_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	cleanup_ssh_config struct ssh_config c = {0};

	if (!str_nonempty(p->lease.provider_lease_id)) {
		output_put(op_output(op), OUTPUT_STDERR, NO_LEASE_TEXT, strlen(NO_LEASE_TEXT));
		ret->has_exit_code = true;
		ret->exit_code = 1;
		return 0;
	}
	if (check_command(p, err) < 0 || ssh_config_read(op, p->base.config, &c, err) < 0 ||
	    ssh_lease_check(op, &c, &p->base, p->lease.provider_lease_id, err) < 0)
		return -1;
	return run(op, p, &c, ret, err);
}
