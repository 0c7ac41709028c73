/* wire: daytona, environmentExecute. */
#include "daytona.h"

#include "output.h"
#include "protocol/shell_quote.h"

#include <math.h>
#include <string.h>

#define NO_LEASE_TEXT "No provider lease ID available for execution."
#define GIT_TIMEOUT_MAX_MS 120000
#define GIT_DEFAULTS                                                                                                             \
	"export GIT_TERMINAL_PROMPT='0' GCM_INTERACTIVE='Never' GIT_ASKPASS='echo' SSH_ASKPASS='echo' "                          \
	"SSH_ASKPASS_REQUIRE='force'"

static bool is_one_of(const char *text, const char *const *list)
{
	for (; *list; list++) {
		if (strcmp(text, *list) == 0)
			return true;
	}
	return false;
}

bool daytona_is_git_network_command(const char *command, char *const *args)
{
	static const char *const with_value[] = {"-C", "-c", "--git-dir", "--work-tree", NULL};
	static const char *const network[] = {"push", "fetch", "pull", "ls-remote", "clone", NULL};
	static const char *const with_update[] = {"remote", "submodule", NULL};
	const char *slash = strrchr(command, '/');

	if (strcmp(slash ? slash + 1 : command, "git") != 0)
		return false;
	for (; *args && (*args)[0] == '-'; args++) {
		if (is_one_of(*args, with_value) && args[1])
			args++;
	}
	if (!*args)
		return false;
	return is_one_of(*args, network) || (is_one_of(*args, with_update) && args[1] && strcmp(args[1], "update") == 0);
}

static double timeout_of(const struct execute_params *p, const struct daytona_config *c)
{
	double ms = p->has_timeout && p->timeout_ms > 0 ? trunc(p->timeout_ms) : c->timeout_ms;

	return daytona_is_git_network_command(p->command, p->args) ? fmin(ms, GIT_TIMEOUT_MAX_MS) : ms;
}

void daytona_write_script(struct buf *out, const struct execute_params *p, const char *stdin_path)
{
	struct shell_script script = {
		.setup = GIT_DEFAULTS,
		.cwd = p->cwd,
		.env = p->env,
		.command = p->command,
		.args = p->args,
		.stdin_path = stdin_path,
	};

	shell_write_script(out, &script);
}

void daytona_report_timeout(struct op *op, const struct execute_params *p, double timeout_ms, const char *text,
			    struct execute_result *ret)
{
	cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED);

	if (daytona_is_git_network_command(p->command, p->args))
		buf_printf(&line,
			   "Git network operation timed out after %.0f s — the remote may be unreachable or noninteractive "
			   "credentials "
			   "are not configured.\n",
			   round(timeout_ms / 1000));
	else
		buf_printf(&line, "%s\n", text);
	output_put(op_output(op), OUTPUT_STDERR, line.data, line.len);
	ret->timed_out = true;
}

static int run_once(struct op *op, const struct daytona_config *c, struct daytona_handle *handle, const struct execute_params *p,
		    const char *script, double timeout_ms, struct execute_result *ret, struct err *err)
{
	cleanup_daytona_run struct daytona_run run = {0};

	if (daytona_run_command(op, c, &handle->sandbox, script, NULL, daytona_seconds(timeout_ms), &run, err) < 0)
		return -1;
	if (run.timed_out) {
		daytona_report_timeout(op, p, timeout_ms, run.timeout_text, ret);
		return 0;
	}
	output_put(op_output(op), OUTPUT_STDOUT, run.text, run.len);
	ret->has_exit_code = true;
	ret->exit_code = run.exit_code;
	return 0;
}

static int run_in_sandbox(struct op *op, const struct daytona_config *c, struct daytona_handle *handle,
			  const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	double timeout_ms = timeout_of(p, c);
	bool in_session = c->use_sessions && !p->bypass_session;
	cleanup_free char *uuid = random_uuid();
	cleanup_free char *stdin_path = p->stdin_data ? xasprintf("/tmp/paperclip-stdin-%s", uuid) : NULL;
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	int rc = 0;

	if (p->stdin_data)
		rc = daytona_upload(op, c, &handle->sandbox, stdin_path, http_input_piece(p->stdin_data),
				    daytona_seconds(timeout_ms), err);
	/* A session's commands have an input that nobody ever closes. */
	daytona_write_script(&script, p, stdin_path ? stdin_path : in_session ? "/dev/null" : NULL);
	if (rc == 0)
		rc = in_session ? daytona_session_run(op, c, handle, p, script.data, timeout_ms, ret, err)
				: run_once(op, c, handle, p, script.data, timeout_ms, ret, err);
	if (stdin_path)
		daytona_remove_file(op, c, &handle->sandbox, stdin_path);
	return rc;
}

int daytona_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	struct daytona_handle *handle;

	if (!str_nonempty(p->lease.provider_lease_id)) {
		output_put(op_output(op), OUTPUT_STDERR, NO_LEASE_TEXT, strlen(NO_LEASE_TEXT));
		ret->has_exit_code = true;
		ret->exit_code = 1;
		return 0;
	}
	if (daytona_config_read(op, p->base.config, &c, err) < 0 || shell_check_env(p->env, err) < 0 ||
	    daytona_handle_pin(op, &c, &p->base, p->lease.provider_lease_id, &handle, err) < 0)
		return -1;
	int rc = run_in_sandbox(op, &c, handle, p, ret, err);
	daytona_handle_unpin(op, handle);
	return rc;
}
