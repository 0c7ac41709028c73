/* What is kept of a lease between calls, so that a command costs one request (lease_table.h). */
#include "daytona.h"

#include <string.h>

struct wait {
	struct list link;
	struct event event;
};

int daytona_handle_wait(struct daytona_handle *handle, struct err *err)
{
	struct wait wait = {0};

	list_append(&handle->waits, &wait.link);
	int rc = event_wait(&wait.event, err);
	list_remove(&wait.link);
	return rc;
}

void daytona_handle_wake(struct daytona_handle *handle)
{
	list_for_each(item, &handle->waits)
		event_set(&container_of(item, struct wait, link)->event);
}

static void deinit(void *lease)
{
	struct daytona_handle *handle = lease;

	daytona_sandbox_deinit(&handle->sandbox);
	free(handle->session);
}

void daytona_state_init(struct daytona_state *state)
{
	lease_table_init(&state->leases, sizeof(struct daytona_handle), deinit);
}

void daytona_state_deinit(struct daytona_state *state)
{
	lease_table_deinit(&state->leases);
}

static struct daytona_handle *pin(struct daytona_state *state, const struct daytona_config *c, const struct request_base *base,
				  const char *lease_id)
{
	const char *const account[] = {c->api_url, c->target ? c->target : "", c->api_key, NULL};
	cleanup_free char *key = lease_key(base, lease_id, account);
	struct daytona_handle *handle = lease_table_pin(&state->leases, key);

	if (!handle->waits.next)
		list_init(&handle->waits);
	return handle;
}

/* The service stops what nobody uses: after half of that time it is not taken for granted. */
static bool is_old(const struct daytona_handle *handle, const struct daytona_config *c)
{
	double half_ms = c->intervals[DAYTONA_STOP] * 60000 / 2;

	return half_ms > 0 && (double)(loop_now_ms() - handle->entry.touched_ms) >= half_ms;
}

static int look(struct op *op, const struct daytona_config *c, struct daytona_handle *handle, const char *lease_id,
		struct err *err)
{
	bool known = handle->entry.kept && strcmp(handle->sandbox.state, "started") == 0;

	if ((!known || is_old(handle, c)) && daytona_sandbox_get(op, c, lease_id, &handle->sandbox, err) < 0)
		return -1;
	return daytona_sandbox_ensure_started(op, c, &handle->sandbox, err);
}

/* One look serves all calls that wait for it. */
static int refresh(struct op *op, const struct daytona_config *c, struct daytona_handle *handle, const char *lease_id,
		   struct err *err)
{
	while (handle->looking || handle->teardowns > 0) {
		if (daytona_handle_wait(handle, err) < 0)
			return -1;
	}
	if (!handle->entry.ended) {
		handle->looking = true;
		int rc = look(op, c, handle, lease_id, err);
		handle->looking = false;
		daytona_handle_wake(handle);
		if (rc < 0) {
			/* What is wrong with it is looked up again the next time. */
			if (handle->sandbox.state)
				handle->sandbox.state[0] = '\0';
			return -1;
		}
	}
	if (handle->entry.ended)
		return err_set(err, ERR_NOT_FOUND, "Daytona sandbox lease %s is no longer active.", lease_id);
	lease_table_keep(&((struct daytona_state *)op_state(op))->leases, handle);
	return 0;
}

int daytona_handle_pin(struct op *op, const struct daytona_config *c, const struct request_base *base, const char *lease_id,
		       struct daytona_handle **ret, struct err *err)
{
	struct daytona_handle *handle = pin(op_state(op), c, base, lease_id);

	if (refresh(op, c, handle, lease_id, err) < 0) {
		daytona_handle_unpin(op, handle);
		return -1;
	}
	*ret = handle;
	return 0;
}

void daytona_handle_unpin(struct op *op, struct daytona_handle *handle)
{
	struct daytona_state *state = op_state(op);

	lease_entry_touch(&handle->entry);
	lease_table_unpin(&state->leases, handle);
}

void daytona_handle_put(struct op *op, const struct daytona_config *c, const struct request_base *base, struct daytona_sandbox *s)
{
	struct daytona_state *state = op_state(op);
	struct daytona_handle *handle = pin(state, c, base, s->id);

	daytona_sandbox_deinit(&handle->sandbox);
	handle->sandbox = *s;
	*s = (struct daytona_sandbox){0};
	lease_table_keep(&state->leases, handle);
	lease_table_unpin(&state->leases, handle);
}

struct daytona_handle *daytona_handle_begin_end(struct op *op, const struct daytona_config *c, const struct request_base *base,
						const char *lease_id)
{
	struct daytona_state *state = op_state(op);
	struct daytona_handle *handle = pin(state, c, base, lease_id);

	lease_table_end(&state->leases, handle);
	handle->teardowns++;
	return handle;
}

void daytona_handle_finish_end(struct op *op, struct daytona_handle *handle)
{
	struct daytona_state *state = op_state(op);

	handle->teardowns--;
	daytona_handle_wake(handle);
	lease_table_unpin(&state->leases, handle);
}

int daytona_handle_await_end(struct op *op, const struct daytona_config *c, const struct request_base *base, const char *lease_id,
			     struct err *err)
{
	struct daytona_state *state = op_state(op);
	struct daytona_handle *handle = pin(state, c, base, lease_id);
	int rc = 0;

	while (rc == 0 && handle->teardowns > 0)
		rc = daytona_handle_wait(handle, err);
	lease_table_unpin(&state->leases, handle);
	return rc;
}
