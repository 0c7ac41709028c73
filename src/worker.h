/*
 * worker: the whole running worker. It owns the loop, the fibers, the providers' states, the channel and the live ops, and knows the
 * order in which they start and end.
 */
#ifndef WORKER_H
#define WORKER_H

#include "base/err.h"
#include "process.h"
#include "provider.h"

struct worker;

struct worker_options {
	const char *version;
	const struct provider *const *providers; /* NULL-terminated, borrowed: the registry */
	const char *record_path;                 /* every line goes there, masked; NULL: nowhere */
};

/* -1 if the recording can't be opened. One worker a process. */
int worker_create(const struct worker_options *options, struct worker **ret, struct err *err);
void worker_destroy(struct worker *w);

/*
 * The stdio worker: serves requests of in_fd on out_fd (both become the worker's) until `shutdown`, the end of input or SIGTERM;
 * cleans up; returns the exit status.
 */
int worker_serve(struct worker *w, int in_fd, int out_fd);

/*
 * Runs main(w, arg) in a fiber instead, with the same cleaning up (command line). SIGINT and SIGTERM cancel the fiber; *worker_signal
 * tells which came. Returns what main returned.
 */
int worker_run(struct worker *w, int (*main)(struct worker *w, void *arg), void *arg);
/* The signal that ended worker_run's fiber, or 0. */
int worker_signal(const struct worker *w);

const struct provider *const *worker_providers(const struct worker *w);
/* NULL: there is none with this key. *ret_state: what its create() returned. */
const struct provider *worker_provider(const struct worker *w, const char *driver_key, void **ret_state);
const char *worker_version(const struct worker *w);

#endif
