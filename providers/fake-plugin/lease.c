/* wire: fake-plugin, Leases. */
#include "fake.h"

#include "base/mem.h"
#include "base/random.h"
#include "fs.h"
#include "log.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEASE_SCHEME "fake-plugin://"

struct fake_lease {
	struct list link;
	char *company; /* owned; NULL: the host named none */
	char *id;      /* owned */
	struct fake_root root;
	/* of the lease's creation, not of the present call */
	json_t *image; /* owned */
	bool reuse_lease;
};

static void lease_destroy(struct fake_lease *lease)
{
	list_remove(&lease->link);
	free(lease->company);
	free(lease->id);
	fake_root_deinit(&lease->root);
	json_decref(lease->image);
	free(lease);
}

static struct fake_lease *lease_find(struct fake_state *state, const char *company, const char *id)
{
	if (!id)
		return NULL;
	list_for_each(item, &state->leases) {
		struct fake_lease *lease = container_of(item, struct fake_lease, link);
		if (str_eq(lease->id, id) && str_eq(lease->company, company))
			return lease;
	}
	return NULL;
}

static struct fake_lease *lease_make(struct fake_state *state, const struct request_base *base, const char *id, struct err *err)
{
	struct fake_root root = FAKE_ROOT_INIT;
	cleanup_config struct fake_config config = {0};

	fake_sweep_start(state);
	if (fake_root_make(&root, err) < 0)
		return NULL;
	fake_config_parse(base->config, &config);
	struct fake_lease *lease = xmalloc(sizeof *lease);
	*lease = (struct fake_lease){
		.company = base->company_id ? xstrdup(base->company_id) : NULL,
		.id = xstrdup(id),
		.root = root,
		.image = json_incref(config.image),
		.reuse_lease = config.reuse_lease,
	};
	list_append(&state->leases, &lease->link);
	return lease;
}

/* Takes the lease of that id over, or makes it. There is no wait in here: two requests cannot both make it. */
static int lease_answer(struct op *op, const struct request_base *base, const char *id, bool is_resume, struct lease_result *ret,
			struct err *err)
{
	struct fake_state *state = op_state(op);
	struct fake_lease *lease = lease_find(state, base->company_id, id);
	bool resumed = is_resume || lease;

	if (!lease && !(lease = lease_make(state, base, id, err)))
		return -1;
	cleanup_free char *cwd = xasprintf("%s/workspace", lease->root.path);
	ret->provider_lease_id = xstrdup(id);
	ret->metadata = json_pack("{s:s, s:O, s:b, s:s, s:s, s:b}", "provider", FAKE_PROVIDER_NAME, "image", lease->image,
				  "reuseLease", lease->reuse_lease, "remoteCwd", cwd, "fakeRootDir", lease->root.path,
				  "resumedLease", resumed);
	return 0;
}

static bool reuses_lease(const struct request_base *base)
{
	cleanup_config struct fake_config config = {0};

	fake_config_parse(base->config, &config);
	return config.reuse_lease;
}

int fake_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err)
{
	bool reuse = reuses_lease(&p->base);
	cleanup_free char *uuid = random_uuid();
	cleanup_free char *id = NULL;

	if (reuse && !p->base.environment_id)
		return err_set(err, ERR_INVALID,
			       "environmentId is missing: a lease that is reused is named after its environment");
	if (!reuse && !p->run_id)
		return err_set(err, ERR_INVALID, "runId is missing: a lease is named after its run");
	id = reuse ? xasprintf(LEASE_SCHEME "%s", p->base.environment_id) : xasprintf(LEASE_SCHEME "%s/%s", p->run_id, uuid);
	return lease_answer(op, &p->base, id, /* is_resume= */ false, ret, err);
}

int fake_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err)
{
	if (!p->provider_lease_id)
		return err_set(err, ERR_INVALID, "providerLeaseId is missing: there is no lease to resume");
	return lease_answer(op, &p->base, p->provider_lease_id, /* is_resume= */ true, ret, err);
}

/*
 * The removal waits. Meanwhile the lease is out of the list, so that nobody takes it over; if it fails, it goes back, so that the
 * host can try again.
 */
static int lease_remove(struct fake_state *state, struct fake_lease *lease, struct err *err)
{
	list_remove(&lease->link);
	if (fake_root_remove(&lease->root, err) < 0) {
		list_append(&state->leases, &lease->link);
		return -1;
	}
	lease_destroy(lease);
	return 0;
}

int fake_lease_remove(struct fake_state *state, const char *company, const char *id, struct err *err)
{
	struct fake_lease *lease;

	/* More than one has the id if a removal failed and the id was taken again meanwhile. */
	while ((lease = lease_find(state, company, id))) {
		if (lease_remove(state, lease, err) < 0)
			return -1;
	}
	return 0;
}

/* The host wants proof only where it asked for the end of active work; else the answer is null. */
static enum lease_end proof(const struct lease_params *p, enum lease_end end)
{
	return p->cancel_active_work && str_nonempty(p->provider_lease_id) ? end : LEASE_UNPROVEN;
}

int fake_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	if (reuses_lease(&p->base)) {
		*ret = proof(p, LEASE_STOPPED);
		return 0;
	}
	return fake_destroy_lease(op, p, ret, err);
}

int fake_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	if (fake_lease_remove(op_state(op), p->base.company_id, p->provider_lease_id, err) < 0)
		return -1;
	*ret = proof(p, LEASE_DESTROYED);
	return 0;
}

void fake_lease_remove_all(struct fake_state *state)
{
	list_for_each(item, &state->leases) {
		struct fake_lease *lease = container_of(item, struct fake_lease, link);
		cleanup_err struct err err = ERR_INIT;

		if (fake_root_remove(&lease->root, &err) < 0)
			log_write(LOG_LEVEL_WARN, NULL, "fake-plugin: %s of lease %s is left behind: %s", lease->root.path,
				  lease->id, err_text(&err));
		else
			lease_destroy(lease);
	}
	/* Another worker may be using it, too: what is in there is not ours alone. */
	if (state->common_workspace)
		(void)rmdir(state->common_workspace);
}

void fake_lease_forget_all(struct fake_state *state)
{
	list_for_each(item, &state->leases)
		lease_destroy(container_of(item, struct fake_lease, link));
	free(state->common_workspace);
	state->common_workspace = NULL;
}

/* The string member; NULL with 0: there is none; -1: it cannot be a path. */
static int path_member(const json_t *object, const char *key, const char **ret, struct err *err)
{
	const json_t *value = json_object_get(object, key);
	const char *text = json_string_value(value);

	if (text && strlen(text) != json_string_length(value))
		return fake_null_byte_error(err, "argument 'path'", text, json_string_length(value));
	*ret = text;
	return 0;
}

/* The first of these that there is, be it "": the lease's own directory, what the lease or the workspace says. NULL: none. */
static int workspace_path(struct op *op, const struct realize_params *p, char **ret, struct err *err)
{
	struct fake_lease *lease = lease_find(op_state(op), p->base.company_id, p->lease.provider_lease_id);
	const char *path = NULL;

	if (lease) {
		*ret = xasprintf("%s/workspace", lease->root.path);
		return 0;
	}
	if (path_member(p->lease.metadata, "remoteCwd", &path, err) < 0)
		return -1;
	if (!path && path_member(p->workspace, "remotePath", &path, err) < 0)
		return -1;
	if (!path && path_member(p->workspace, "localPath", &path, err) < 0)
		return -1;
	*ret = path ? xstrdup(path) : NULL;
	return 0;
}

/* The directory for those who name none: it is the same for all workers. */
static char *common_workspace(struct fake_state *state)
{
	cleanup_free char *temp = fake_temp_dir();
	cleanup_free char *path = xasprintf("%s/paperclip-fake-sandbox-workspace", temp);

	if (!state->common_workspace && mkdir(path, 0777) == 0)
		state->common_workspace = xstrdup(path);
	return steal(&path);
}

static int make_workspace(const char *path, struct err *err)
{
	cleanup_err struct err cause = ERR_INIT;

	if (fs_make_dirs(path, 0777, &cause) == 0)
		return 0;
	/* As Node tells a file in the directory's own place from one in the place of a parent. */
	bool file_in_place = cause.sys_errno == ENOTDIR && access(path, F_OK) == 0;
	return fake_fs_error(err, file_in_place ? EEXIST : cause.sys_errno, "mkdir", path);
}

int fake_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err)
{
	cleanup_free char *cwd = NULL;

	if (workspace_path(op, p, &cwd, err) < 0)
		return -1;
	if (!cwd)
		cwd = common_workspace(op_state(op));
	if (make_workspace(cwd, err) < 0)
		return -1;
	ret->metadata = json_pack("{s:s, s:s}", "provider", FAKE_PROVIDER_NAME, "remoteCwd", cwd);
	ret->cwd = steal(&cwd);
	return 0;
}
