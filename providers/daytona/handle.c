/*
 * What is kept of a lease between calls, so that a command costs one request. Handles are never shared between companies or accounts:
 * all of it is in the key.
 */
#include "daytona.h"

#include "protocol/digest.h"

#include <string.h>

#define GONE_MAX 1000 /* so many leases that have ended are remembered */

static char *key_of(const struct daytona_config *c, const struct request_base *base, const char *lease_id)
{
	char fingerprint[SHA256_HEX_SIZE];

	sha256_hex(c->api_key, strlen(c->api_key), fingerprint);
	return xasprintf("%s\n%s\n%s\n%s\n%s\n%s", base->company_id ? base->company_id : "",
			 base->environment_id ? base->environment_id : "", lease_id, c->api_url, c->target ? c->target : "",
			 fingerprint);
}

static struct daytona_handle *find(struct daytona_state *state, const char *key)
{
	list_for_each(item, &state->handles) {
		struct daytona_handle *handle = container_of(item, struct daytona_handle, link);
		if (strcmp(handle->key, key) == 0)
			return handle;
	}
	return NULL;
}

static void destroy(struct daytona_handle *handle)
{
	list_remove(&handle->link);
	daytona_sandbox_deinit(&handle->sandbox);
	free(handle->key);
	free(handle->session);
	free(handle);
}

static struct daytona_handle *make(struct daytona_state *state, char *key)
{
	struct daytona_handle *handle = xcalloc(1, sizeof *handle);

	handle->key = key;
	list_init(&handle->session_waits);
	list_append(&state->handles, &handle->link);
	return handle;
}

static void touch(struct daytona_handle *handle)
{
	handle->touched_ms = loop_now_ms();
}

/* The service stops what nobody uses: after half of that time it is not taken for granted. */
static bool is_old(const struct daytona_handle *handle, const struct daytona_config *c)
{
	double half_ms = c->intervals[DAYTONA_STOP] * 60000 / 2;

	return half_ms > 0 && (double)(loop_now_ms() - handle->touched_ms) >= half_ms;
}

static int set_gone(const char *lease_id, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "Daytona sandbox lease %s is no longer active.", lease_id);
}

static int refresh(struct op *op, const struct daytona_config *c, struct daytona_handle *handle, const char *lease_id,
		   struct err *err)
{
	bool known = handle->sandbox.state && strcmp(handle->sandbox.state, "started") == 0;

	if ((!known || is_old(handle, c)) && daytona_sandbox_get(op, c, lease_id, &handle->sandbox, err) < 0)
		return -1;
	if (daytona_sandbox_ensure_started(op, c, &handle->sandbox, err) < 0)
		return -1;
	if (handle->gone)
		return set_gone(lease_id, err);
	touch(handle);
	return 0;
}

int daytona_handle_pin(struct op *op, const struct daytona_config *c, const struct request_base *base, const char *lease_id,
		       struct daytona_handle **ret, struct err *err)
{
	struct daytona_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, lease_id);
	struct daytona_handle *handle = find(state, key);

	if (handle && handle->gone)
		return set_gone(lease_id, err);
	if (!handle)
		handle = make(state, steal(&key));
	handle->pins++;
	if (refresh(op, c, handle, lease_id, err) < 0) {
		/* What is wrong with it is looked up again the next time. */
		if (handle->sandbox.state)
			handle->sandbox.state[0] = '\0';
		daytona_handle_unpin(state, handle);
		return -1;
	}
	*ret = handle;
	return 0;
}

void daytona_handle_unpin(struct daytona_state *state, struct daytona_handle *handle)
{
	handle->pins--;
	/* One that was never seen is nobody's. */
	if (handle->pins == 0 && !handle->gone && !handle->sandbox.id)
		destroy(handle);
}

void daytona_handle_put(struct op *op, const struct daytona_config *c, const struct request_base *base, struct daytona_sandbox *s)
{
	struct daytona_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, s->id);
	struct daytona_handle *handle = find(state, key);

	if (!handle)
		handle = make(state, steal(&key));
	if (handle->gone) {
		handle->gone = false;
		state->gone_count--;
	}
	daytona_sandbox_deinit(&handle->sandbox);
	handle->sandbox = *s;
	*s = (struct daytona_sandbox){0};
	touch(handle);
}

static void forget_oldest_gone(struct daytona_state *state)
{
	list_for_each(item, &state->handles) {
		struct daytona_handle *handle = container_of(item, struct daytona_handle, link);
		if (state->gone_count <= GONE_MAX)
			return;
		if (handle->gone && handle->pins == 0) {
			destroy(handle);
			state->gone_count--;
		}
	}
}

char *daytona_handle_end(struct op *op, const struct daytona_config *c, const struct request_base *base, const char *lease_id)
{
	struct daytona_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, lease_id);
	struct daytona_handle *handle = find(state, key);

	if (!handle)
		handle = make(state, steal(&key));
	if (!handle->gone) {
		handle->gone = true;
		state->gone_count++;
	}
	char *session = steal(&handle->session);
	forget_oldest_gone(state);
	return session;
}

void daytona_handle_forget_all(struct daytona_state *state)
{
	list_for_each(item, &state->handles)
		destroy(container_of(item, struct daytona_handle, link));
}
