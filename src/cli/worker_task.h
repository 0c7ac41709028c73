/* worker_task: what `run`, `probe` and `reap` share: a worker of their own in this process, and an op that speaks for the person. */
#ifndef CLI_WORKER_TASK_H
#define CLI_WORKER_TASK_H

#include "op_internal.h"
#include "worker.h"

/* Whose the sandboxes of the command line are: a company and an environment that no host has. */
#define CLI_COMPANY "command-line"
#define CLI_ENVIRONMENT "command-line"

/*
 * Runs task(op, arg) in a fiber of a worker, with an op of the provider. SIGINT, SIGTERM and SIGHUP cancel it; a further SIGINT or
 * SIGTERM ends the process at once, after on_force (NULL: nothing) has said what is left behind. Returns what task returned, or
 * CLI_FAILED.
 */
int worker_task_run(const struct provider *provider, bool verbose, int (*task)(struct op *op, void *arg),
		    void (*on_force)(void *arg), void *arg);
/* The signal that cancelled the task; 0: none did. */
int worker_task_signal(void);
/* Cancels the task as a signal does (another part of it has failed). */
void worker_task_cancel(void);

/* The common parameters of the provider's operations. */
struct request_base worker_task_base(const struct op *op, const json_t *config);

#endif
