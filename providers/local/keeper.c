/*
 * What has to happen without being asked for: leases end when their time is over, and directories that nobody uses any more go.
 *
 * Two fibers, since a sweep may remove big trees while an end must be on time. They are started when a state directory is first used.
 */
#include "local.h"

#include "log.h"

#define SWEEP_EACH_MS (60 * 60 * 1000)
/* The end of a sandbox takes a moment, too, and has to be over at the time that was promised. */
#define EXPIRY_MARGIN_MS 200
/* The machine's clock may be set: leases end by it, the wait goes by another one. */
#define LOOK_EACH_MS 30000

static void end_expired(struct local_lease *lease)
{
	cleanup_err struct err err = ERR_INIT;

	lease->pins++;
	log_write(LOG_LEVEL_INFO, NULL, "local: lease " LOCAL_LEASE_SCHEME "%s has expired and is removed", lease->record.id);
	if (local_lease_end(lease, false, LEASE_EXPIRED, &err) < 0 && !err_is(&err, ERR_CANCELLED))
		log_write(LOG_LEVEL_WARN, NULL, "local: expired lease " LOCAL_LEASE_SCHEME "%s cannot be removed: %s",
			  lease->record.id, err_text(&err));
	local_lease_unpin(lease);
}

/* The lease that ends first; NULL: none ends. */
static struct local_lease *next_to_expire(const struct local_state *state)
{
	struct local_lease *next = NULL;

	list_for_each(item, &state->leases) {
		struct local_lease *lease = container_of(item, struct local_lease, link);
		if (lease->record.expires_ms >= 0 && (!next || lease->record.expires_ms < next->record.expires_ms))
			next = lease;
	}
	return next;
}

static int64_t min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void sweep(void *arg)
{
	struct local_state *state = arg;

	for (size_t i = 0; i < state->state_dirs.count && !fiber_is_cancelled(); i++)
		local_state_sweep(state->state_dirs.items[i], local_cgroup_site(state));
	state->sweeper = NULL;
	event_set(&state->fiber_ended);
}

static void sweep_start(struct local_state *state)
{
	state->swept_ms = loop_now_ms();
	if (!state->sweeper && !state->stopping)
		state->sweeper = fiber_start(sweep, state);
}

static void keep(void *arg)
{
	struct local_state *state = arg;
	bool set;

	while (!state->stopping) {
		struct local_lease *next = next_to_expire(state);
		int64_t left_ms = next ? next->record.expires_ms - EXPIRY_MARGIN_MS - local_now_ms() : LOOK_EACH_MS;

		if (left_ms <= 0) {
			end_expired(next);
			continue;
		}
		if (loop_now_ms() - state->swept_ms > SWEEP_EACH_MS)
			sweep_start(state);
		if (event_wait_for(&state->keeper_wake, min64(left_ms, LOOK_EACH_MS), &set, NULL) < 0)
			break;
	}
	state->keeper = NULL;
	event_set(&state->fiber_ended);
}

void local_keeper_start(struct local_state *state, const char *state_dir)
{
	if (state->stopping)
		return;
	for (size_t i = 0; i < state->state_dirs.count; i++) {
		if (str_eq(state->state_dirs.items[i], state_dir))
			return;
	}
	strv_add(&state->state_dirs, state_dir);
	sweep_start(state);
	if (!state->keeper)
		state->keeper = fiber_start(keep, state);
}

void local_keeper_wake(struct local_state *state)
{
	event_set(&state->keeper_wake);
}

void local_keeper_stop(struct local_state *state)
{
	state->stopping = true;
	if (state->keeper)
		fiber_cancel(state->keeper);
	if (state->sweeper)
		fiber_cancel(state->sweeper);
	while (state->keeper || state->sweeper) {
		if (event_wait(&state->fiber_ended, NULL) < 0)
			return;
	}
}
