#include "process.h"

#include "init_client.h"
#include "process_io.h"
#include "process_limit.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#define KILL_MS 2000 /* that a tree may take to end after SIGKILL: what sleeps in the kernel is not waited for */

struct run {
	struct init *init;
	const struct process_spec *spec;
	struct init_command command;
	struct process_io *io;
	struct event changed;    /* of the command or the io */
	int64_t linger_until_ms; /* once the command has exited */
};

static bool lacks_descriptors(const struct err *err)
{
	return err->sys_errno == EMFILE || err->sys_errno == ENFILE;
}

/* Has the command started; on failure nothing of it is left. */
static int run_try_start(struct run *run, struct err *err)
{
	const struct process_spec *spec = run->spec;
	size_t taken = spec->input ? spec->input->taken : 0;
	int stdio[3];
	int error = process_io_open(spec->input, spec->output, &run->changed, stdio, &run->io);

	if (error)
		return err_set_errno(err, error, "make pipes");
	run->command = (struct init_command){.changed = &run->changed};
	if (init_spawn(run->init, spec, stdio, &run->command, err) == 0) {
		process_io_take_place(run->io);
		process_io_set_taker(run->io, spec->on_output, spec->on_output_arg);
		return 0;
	}
	process_io_close(run->io);
	if (spec->input)
		spec->input->taken = taken;
	return -1;
}

/* Gets a place in line, then descriptors. Where others hold those, it waits for others to end. */
static int run_start(struct run *run, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	if (process_limit_take(err) < 0)
		return -1;
	while (run_try_start(run, &e) < 0) {
		if (!lacks_descriptors(&e) || process_limit_wait(err) < 0) {
			process_limit_give();
			return err_move(err, &e);
		}
		err_clear(&e);
	}
	return 0;
}

/* Nothing more is to be waited for. */
static bool run_is_over(struct run *run)
{
	const struct init_command *command = &run->command;
	int64_t linger_ms = run->spec->linger_ms;

	if (command->failed)
		return true;
	if (!command->exited)
		return false;
	if (process_io_at_end(run->io) || command->lost)
		return true;
	if (linger_ms < 0)
		return false;
	if (run->linger_until_ms == 0)
		run->linger_until_ms = loop_now_ms() + linger_ms;
	return run->linger_until_ms <= loop_now_ms();
}

static int64_t wait_ms(const struct run *run)
{
	return run->linger_until_ms ? run->linger_until_ms - loop_now_ms() : -1;
}

/* Moves bytes until the run is over. -1: timeout, cancellation or a lost command. */
static int run_follow(struct run *run, struct err *err)
{
	const struct init_command *command = &run->command;
	bool set;

	for (;;) {
		/* What the command printed before it ended is in the pipes by then, even if they were not reported readable yet. */
		bool exited = command->exited;

		if (process_io_pump(run->io, exited ? PROCESS_IO_ALL : PROCESS_IO_READY, err) < 0)
			return -1;
		if (exited == command->exited && run_is_over(run))
			return 0;
		if (command->lost && !command->exited)
			return err_set(err, ERR_TRANSPORT,
				       init_is_alive(run->init) ? "the command has killed the process that watches it"
								: "the init that runs the command has ended");
		if (event_wait_for(&run->changed, wait_ms(run), &set, err) < 0)
			return -1;
	}
}

/* Keeps what is printed meanwhile. */
static void wait_for_tree(struct run *run, int64_t ms)
{
	const struct init_command *command = &run->command;
	int64_t until_ms = loop_now_ms() + ms;
	bool set = true;

	while (!command->ended && !command->lost && set) {
		process_io_pump(run->io, PROCESS_IO_REST, NULL);
		if (event_wait_for(&run->changed, until_ms > loop_now_ms() ? until_ms - loop_now_ms() : 0, &set, NULL) < 0)
			return;
	}
}

/* Ends the command's tree, though the fiber is cancelled or past its deadline. */
static void run_end(struct run *run)
{
	int64_t grace_ms = run->spec->grace_ms > 0 ? run->spec->grace_ms : 0;
	struct fiber_scope scope;

	shield_enter(&scope, grace_ms + KILL_MS);
	if (grace_ms) {
		init_signal(&run->command, SIGTERM);
		wait_for_tree(run, grace_ms);
	}
	if (!run->command.ended) {
		init_signal(&run->command, SIGKILL);
		wait_for_tree(run, KILL_MS);
	}
	process_io_pump(run->io, PROCESS_IO_REST, NULL);
	scope_leave(&scope);
}

static void describe_end(const struct run *run, struct process_result *ret)
{
	const struct init_command *command = &run->command;

	if (command->failed) {
		ret->outcome = PROCESS_NOT_STARTED;
		ret->start_errno = command->start_errno;
		ret->start_step = command->start_step;
	} else if (command->exited && WIFEXITED(command->wait_status)) {
		ret->outcome = PROCESS_EXITED;
		ret->exit_code = WEXITSTATUS(command->wait_status);
	} else {
		/* Not exited: it was sent SIGKILL, though the news has not come. */
		ret->outcome = PROCESS_SIGNALLED;
		ret->term_signal = command->exited ? WTERMSIG(command->wait_status) : SIGKILL;
	}
}

static int run_to_its_end(struct run *run, struct process_result *ret, struct err *err)
{
	const struct process_spec *spec = run->spec;
	struct fiber_scope scope;

	deadline_enter(&scope, spec->timeout_ms > 0 ? spec->timeout_ms : DEADLINE_NONE);
	int rc = run_follow(run, err);

	scope_leave(&scope);
	if (rc < 0 && (err_is(err, ERR_TIMEOUT) || err_is(err, ERR_CANCELLED)))
		run_end(run);
	init_forget(&run->command);
	if (rc < 0) {
		process_io_close(run->io);
		if (!err_is(err, ERR_TIMEOUT))
			return -1;
		ret->timed_out = true;
	} else {
		process_io_drop(run->io, run->init);
	}
	describe_end(run, ret);
	return 0;
}

int process_run(struct init *init, const struct process_spec *spec, struct process_result *ret, struct err *err)
{
	struct run run = {.init = init_hold(init), .spec = spec};
	cleanup_err struct err e = ERR_INIT;

	*ret = (struct process_result){.outcome = PROCESS_NOT_STARTED};
	int rc = run_start(&run, &e);

	if (rc == 0)
		rc = run_to_its_end(&run, ret, &e);
	else if (err_is(&e, ERR_TIMEOUT))
		ret->timed_out = true;
	init_release(init);
	return rc < 0 && !ret->timed_out ? err_move(err, &e) : 0;
}

const char *process_signal_name(int number)
{
#define NAME(signal) [signal] = #signal
	static const char *const names[] = {
		NAME(SIGHUP),  NAME(SIGINT),    NAME(SIGQUIT), NAME(SIGILL),  NAME(SIGTRAP),   NAME(SIGABRT), NAME(SIGBUS),
		NAME(SIGFPE),  NAME(SIGKILL),   NAME(SIGUSR1), NAME(SIGSEGV), NAME(SIGUSR2),   NAME(SIGPIPE), NAME(SIGALRM),
		NAME(SIGTERM), NAME(SIGSTKFLT), NAME(SIGCHLD), NAME(SIGCONT), NAME(SIGSTOP),   NAME(SIGTSTP), NAME(SIGTTIN),
		NAME(SIGTTOU), NAME(SIGURG),    NAME(SIGXCPU), NAME(SIGXFSZ), NAME(SIGVTALRM), NAME(SIGPROF), NAME(SIGWINCH),
		NAME(SIGIO),   NAME(SIGPWR),    NAME(SIGSYS),
	};
#undef NAME
	return number > 0 && (size_t)number < sizeof(names) / sizeof(names[0]) ? names[number] : NULL;
}
