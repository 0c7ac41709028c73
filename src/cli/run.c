/*
 * run: acquire (or resume), realize, execute, release, as the host does it, for one command of a person.
 *
 * The path: the config is checked before anything is made; from the acquired lease on, every way out (the command's end, its time
 * limit, a signal, stdout's reader gone, an error) leads through end_lease, which is shielded. A second Ctrl-C exits without it.
 *
 * What is kept is decided by options alone, so that nothing stays behind by accident: reuseLease of the config is what --keep and
 * --reuse say. To a driver, release with reuseLease means "keep it for later", without it "dispose of it" (host contract, "Reuse").
 */
#include "cli/cli.h"
#include "cli/config_input.h"
#include "cli/duration.h"
#include "cli/live_output.h"
#include "cli/worker_task.h"

#include "base/mem.h"
#include "input.h"
#include "protocol/host_time.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define END_LEASE_MS 60000
/* Longer than any command: where a person sets no limit, there is none (host contract: the longest that the host asks for). */
#define NO_LIMIT_MS INT32_MAX

struct run {
	const struct cli_command *self;
	struct config_input input;
	const struct provider *provider;
	json_t *config;    /* owned, normalised */
	const char *reuse; /* lease to resume; NULL: a new one */
	bool keep, destroy, verbose;
	bool has_timeout;
	int64_t timeout_ms;
	const char *cwd;
	json_t *env;    /* owned object */
	char **command; /* NULL-terminated; empty: none */

	struct lease_result lease; /* id NULL: there is none to end */
	struct live_output *live;
	int broken; /* errno of a stdout that can't be written */
};

/* --- the command --- */

static void on_broken(void *arg, int number)
{
	struct run *run = arg;

	run->broken = number;
	worker_task_cancel();
}

struct stdin_state {
	int own;    /* owned; -1: fd 0 itself is used */
	int flags;  /* of fd 0, to be set again */
	bool is_empty;
};

/*
 * A terminal is passed on as well: what is typed reaches the command line by line, Ctrl-D ends it. Nothing reads from the terminal of
 * another job: that would stop us.
 */
static void stdin_open(struct stdin_state *state, struct input *input)
{
	*state = (struct stdin_state){.own = -1, .flags = fcntl(STDIN_FILENO, F_GETFL)};
	state->is_empty = isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) != getpgrp();
	if (!state->is_empty)
		state->own = descriptor_of_our_own(STDIN_FILENO, O_RDONLY);
	*input = INPUT_FROM_FD(state->own >= 0 ? state->own : STDIN_FILENO);
}

static void stdin_close(const struct stdin_state *state)
{
	if (state->own >= 0)
		close(state->own);
	else if (state->flags >= 0)
		fcntl(STDIN_FILENO, F_SETFL, state->flags);
}

static int signal_number(const char *name)
{
	for (int number = 1; number < NSIG; number++) {
		const char *known = process_signal_name(number);

		if (known && strcmp(known, name) == 0)
			return number;
	}
	return 0;
}

static int status_of(const struct run *run, const struct execute_result *result)
{
	int number = result->signal_name ? signal_number(result->signal_name) : 0;

	if (result->timed_out) {
		if (run->has_timeout)
			cli_error("the command was ended at its time limit (%g s)", (double)run->timeout_ms / 1000);
		else
			cli_error("the command was ended at its time limit (the config's timeoutMs)");
		return CLI_TIMED_OUT;
	}
	if (result->has_exit_code)
		return result->exit_code & 0xff;
	if (number)
		return CLI_SIGNALLED + number;
	cli_error("the command's end is not known");
	return CLI_RUN_FAILED;
}

/* The status for a failed step, which it tells about unless the person wanted it so. */
static int fail(const struct run *run, const char *step, const struct err *err)
{
	if (worker_task_signal())
		return CLI_SIGNALLED + worker_task_signal();
	if (run->broken == EPIPE)
		return CLI_SIGNALLED + SIGPIPE;
	if (run->broken)
		cli_error("write to stdout: %s", strerror(run->broken));
	else
		cli_error("%s%s%s", step, *step ? ": " : "", err_text(err));
	return CLI_RUN_FAILED;
}

static int execute(struct op *op, struct run *run, const char *cwd, struct execute_result *result, struct err *err)
{
	struct stdin_state state;
	struct input input;
	struct execute_params params = {
		.base = worker_task_base(op, run->config),
		.lease = {run->lease.provider_lease_id, run->lease.metadata, run->lease.expires_at},
		.command = run->command[0],
		.args = run->command + 1,
		.cwd = cwd,
		.env = run->env,
		.has_timeout = run->has_timeout || !config_input_has(&run->input, "timeoutMs"),
		.timeout_ms = run->has_timeout && run->timeout_ms > 0 ? (double)run->timeout_ms : NO_LIMIT_MS,
	};
	struct output_sink sink = live_output_sink(run->live);

	stdin_open(&state, &input);
	params.stdin_data = state.is_empty ? NULL : &input;
	op->output = output_create(&sink);
	int rc = op->provider->execute(op, &params, result, err);

	output_finish(op->output);
	stdin_close(&state);
	return rc;
}

static int run_command(struct op *op, struct run *run, const char *cwd)
{
	struct execute_result result = {0};
	cleanup_err struct err err = ERR_INIT;

	run->live = live_output_create(on_broken, run);
	int rc = execute(op, run, cwd, &result, &err);

	live_output_finish(run->live, rc < 0);
	bool cut = rc == 0 && (run->broken || (worker_task_signal() && fiber_is_cancelled()));
	int status = rc < 0 || cut ? fail(run, "", &err) : status_of(run, &result);

	live_output_destroy(run->live);
	execute_result_deinit(&result);
	return status;
}

/* --- the lease --- */

static int64_t deadline_of(const struct run *run, enum host_timeout rule)
{
	cleanup_json json_t *params = json_pack("{s:O}", "config", run->config);

	return host_deadline_ms(rule, params);
}

static int acquire(struct op *op, struct run *run, struct err *err)
{
	cleanup_free char *run_id = NULL;
	uint64_t random = 0;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return err_set_errno(err, errno, "random number");
	run_id = xasprintf("run-%016llx", (unsigned long long)random);
	struct acquire_params params = {
		.base = worker_task_base(op, run->config), .run_id = run_id, .requested_expires_unix_ms = -1};

	return op->provider->acquire_lease(op, &params, &run->lease, err);
}

static int resume(struct op *op, struct run *run, struct err *err)
{
	struct lease_params params = {
		.base = worker_task_base(op, run->config), .provider_lease_id = run->reuse, .is_named_by_person = true};

	if (op->provider->resume_lease(op, &params, &run->lease, err) < 0)
		return -1;
	if (!str_nonempty(run->lease.provider_lease_id))
		return err_set(err, ERR_NOT_FOUND, "there is no sandbox %s (any more); without --reuse you get a new one", run->reuse);
	return 0;
}

static int get_lease(struct op *op, struct run *run)
{
	struct fiber_scope scope;
	cleanup_err struct err err = ERR_INIT;

	deadline_enter(&scope, deadline_of(run, run->reuse ? HOST_TIMEOUT_RESUME : HOST_TIMEOUT_CONFIG));
	int rc = run->reuse ? resume(op, run, &err) : acquire(op, run, &err);

	scope_leave(&scope);
	return rc < 0 ? fail(run, run->reuse ? "resume the sandbox" : "get a sandbox", &err) : CLI_OK;
}

/* The directory in which commands start, as the host chooses it: what realize says, else what the lease says. New string. */
static int realize(struct op *op, struct run *run, char **ret_cwd)
{
	struct realize_params params = {
		.base = worker_task_base(op, run->config),
		.lease = {run->lease.provider_lease_id, run->lease.metadata, run->lease.expires_at},
	};
	cleanup_json json_t *workspace = json_object();
	const char *remote_cwd = json_string_value(json_object_get(run->lease.metadata, "remoteCwd"));
	struct realize_result result = {0};
	struct fiber_scope scope;
	cleanup_err struct err err = ERR_INIT;

	*ret_cwd = remote_cwd ? xstrdup(remote_cwd) : NULL;
	if (!op->provider->realize_workspace)
		return CLI_OK;
	params.workspace = workspace;
	deadline_enter(&scope, deadline_of(run, HOST_TIMEOUT_CONFIG));
	int rc = op->provider->realize_workspace(op, &params, &result, &err);

	scope_leave(&scope);
	if (rc == 0 && result.cwd) {
		free(*ret_cwd);
		*ret_cwd = steal(&result.cwd);
	}
	realize_result_deinit(&result);
	return rc < 0 ? fail(run, "prepare the sandbox", &err) : CLI_OK;
}

static void tell_kept(const struct run *run, const char *id)
{
	cleanup_free char *words = config_input_words(&run->input, run->provider), *quoted = shell_word(id);

	fprintf(stderr,
		"Kept the sandbox %s\n"
		"  use it again: " CLI_PROGRAM " run %s --reuse %s -- COMMAND\n"
		"  remove it:    " CLI_PROGRAM " run %s --reuse %s --destroy\n",
		id, words, quoted, words, quoted);
}

/* Shielded: whatever happened before, the lease ends, or is kept if that was asked for. */
static int end_lease(struct op *op, struct run *run, int status)
{
	struct lease_params params = {
		.base = worker_task_base(op, run->config),
		.provider_lease_id = run->lease.provider_lease_id,
		.lease_metadata = run->lease.metadata,
		.cancel_active_work = true,
	};
	const char *id = params.provider_lease_id;
	bool keeps = (run->keep || run->reuse) && !run->destroy;
	enum lease_end end = LEASE_UNPROVEN;
	struct fiber_scope scope;
	cleanup_err struct err err = ERR_INIT;

	shield_enter(&scope, END_LEASE_MS);
	int rc = keeps || !op->provider->destroy_lease ? op->provider->release_lease(op, &params, &end, &err)
						       : op->provider->destroy_lease(op, &params, &end, &err);

	scope_leave(&scope);
	if (rc < 0) {
		cli_error("the sandbox %s could not be %s: %s", id, keeps ? "released; it may still be running" : "removed and may be left",
			  err_text(&err));
		return status == CLI_OK ? CLI_RUN_FAILED : status;
	}
	if (keeps && !run->reuse)
		tell_kept(run, id);
	return status;
}

static int run_task(struct op *op, void *arg)
{
	struct run *run = arg;
	cleanup_free char *cwd = NULL;
	int status = CLI_OK;

	if (run->destroy && !run->command[0])
		run->lease.provider_lease_id = xstrdup(run->reuse);
	else
		status = get_lease(op, run);
	if (status == CLI_OK && run->command[0])
		status = realize(op, run, &cwd);
	if (status == CLI_OK && run->command[0])
		status = run_command(op, run, run->cwd ? run->cwd : cwd);
	if (str_nonempty(run->lease.provider_lease_id))
		status = end_lease(op, run, status);
	return status;
}

static void on_force(void *arg)
{
	const struct run *run = arg;

	if (str_nonempty(run->lease.provider_lease_id))
		cli_error("exited without cleaning up; the sandbox %s may be left", run->lease.provider_lease_id);
}

/* --- arguments --- */

/* K=V, or K: our own variable's value. */
static int add_env(struct run *run, const char *word, struct err *err)
{
	size_t n = strcspn(word, "=");
	cleanup_free char *key = xstrndup(word, n);
	const char *value = word[n] ? word + n + 1 : getenv(key);
	json_t *text, *name;

	if (n == 0)
		return err_set(err, ERR_INVALID, "--env takes NAME=VALUE or NAME, not \"%s\"", word);
	if (!value)
		return err_set(err, ERR_INVALID, "--env %s: the environment has no such variable", key);
	if (cli_json_string(key, "--env: the name", &name, err) < 0)
		return -1;
	json_decref(name);
	if (cli_json_string(value, "--env: the value", &text, err) < 0)
		return -1;
	json_object_set_new(run->env, key, text);
	return 0;
}

static int take_option(struct run *run, int letter, const char *value, struct err *err)
{
	if (config_input_option(&run->input, letter, value))
		return 0;
	switch (letter) {
	case 'r':
		run->reuse = value;
		return str_nonempty(value) ? 0 : err_set(err, ERR_INVALID, "--reuse needs a lease's id");
	case 'k':
		run->keep = true;
		return 0;
	case 'D':
		run->destroy = true;
		return 0;
	case 't':
		run->has_timeout = true;
		if (duration_parse(value, &run->timeout_ms))
			return 0;
		return err_set(err, ERR_INVALID, "--timeout takes a time such as 90s, 5m, 1.5h or 250ms (at most 24 days), not \"%s\"",
			       value);
	case 'w':
		run->cwd = value;
		return 0;
	case 'e':
		return add_env(run, value, err);
	default:
		run->verbose = true;
		return 0;
	}
}

/* Checks what the options say together. */
static int check_options(const struct run *run)
{
	const struct provider *p = run->provider;
	bool needs_reuse = run->keep || run->reuse;

	if (!p->acquire_lease || !p->execute || !p->release_lease)
		return cli_usage_error(run->self, "%s can't run commands", p->driver_key);
	if (needs_reuse && (!p->resume_lease || p->leases_end_with_worker))
		return cli_usage_error(run->self, "%s can't keep a sandbox after the worker's end: --keep and --reuse are not for it",
				       p->driver_key);
	return CLI_OK;
}

static int parse(struct run *run, int argc, char **argv)
{
	static const struct option options[] = {
		CONFIG_INPUT_OPTIONS,
		{"reuse", required_argument, NULL, 'r'},
		{"keep", no_argument, NULL, 'k'},
		{"destroy", no_argument, NULL, 'D'},
		{"timeout", required_argument, NULL, 't'},
		{"cwd", required_argument, NULL, 'w'},
		{"env", required_argument, NULL, 'e'},
		{"verbose", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	cleanup_err struct err err = ERR_INIT;
	int c;

	while ((c = cli_next_option(run->self, argc, argv, "+:" CONFIG_INPUT_LETTERS "t:w:e:vh", options)) != -1) {
		if (c == '?')
			return CLI_USAGE;
		if (c == 'h')
			return -1;
		if (take_option(run, c, optarg, &err) < 0)
			return cli_usage_error(run->self, "%s", err_text(&err));
	}
	run->command = argv + optind;
	if (run->keep && run->destroy)
		return cli_usage_error(run->self, "--keep and --destroy contradict each other");
	if (run->destroy && !run->reuse)
		return cli_usage_error(run->self, "--destroy goes with --reuse: without it the sandbox is removed anyway");
	if (!run->command[0] && !run->destroy)
		return cli_usage_error(run->self, "run needs a command, after --");
	if (run->command[0] && !*run->command[0])
		return cli_usage_error(run->self, "the command is an empty word");
	cleanup_json json_t *forced = json_pack("{s:b}", "reuseLease", run->keep || run->reuse);

	if (config_input_read(&run->input, run->self, forced, &run->provider, &run->config) != CLI_OK)
		return CLI_USAGE;
	return check_options(run);
}

static int run_main(const struct cli_command *self, int argc, char **argv)
{
	struct run run = {.self = self, .env = json_object()};
	int status = parse(&run, argc, argv);

	if (status < 0) {
		cli_print_help(self, stdout);
		status = cli_finish_stdout(CLI_OK);
	} else if (status == CLI_OK) {
		status = worker_task_run(run.provider, run.verbose, run_task, on_force, &run);
	}
	lease_result_deinit(&run.lease);
	json_decref(run.config);
	json_decref(run.env);
	config_input_deinit(&run.input);
	return status;
}

const struct cli_command cli_run = {
	.name = "run",
	.summary = "run one command in a sandbox",
	.help = "Usage: " CLI_PROGRAM " run --driver D [OPTION…] -- COMMAND [ARGUMENT…]\n"
		"       " CLI_PROGRAM " run --driver D [OPTION…] --reuse ID --destroy\n"
		"\n"
		"Gets a sandbox, runs the command in it and removes the sandbox. What the command prints appears while it runs, on the\n"
		"stream where the command printed it; stdin goes to the command. Ctrl-C ends the command and removes the sandbox, a\n"
		"second one exits at once.\n"
		"\n"
		"Options\n"
		CONFIG_INPUT_HELP
		"  --timeout D       end the command after this time (90s, 5m, 1.5h, 250ms; 0: never). Without it the config's\n"
		"                    timeoutMs counts, if you gave one; else there is no limit\n"
		"  -w, --cwd DIR     the directory in the sandbox where the command starts\n"
		"  -e, --env K=V     a variable for the command; --env K passes ours on\n"
		"  --keep            keep the sandbox and tell its id\n"
		"  --reuse ID        use a sandbox that was kept, and keep it again\n"
		"  --destroy         with --reuse: remove that sandbox, after the command if there is one\n"
		"  -v, --verbose     show the driver's log as well\n"
		"\n"
		"Exit status: the command's own; 128+N if signal N ended it or us (130: Ctrl-C); 124 at the time limit; 125 if it could\n"
		"not be run or the sandbox not be removed; 2 for wrong arguments or a wrong config.\n"
		"\n"
		"Examples\n"
		"  " CLI_PROGRAM " run --driver local -- sh -c 'id; ls -la'\n"
		"  " CLI_PROGRAM " run --driver local -c network=none -c memoryMb=512 --timeout 5m -- make test\n"
		"  " CLI_PROGRAM " run --driver local -c 'binds=[{\"source\":\"/srv/data\"}]' -- ls /srv/data\n"
		"  " CLI_PROGRAM " run --driver local --keep -- sh -c 'echo hello > note'\n"
		"  " CLI_PROGRAM " run --driver local --reuse ID -- cat note\n",
	.main = run_main,
};
