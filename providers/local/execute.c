/*
 * One command in a lease.
 *
 * It starts as a child of the sandbox's init, so what earlier commands left running is still there. Three things are done by a shell
 * around it, and only where the config asks for them: a login environment (loginShell), and a processor time limit (cpuSeconds).
 */
#include "local.h"

#include "base/buf.h"
#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

/* After SIGTERM a command may tidy up this long. */
#define GRACE_MS 1500
/* What a command left running in the background may hold its output open; the answer does not wait for it any longer. */
#define LINGER_MS 250

#define NO_LEASE_TEXT "No provider lease ID available for execution."

/* As the upstream providers read profiles before a command; the rest of the script is ours. */
#define LOGIN_SCRIPT                                                                                                             \
	"if [ -f /etc/profile ]; then . /etc/profile >/dev/null 2>&1 || true; fi && "                                            \
	"if [ -f \"$HOME/.profile\" ]; then . \"$HOME/.profile\" >/dev/null 2>&1 || true; fi && "                                \
	"if [ -f \"$HOME/.bash_profile\" ]; then . \"$HOME/.bash_profile\" >/dev/null 2>&1 || true; "                            \
	"elif [ -f \"$HOME/.bashrc\" ]; then . \"$HOME/.bashrc\" >/dev/null 2>&1 || true; fi && "                                \
	"if [ -f \"$HOME/.zprofile\" ]; then . \"$HOME/.zprofile\" >/dev/null 2>&1 || true; fi && "

/* --- environment --- */

static int64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * npm would install programs into /usr/local, where nobody may write: agents are commonly installed in this way, so it is told of a
 * place that is ours and in PATH.
 */
static json_t *base_env(const struct local_lease *lease)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "PATH",
			 SANDBOX_HOME "/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME",
			 SANDBOX_HOME, "USER", SANDBOX_USER, "LOGNAME", SANDBOX_USER, "SHELL",
			 strcmp(sandbox_shell(&lease->config, ""), "bash") == 0 ? "/bin/bash" : "/bin/sh", "LANG", "C.UTF-8",
			 "TMPDIR", "/tmp", "NPM_CONFIG_PREFIX", SANDBOX_HOME "/.local");
}

/* Upstream's rules: a bad key is an error, a value that is no string is left out. */
static int check_env(const json_t *env, struct err *err)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)env, key, value) {
		if (!local_env_key_is_valid(key))
			return err_set(err, ERR_INVALID, "Invalid sandbox environment variable key: %s", key);
		if (json_is_string(value) && strlen(json_string_value(value)) != json_string_length(value))
			return err_set(err, ERR_INVALID, "Sandbox environment variable %s must not contain a null character.",
				       key);
	}
	return 0;
}

static void add_strings(json_t *to, const json_t *from)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)from, key, value) {
		if (json_is_string(value))
			json_object_set(to, key, value);
	}
}

static void list_env(const json_t *env, struct strv *ret)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)env, key, value)
		strv_addf(ret, "%s=%s", key, json_string_value(value));
}

/* --- the argument vector --- */

/* Profiles may set what the caller has set, too: the caller's word counts, so env says it again after them. */
static void add_login_arguments(const struct execute_params *p, struct strv *ret)
{
	const char *key;
	json_t *value;

	strv_add_all(ret, "env", "--", NULL);
	json_object_foreach((json_t *)(uintptr_t)p->env, key, value) {
		if (json_is_string(value))
			strv_addf(ret, "%s=%s", key, json_string_value(value));
	}
}

static void build_argv(const struct execute_params *p, const struct local_lease *lease, bool login_shell, struct strv *ret)
{
	if (login_shell || lease->config.cpu_seconds > 0) {
		cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);

		if (login_shell)
			buf_append_str(&script, LOGIN_SCRIPT);
		if (lease->config.cpu_seconds > 0)
			buf_printf(&script, "ulimit -t %lld && ", (long long)lease->config.cpu_seconds);
		buf_append_str(&script, "exec \"$@\"");
		strv_add_all(ret, sandbox_shell(&lease->config, ""), "-c", script.data, "sh", NULL);
		if (login_shell)
			add_login_arguments(p, ret);
	}
	strv_add(ret, p->command);
	for (size_t i = 0; p->args[i]; i++)
		strv_add(ret, p->args[i]);
}

/* --- the result --- */

static void say(struct op *op, const char *command, const char *text)
{
	cleanup_free char *line = xasprintf("%s: %s\n", command, text);

	output_put(op_output(op), OUTPUT_STDERR, line, strlen(line));
}

/* As a shell says it: 127 for a command that is not there, 126 for one that cannot be run. */
static int describe_failed_start(struct op *op, const struct execute_params *p, const char *cwd, const struct process_result *run,
				 struct execute_result *ret, struct err *err)
{
	if (run->start_step == PROCESS_STEP_CHDIR)
		return err_set(err, ERR_INVALID, "Working directory %s cannot be entered in the sandbox: %s.", cwd,
			       strerror(run->start_errno));
	if (run->start_step == PROCESS_STEP_FORK && run->start_errno != E2BIG)
		return err_set(err, ERR_BUSY, "The sandbox cannot start another process: %s.", strerror(run->start_errno));
	bool missing = run->start_errno == ENOENT || run->start_errno == ENOTDIR;
	ret->has_exit_code = true;
	ret->exit_code = missing ? 127 : 126;
	say(op, p->command, missing && !strchr(p->command, '/') ? "command not found" : strerror(run->start_errno));
	return 0;
}

static int describe_result(struct op *op, const struct execute_params *p, const char *cwd, const struct process_result *run,
			   struct execute_result *ret, struct err *err)
{
	ret->has_signal_key = true;
	ret->timed_out = run->timed_out;
	if (run->timed_out)
		ret->signal_name = run->outcome == PROCESS_SIGNALLED ? process_signal_name(run->term_signal) : NULL;
	else if (run->outcome == PROCESS_NOT_STARTED)
		return describe_failed_start(op, p, cwd, run, ret, err);
	else if (run->outcome == PROCESS_SIGNALLED)
		ret->signal_name = process_signal_name(run->term_signal);
	else
		ret->has_exit_code = true;
	ret->exit_code = ret->has_exit_code ? run->exit_code : 0;
	return 0;
}

/* The sandbox went away under the command: say why, as far as it is known. */
static int explain_loss(const struct local_lease *lease, struct err *err)
{
	if (!err_is(err, ERR_TRANSPORT))
		return -1;
	if (lease->gone != LEASE_PRESENT) {
		err_clear(err);
		return local_lease_gone_error(lease, err);
	}
	return err_wrap(err, "The command was lost in local sandbox " LOCAL_LEASE_SCHEME "%s", lease->record.id);
}

/* --- running --- */

static int64_t pick_timeout_ms(const struct execute_params *p, const struct local_config *config)
{
	/* Truncated first, as upstream does it; hours-long commands are normal, so only nonsense is bounded. */
	double ms = p->has_timeout && isfinite(p->timeout_ms) ? number_truncate(p->timeout_ms) : 0;

	return ms >= 1 ? (ms < 9e15 ? (int64_t)ms : (int64_t)9e15) : config->timeout_ms;
}

static int run_in_lease(struct op *op, const struct execute_params *p, const struct local_config *config,
			struct local_lease *lease, struct execute_result *ret, struct err *err)
{
	cleanup_json json_t *env = base_env(lease);
	cleanup_strv struct strv argv = {0};
	cleanup_strv struct strv envp = {0};
	struct process_result run;

	add_strings(env, config->env);
	add_strings(env, p->env);
	list_env(env, &envp);
	build_argv(p, lease, config->login_shell, &argv);
	struct process_spec spec = {
		.file = argv.items[0],
		.argv = argv.items,
		.envp = strv_list(&envp),
		.search_path = json_string_value(json_object_get(env, "PATH")),
		.cwd = str_nonempty(p->cwd) ? p->cwd : lease->config.workdir,
		.input = p->stdin_data,
		.output = op_output(op),
		.timeout_ms = pick_timeout_ms(p, config),
		.grace_ms = GRACE_MS,
		.linger_ms = LINGER_MS,
	};
	if (process_run(lease->init, &spec, &run, err) < 0)
		return explain_loss(lease, err);
	lease_record_touch(&lease->record);
	return describe_result(op, p, spec.cwd, &run, ret, err);
}

int local_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	struct local_state *state = op_state(op);
	cleanup_config struct local_config config = {0};
	cleanup_strv struct strv ignored = {0};
	struct local_lease *lease;
	int64_t began_ms = monotonic_ms();
	bool was_running;

	if (!str_nonempty(p->lease.provider_lease_id)) {
		output_put(op_output(op), OUTPUT_STDERR, NO_LEASE_TEXT, strlen(NO_LEASE_TEXT));
		ret->has_exit_code = true;
		ret->exit_code = 1;
		return 0;
	}
	if (check_env(p->env, err) < 0 || local_lease_pin(state, &p->base, p->lease.provider_lease_id, &lease, err) < 0)
		return -1;
	local_config_read(p->base.config, &config, &ignored);
	int rc = local_lease_start(state, lease, &was_running, err);
	int64_t started_ms = monotonic_ms();
	if (rc == 0)
		rc = run_in_lease(op, p, &config, lease, ret, err);
	if (rc == 0)
		ret->metadata = json_pack("{s:I, s:I, s:b}", "durationMs", (json_int_t)(monotonic_ms() - started_ms),
					  "getDurationMs", (json_int_t)(started_ms - began_ms), "cacheHit", was_running);
	local_lease_unpin(lease);
	return rc;
}

int local_run_quietly(struct local_lease *lease, char *const *argv, struct err *err)
{
	cleanup_json json_t *env = base_env(lease);
	cleanup_strv struct strv envp = {0};
	struct process_result run;

	list_env(env, &envp);
	struct process_spec spec = {
		.file = argv[0],
		.argv = argv,
		.envp = strv_list(&envp),
		.search_path = json_string_value(json_object_get(env, "PATH")),
		.cwd = "/",
	};
	if (process_run(lease->init, &spec, &run, err) < 0)
		return explain_loss(lease, err);
	if (run.timed_out)
		return err_set(err, ERR_TIMEOUT, "%s does not end", argv[0]);
	if (run.outcome == PROCESS_NOT_STARTED)
		return err_set(err, ERR_SYSTEM, "%s: %s", argv[0], strerror(run.start_errno));
	if (run.outcome != PROCESS_EXITED || run.exit_code != 0)
		return err_set(err, ERR_SYSTEM, "%s failed", argv[0]);
	return 0;
}
