/*
 * Live leases.
 *
 * A lease comes into memory when it is made or first asked for, and goes when it is released, destroyed, expired, or the worker stops. In
 * between its sandbox is started when it is needed: at once by acquire and resume, else (after a crash of the worker, or of the sandbox)
 * by the next command. Starting and ending are done by one fiber at a time (busy); the others wait and look again.
 *
 * Whoever works with a lease pins its memory. A lease that has been ended meanwhile says so in `gone`.
 */
#include "local.h"

#include "base/buf.h"
#include "base/mem.h"
#include "fs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define END_MS 6000 /* of the processes; init_stop takes 2 s at most, a group's removal less */

struct wait {
	struct list link;
	struct event event;
};

const struct cgroup_site *local_cgroup_site(struct local_state *state)
{
	cleanup_buf struct buf self = BUF_INIT(1 << 16);
	cleanup_buf struct buf mounts = BUF_INIT(1 << 22);

	if (!state->site_found) {
		state->site_found = true;
		if (fs_read_file(AT_FDCWD, "/proc/self/cgroup", &self, NULL) == 0 && self.len > 0 &&
		    fs_read_file(AT_FDCWD, "/proc/self/mountinfo", &mounts, NULL) == 0 && mounts.len > 0)
			cgroup_site_find(self.data, mounts.data, "", &state->site);
	}
	return &state->site;
}

char *local_lease_name(const struct local_lease *lease)
{
	return xasprintf(LOCAL_LEASE_SCHEME "%s", lease->record.id);
}

char *local_lease_hostname(const char *id)
{
	return xasprintf("local-%.8s", id);
}

/* --- one at a time --- */

static int lease_lock(struct local_lease *lease, struct err *err)
{
	while (lease->busy) {
		struct wait wait = {0};

		list_append(&lease->waits, &wait.link);
		int rc = event_wait(&wait.event, err);
		list_remove(&wait.link);
		if (rc < 0)
			return -1;
	}
	lease->busy = true;
	return 0;
}

static void lease_unlock(struct local_lease *lease)
{
	lease->busy = false;
	list_for_each(item, &lease->waits)
		event_set(&container_of(item, struct wait, link)->event);
}

int local_lease_gone_error(const struct local_lease *lease, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND,
		       lease->gone == LEASE_EXPIRED ? "Local sandbox lease " LOCAL_LEASE_SCHEME "%s has expired."
						    : "Local sandbox lease " LOCAL_LEASE_SCHEME "%s is no longer active.",
		       lease->record.id);
}

/* --- finding --- */

static struct local_lease *lease_alloc(void)
{
	struct local_lease *lease = xcalloc(1, sizeof *lease);

	list_init(&lease->link);
	list_init(&lease->waits);
	lease->record = LEASE_RECORD_INIT;
	lease->cgroup = CGROUP_INIT;
	lease->pins = 1;
	return lease;
}

void local_lease_unpin(struct local_lease *lease)
{
	if (!lease || --lease->pins > 0 || lease->gone == LEASE_PRESENT)
		return;
	lease_record_deinit(&lease->record);
	local_config_deinit(&lease->config);
	free(lease);
}

static char *dup_or_null(const char *text)
{
	return text ? xstrdup(text) : NULL;
}

int local_lease_create(struct local_state *state, const struct request_base *base, const struct local_config *config,
		       int64_t expires_ms, struct local_lease **ret, struct err *err)
{
	cleanup_free char *state_dir = NULL;

	if (local_state_dir(config->state_dir, &state_dir, err) < 0)
		return -1;
	local_keeper_start(state, state_dir);
	struct local_lease *lease = lease_alloc();
	lease->record.company = dup_or_null(base->company_id);
	lease->record.environment = dup_or_null(base->environment_id);
	lease->record.shape = local_config_shape(config);
	lease->record.reusable = config->reuse_lease;
	lease->record.expires_ms = expires_ms;
	if (lease_record_create(state_dir, &lease->record, err) < 0) {
		lease->gone = LEASE_ENDED;
		local_lease_unpin(lease);
		return -1;
	}
	cleanup_strv struct strv ignored = {0};
	local_config_read(lease->record.shape, &lease->config, &ignored);
	list_append(&state->leases, &lease->link);
	if (expires_ms >= 0)
		local_keeper_wake(state);
	*ret = lease;
	return 0;
}

static int not_found(const char *provider_lease_id, struct err *err)
{
	return err_set(err, ERR_NOT_FOUND, "Local sandbox lease %s no longer exists.", provider_lease_id);
}

static bool is_for(const struct lease_record *r, const struct request_base *base)
{
	return str_eq(r->company, base->company_id) && (r->expires_ms < 0 || r->expires_ms > local_now_ms());
}

static struct local_lease *find_in_memory(struct local_state *state, const char *id)
{
	list_for_each(item, &state->leases) {
		struct local_lease *lease = container_of(item, struct local_lease, link);
		if (strcmp(lease->record.id, id) == 0)
			return lease;
	}
	return NULL;
}

/* Of a worker before us. */
static int find_on_disk(struct local_state *state, const struct request_base *base, const char *provider_lease_id,
			struct local_lease **ret, struct err *err)
{
	cleanup_free char *state_dir = NULL;
	cleanup_strv struct strv ignored = {0};
	cleanup_config struct local_config config = {0};
	cleanup_err struct err e = ERR_INIT;
	struct lease_record record = LEASE_RECORD_INIT;

	local_config_read(base->config, &config, &ignored);
	if (local_state_dir(config.state_dir, &state_dir, err) < 0)
		return -1;
	local_keeper_start(state, state_dir);
	int rc = lease_record_open(state_dir, lease_id_parse(provider_lease_id), &record, &e);
	if (rc == 0 && is_for(&record, base)) {
		struct local_lease *lease = lease_alloc();
		lease->record = record;
		local_config_read(record.shape, &lease->config, &ignored);
		list_append(&state->leases, &lease->link);
		if (record.expires_ms >= 0)
			local_keeper_wake(state);
		*ret = lease;
		return 0;
	}
	lease_record_deinit(&record);
	if (rc == 0 || err_is(&e, ERR_NOT_FOUND))
		return not_found(provider_lease_id, err);
	return err_move(err, &e);
}

int local_lease_pin(struct local_state *state, const struct request_base *base, const char *provider_lease_id,
		    struct local_lease **ret, struct err *err)
{
	const char *id = lease_id_parse(provider_lease_id);

	if (!id)
		return not_found(provider_lease_id, err);
	/* From here to the list there is no wait: two fibers that ask at once find the same lease. */
	struct local_lease *lease = find_in_memory(state, id);
	if (!lease)
		return find_on_disk(state, base, provider_lease_id, ret, err);
	if (!is_for(&lease->record, base))
		return not_found(provider_lease_id, err);
	lease->pins++;
	*ret = lease;
	return 0;
}

int local_lease_remove_broken(const char *state_dir, const char *provider_lease_id, struct err *err)
{
	struct lease_record record = LEASE_RECORD_INIT;
	const char *id = lease_id_parse(provider_lease_id);
	int rc = 0;

	if (!id)
		return 0;
	(void)lease_record_open(state_dir, id, &record, NULL);
	if (record.dir_fd >= 0 && record.broken)
		rc = lease_record_remove(&record, err);
	lease_record_deinit(&record);
	return rc;
}

/* --- starting --- */

static bool is_running(const struct local_lease *lease)
{
	return lease->init && init_is_alive(lease->init);
}

int local_lease_start(struct local_state *state, struct local_lease *lease, bool *ret_was_running, struct err *err)
{
	if (lease_lock(lease, err) < 0)
		return -1;
	bool was_running = is_running(lease);
	int rc = 0;
	if (lease->gone != LEASE_PRESENT) {
		rc = local_lease_gone_error(lease, err);
	} else if (!was_running) {
		local_sandbox_stop(lease); /* what is left of one that died */
		rc = local_sandbox_start(state, lease, err);
	}
	if (rc == 0)
		lease_record_touch(&lease->record);
	lease_unlock(lease);
	if (ret_was_running)
		*ret_was_running = was_running;
	return rc;
}

int local_lease_reshape(struct local_lease *lease, const struct local_config *config, struct err *err)
{
	cleanup_json json_t *shape = local_config_shape(config);
	cleanup_strv struct strv ignored = {0};
	int rc = 0;

	if (lease_lock(lease, err) < 0)
		return -1;
	if (lease->gone != LEASE_PRESENT) {
		rc = local_lease_gone_error(lease, err);
	} else if (!json_equal(shape, lease->record.shape) || lease->record.reusable != config->reuse_lease ||
		   lease->record.archived) {
		if (!json_equal(shape, lease->record.shape))
			local_sandbox_stop(lease);
		json_decref(lease->record.shape);
		lease->record.shape = json_incref(shape);
		lease->record.reusable = config->reuse_lease;
		lease->record.archived = false;
		local_config_deinit(&lease->config);
		local_config_read(shape, &lease->config, &ignored);
		rc = lease_record_save(&lease->record, err);
	}
	lease_unlock(lease);
	return rc;
}

/* --- ending --- */

int local_lease_end(struct local_lease *lease, bool keep, enum lease_gone why, struct err *err)
{
	struct fiber_scope scope;
	int rc = 0;

	shield_enter(&scope, END_MS + SANDBOX_START_MS);
	rc = lease_lock(lease, err);
	scope_leave(&scope);
	if (rc < 0 || lease->gone != LEASE_PRESENT) {
		if (rc == 0)
			lease_unlock(lease);
		return rc;
	}
	lease->gone = why; /* commands that are lost now say so */
	shield_enter(&scope, END_MS);
	local_sandbox_stop(lease);
	scope_leave(&scope);
	if (!keep)
		rc = lease_record_remove(&lease->record, err);
	/*
	 * Out of the way, though perhaps not removed yet: nobody finds it any more. If it could not even be moved, it stays ours and can
	 * be destroyed again; only an expired one does not come back.
	 */
	if (rc == 0 || why == LEASE_EXPIRED || access(lease->record.dir, F_OK) < 0) {
		list_remove(&lease->link);
		lease->record.dir_fd = close_fd(lease->record.dir_fd);
	} else {
		lease->gone = LEASE_PRESENT;
	}
	lease_unlock(lease);
	return rc;
}
