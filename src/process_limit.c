#include "process_limit.h"

#include "base/list.h"
#include "fiber.h"

/* Three pipes and a supervisor's socket, before the other side has got its ends. */
#define FDS_A_COMMAND 8

struct waiter {
	struct list link;
	struct event granted;
	bool has_place;
};

static unsigned in_use;
static struct list waiters = LIST_INIT(waiters);

/* A quarter of the descriptors is left to all else. */
static rlim_t places(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < 4 * FDS_A_COMMAND)
		return 1;
	return (limit.rlim_cur - limit.rlim_cur / 4) / FDS_A_COMMAND;
}

const struct rlimit *process_limit_raise(void)
{
	static struct rlimit original;
	static bool raised;

	if (!raised && getrlimit(RLIMIT_NOFILE, &original) == 0) {
		struct rlimit most = {.rlim_cur = original.rlim_max, .rlim_max = original.rlim_max};

		setrlimit(RLIMIT_NOFILE, &most);
		raised = true;
	}
	return &original;
}

static int wait_for_place(struct waiter *waiter, struct err *err)
{
	if (event_wait(&waiter->granted, err) == 0)
		return 0;
	list_remove(&waiter->link);
	if (waiter->has_place)
		process_limit_give();
	return -1;
}

int process_limit_take(struct err *err)
{
	struct waiter waiter = {.link = LIST_INIT(waiter.link)};

	if (list_empty(&waiters) && in_use < places()) {
		in_use++;
		waiter.has_place = true;
		event_set(&waiter.granted);
	} else {
		list_append(&waiters, &waiter.link);
	}
	return wait_for_place(&waiter, err);
}

void process_limit_give(void)
{
	struct list *item = list_pop(&waiters);

	if (!item) {
		in_use--;
		return;
	}
	struct waiter *waiter = container_of(item, struct waiter, link);

	waiter->has_place = true;
	event_set(&waiter->granted);
}

int process_limit_wait(struct err *err)
{
	struct waiter waiter = {.link = LIST_INIT(waiter.link)};

	if (in_use <= 1)
		return err_set(err, ERR_BUSY, "too many open files");
	list_append(waiters.next, &waiter.link); /* at the head: it was its turn already */
	if (wait_for_place(&waiter, err) < 0)
		return -1;
	in_use--; /* two places are one too many */
	return 0;
}
