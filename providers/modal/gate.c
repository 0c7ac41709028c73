/*
 * Many commands may find at once that a token has expired: one of them fetches a new one, the others wait for it. If it cannot be had they
 * fail as the one that tried, instead of finding out one after the other.
 */
#include "modal.h"

struct wait {
	struct list link;
	struct event event;
	bool over;
	struct err err;
};

static void prepare(struct modal_gate *gate)
{
	if (!gate->waits.next)
		list_init(&gate->waits);
}

int modal_gate_enter(struct modal_gate *gate, struct err *err)
{
	struct wait wait = {0};
	int rc = 0;

	prepare(gate);
	if (!gate->busy) {
		gate->busy = true;
		return 1;
	}
	list_append(&gate->waits, &wait.link);
	while (rc == 0 && !wait.over)
		rc = event_wait(&wait.event, err);
	list_remove(&wait.link);
	if (rc == 0 && wait.err.kind != ERR_NONE)
		rc = err_move(err, &wait.err);
	err_clear(&wait.err);
	return rc;
}

void modal_gate_leave(struct modal_gate *gate, const struct err *failure)
{
	bool ours = failure && (err_is(failure, ERR_CANCELLED) || err_is(failure, ERR_TIMEOUT));

	gate->busy = false;
	list_for_each(link, &gate->waits) {
		struct wait *wait = container_of(link, struct wait, link);

		list_remove(link);
		wait->over = true;
		if (failure && !ours) {
			err_set(&wait->err, failure->kind, "%s", err_text(failure));
			wait->err.rpc_code = failure->rpc_code;
		}
		event_set(&wait->event);
	}
}
