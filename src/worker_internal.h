/* worker_internal: what worker, dispatch, op and host_call share. Providers do not see it. */
#ifndef WORKER_INTERNAL_H
#define WORKER_INTERNAL_H

#include "base/list.h"
#include "channel.h"
#include "fiber.h"
#include "record.h"
#include "worker.h"

#include <uv.h>

struct host_calls;

enum worker_phase { WORKER_RUNNING, WORKER_DRAINING, WORKER_DRAINED };

struct worker {
	uv_loop_t loop;
	struct scheduler *scheduler;
	const char *version;
	const struct provider *const *providers;
	void **states; /* one a provider */
	size_t provider_count;
	struct channel *channel;       /* NULL in the command line's modes */
	struct record *record;         /* NULL: nothing is recorded */
	json_t *secret_keys;           /* of all providers' configs; NULL until they are needed */
	struct host_calls *host_calls; /* requests of ours to the host */
	struct http_client *http;      /* NULL until it is needed */
	struct init *init;             /* of the worker itself; NULL until it is needed */
	bool init_starting;
	struct list init_waits;        /* of fibers that wait for it */
	struct list ops;               /* live */
	struct list backlog;           /* of them: those that wait for a fiber */
	unsigned op_count;
	unsigned long long served;     /* requests answered */
	struct event op_ended;         /* for the drain */
	struct event stop;             /* for the main fiber: time to drain */
	enum worker_phase phase;
	bool initialized;
	struct buf health; /* text of the last health answer */
	int64_t health_at_ms;
	bool signals_watched;
	int signal; /* the last one, or 0 */
	uv_signal_t sigterm, sigint;
	struct fiber *main; /* of worker_run */
	int exit_status;
	int64_t started_ms;
};

/* dispatch.c */
void dispatch_line(struct worker *w, char *line, size_t len);
void dispatch_overlong(struct worker *w, char *head, size_t len);

/* worker.c: the config keys, of all providers, that hold secrets. Borrowed. */
const json_t *worker_secret_keys(struct worker *w);

/* worker.c: begins the drain; harmless when repeated. */
void worker_stop(struct worker *w);

#endif
