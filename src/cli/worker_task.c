#include "cli/worker_task.h"

#include "base/mem.h"
#include "cli/cli.h"
#include "fiber.h"
#include "providers/registry.h"

#include <signal.h>
#include <unistd.h>

static const int watched_signals[] = {SIGINT, SIGTERM, SIGHUP};
#define SIGNAL_COUNT (sizeof(watched_signals) / sizeof(watched_signals[0]))

struct task {
	const struct provider *provider;
	int (*run)(struct op *op, void *arg);
	void (*on_force)(void *arg);
	void *arg;
	struct fiber *fiber;
	uv_signal_t signals[SIGNAL_COUNT];
	int signal; /* the first one that came */
};

/* There is one a process, as of the worker. */
static struct task *current;

int worker_task_signal(void)
{
	return current->signal;
}

void worker_task_cancel(void)
{
	fiber_cancel(current->fiber);
}

struct request_base worker_task_base(const struct op *op, const json_t *config)
{
	return (struct request_base){
		.driver_key = op->provider->driver_key,
		.company_id = CLI_COMPANY,
		.environment_id = CLI_ENVIRONMENT,
		.config = config,
	};
}

/* Of a person who does not want to wait for the cleaning up. What the worker's own init has started dies with us. */
static void force(struct task *task, int number)
{
	if (task->on_force)
		task->on_force(task->arg);
	_exit(CLI_SIGNALLED + number);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct task *task = handle->data;

	if (!task->signal) {
		task->signal = number;
		if (number == SIGINT && isatty(STDERR_FILENO))
			cli_error("interrupted: ending and cleaning up (Ctrl-C again: at once)");
		fiber_cancel(task->fiber);
	} else if (number != SIGHUP) { /* a terminal that closes may send it more than once */
		force(task, number);
	}
}

static int run_task(struct worker *w, void *arg)
{
	struct task *task = arg;
	void *state = NULL;

	task->fiber = fiber_self();
	for (size_t i = 0; i < SIGNAL_COUNT; i++) {
		uv_signal_init(scheduler_loop(), &task->signals[i]);
		task->signals[i].data = task;
		uv_signal_start(&task->signals[i], on_signal, watched_signals[i]);
	}
	worker_provider(w, task->provider->driver_key, &state);
	struct op *op = op_create_for(w, task->provider, state);
	int status = task->run(op, task->arg);

	op_destroy(op);
	for (size_t i = 0; i < SIGNAL_COUNT; i++)
		uv_close((uv_handle_t *)&task->signals[i], NULL);
	return status;
}

int worker_task_run(const struct provider *provider, bool verbose, int (*run)(struct op *op, void *arg),
		    void (*on_force)(void *arg), void *arg)
{
	struct worker_options options = {.version = VERSION, .providers = provider_registry};
	struct task task = {.provider = provider, .run = run, .on_force = on_force, .arg = arg};
	struct worker *w;
	cleanup_err struct err err = ERR_INIT;

	/* A reader that goes away, and a terminal of another job, are errors of the calls that meet them. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTIN, SIG_IGN);
	cli_show_log(verbose);
	if (worker_create(&options, &w, &err) < 0) {
		cli_error("%s", err_text(&err));
		return CLI_FAILED;
	}
	current = &task;
	int status = worker_run(w, run_task, &task);

	current = NULL;
	worker_destroy(w);
	return status;
}
