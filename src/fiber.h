/*
 * fiber: stackful coroutines on one libuv loop.
 *
 * Every request runs in a fiber, and code that waits reads like code that does not. A function that may wait says so
 * ("waits") and is called from fibers only. While a fiber waits, the loop runs; callbacks set an `event`, and the fiber
 * goes on from the loop, never from inside the callback.
 *
 * A wait ends in one of four ways: the event is set (0), the fiber is cancelled (-1, ERR_CANCELLED), the deadline of the
 * present scope passes (-1, ERR_TIMEOUT), or - fiber_sleep only - the time is over (0). Once cancelled, or past its
 * deadline, each further wait fails at once, so that a fiber runs to its end without special cases; what has to be cleaned
 * up with I/O does so inside a shield.
 *
 * Stacks are 256 KiB of address space with a guard page, touched lazily and pooled: keep big arrays and deep recursion off
 * them. One thread, no locks.
 */
#ifndef FIBER_H
#define FIBER_H

#include "base/err.h"
#include "base/list.h"

#include <stdint.h>
#include <uv.h>

struct fiber;
struct scheduler;

/* The loop's scheduler; one a loop. destroy: all fibers must have ended. */
struct scheduler *scheduler_create(uv_loop_t *loop);
void scheduler_destroy(struct scheduler *s);
/* The one that the running fiber (or the loop callback) belongs to: there is one a process. */
uv_loop_t *scheduler_loop(void);
/* Milliseconds on the loop's monotonic clock, fresh at each loop turn. */
int64_t loop_now_ms(void);
/* Fibers that have been started and not ended. */
unsigned fiber_count(void);

/* --- one-shot wake-up, on which at most one fiber waits at a time --- */

/* Zeroed is "not set". Set before the wait is fine: the wait then returns at once (without a turn of the loop) and clears it. */
struct event {
	struct fiber *waiter;
	bool set;
};

/* From a loop callback or a fiber. Setting twice is setting once. */
void event_set(struct event *event);
/* Waits. Returns 0 with the event cleared, or -1 as above (the event is then unwatched). */
int event_wait(struct event *event, struct err *err);
/* Waits until the event or until ms have passed, whichever is first: 0 and *ret_set says which. ms < 0: no limit. */
int event_wait_for(struct event *event, int64_t ms, bool *ret_set, struct err *err);

/* Waits for the time to pass. 0, or -1 if cancelled or past the deadline. */
int fiber_sleep(int64_t ms, struct err *err);
/* Lets other fibers and the loop run once. 0 or -1 as above. */
int fiber_yield(struct err *err);

/* --- scopes: deadlines and shields nest, and are left in reverse order --- */

#define DEADLINE_NONE INT64_MAX

struct fiber_scope {
	int64_t deadline_ms; /* of the enclosing scope */
	bool shielded;
};

/* From here to the leave, waits fail with ERR_TIMEOUT once ms have passed, or the outer deadline if that is earlier. */
void deadline_enter(struct fiber_scope *scope, int64_t ms);
/* From here to the leave, cancellation and outer deadlines do not end waits; only ms does (ERR_TIMEOUT). */
void shield_enter(struct fiber_scope *scope, int64_t ms);
void scope_leave(struct fiber_scope *scope);
/* Milliseconds to the present deadline (0 if passed, INT64_MAX if none). */
int64_t deadline_left_ms(void);

/* --- starting, cancelling, joining --- */

typedef void fiber_fn(void *arg);

/*
 * Starts fn(arg) in a fiber of its own, which belongs to nobody: the caller of last resort (the worker's ops) uses it.
 * It runs at the loop's next turn, with no deadline.
 */
struct fiber *fiber_start(fiber_fn *fn, void *arg);
/* The running fiber; NULL in loop callbacks and main. */
struct fiber *fiber_self(void);
/* The present wait (and each later one outside shields) fails with ERR_CANCELLED. Harmless when repeated. */
void fiber_cancel(struct fiber *fiber);
bool fiber_is_cancelled(void);

/*
 * Structured concurrency: the children of a group end before the function that started them does.
 * A child inherits the starter's deadline, shield and cancellation.
 *
 *	struct fiber_group group;
 *	fiber_group_init(&group);
 *	fiber_group_start(&group, read_stdout, &ctx);
 *	fiber_group_start(&group, read_stderr, &ctx);
 *	fiber_group_join(&group);
 */
struct fiber_group {
	struct list children; /* of fibers */
	struct event emptied;
};

void fiber_group_init(struct fiber_group *group);
void fiber_group_start(struct fiber_group *group, fiber_fn *fn, void *arg);
void fiber_group_cancel(struct fiber_group *group);
/*
 * Waits until all have ended. When the joining fiber is cancelled or its deadline passes, the children are cancelled and
 * still waited for: returns -1 then, after they have ended.
 */
int fiber_group_join(struct fiber_group *group, struct err *err);

#endif
