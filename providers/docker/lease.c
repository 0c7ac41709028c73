/* wire: docker, 3. A lease is a container; its id is the container's name. */
#include "docker.h"

#include "protocol/host_time.h"
#include "protocol/js_value.h"

#include <string.h>

#define SCRIPT_MS 20000
#define EXPIRED "The docker lease %s is no longer active."

/* --- leases that are known --- */

static struct docker_lease *pin(struct op *op, const struct docker_config *c, const struct request_base *base, const char *lease_id)
{
	struct docker_state *state = op_state(op);
	const char *const account[] = {c->place, c->http.cert_file ? c->http.cert_file : "", NULL};
	cleanup_free char *key = lease_key(base, lease_id, account);

	return lease_table_pin(&state->leases, key);
}

static void unpin(struct op *op, struct docker_lease *lease)
{
	struct docker_state *state = op_state(op);

	lease_table_unpin(&state->leases, lease);
}

static void remember(struct op *op, const struct docker_config *c, const struct request_base *base, const char *lease_id)
{
	struct docker_state *state = op_state(op);
	struct docker_lease *lease = pin(op, c, base, lease_id);

	lease->known = true;
	lease_table_keep(&state->leases, lease);
	unpin(op, lease);
}

void docker_lease_forget(struct op *op, const struct docker_config *c, const struct request_base *base, const char *lease_id)
{
	struct docker_lease *lease = pin(op, c, base, lease_id);

	lease->known = false;
	unpin(op, lease);
}

int docker_lease_check(struct op *op, const struct docker_config *c, const struct request_base *base, const char *lease_id, struct err *err)
{
	cleanup_docker_container struct docker_container container = {0};
	struct docker_lease *lease;

	if (!docker_lease_id_is_valid(lease_id))
		return err_set(err, ERR_NOT_FOUND, "\"%s\" is no lease of the docker driver.", lease_id);
	lease = pin(op, c, base, lease_id);
	bool known = lease->known && !lease->entry.ended, ended = lease->entry.ended;

	unpin(op, lease);
	if (ended)
		return err_set(err, ERR_NOT_FOUND, EXPIRED, lease_id);
	if (known)
		return 0;
	if (docker_container_inspect(op, c, lease_id, &container, err) < 0)
		return -1;
	remember(op, c, base, lease_id);
	return 0;
}

/* --- a container that is ready for commands --- */

/* $1: the workspace. Prints the shell; 3: the workspace cannot be written by this user, whose ids are printed then. */
static const char prepare[] =
	"mkdir -p \"$1\" 2>/dev/null\n"
	"[ -d \"$1\" ] && [ -w \"$1\" ] || { echo \"$(id -u):$(id -g)\"; exit 3; }\n"
	"if command -v bash >/dev/null 2>&1; then echo bash; else echo sh; fi\n";
static const char hand_over[] = "mkdir -p \"$1\" && chown \"$2\" \"$1\"\n";

static int run_script(struct op *op, const struct docker_config *c, const char *container, const char *user, const char *text,
		      const char *const *args, struct buf *out, int *ret_code, struct err *err)
{
	const struct docker_script script = {.container = container, .user = user, .text = text, .args = args, .ms = SCRIPT_MS};
	struct docker_ended ended;

	buf_reset(out);
	if (docker_exec_script(op, c, &script, out, &ended, err) < 0)
		return -1;
	if (ended.timed_out)
		return err_set(err, ERR_REMOTE, "The container %s did not run a small script within %d ms.", container, SCRIPT_MS);
	*ret_code = ended.exit_code;
	while (out->len > 0 && out->data[out->len - 1] == '\n')
		buf_truncate(out, out->len - 1);
	return 0;
}

/* Makes the workspace and finds the shell. */
static int prepare_workspace(struct op *op, const struct docker_config *c, const char *container, const char *cwd, const char **ret_shell,
			     struct err *err)
{
	cleanup_buf struct buf out = BUF_INIT(65536);
	cleanup_free char *ids = NULL;
	int code = 0;

	if (run_script(op, c, container, c->user, prepare, (const char *const[]){cwd, NULL}, &out, &code, err) < 0)
		return -1;
	if (code == 3 && c->user) {
		ids = xstrndup(out.data ? out.data : "", out.len);
		if (run_script(op, c, container, "0", hand_over, (const char *const[]){cwd, ids, NULL}, &out, &code, err) < 0 ||
		    run_script(op, c, container, c->user, prepare, (const char *const[]){cwd, NULL}, &out, &code, err) < 0)
			return -1;
	}
	if (code == 126 || code == 127)
		return err_set(err, ERR_REMOTE, "The image %s cannot be used: a sandbox needs /bin/sh in it, with mkdir.", c->image);
	if (code != 0)
		return err_set(err, ERR_REMOTE, "The workspace %s cannot be made in the container%s%s: its user may not write there.", cwd,
			       c->user ? " for user " : "", c->user ? c->user : "");
	*ret_shell = out.len == 4 && memcmp(out.data, "bash", 4) == 0 ? "bash" : "sh";
	return 0;
}

void docker_ready_deinit(struct docker_ready *r)
{
	docker_container_deinit(&r->container);
	free(r->uuid);
	*r = (struct docker_ready){0};
}

int docker_make_ready(struct op *op, const struct docker_config *c, const struct docker_purpose *purpose, struct docker_ready *ret,
		      struct err *err)
{
	cleanup_free char *image_id = NULL;
	cleanup_docker_container struct docker_container now = {0};
	cleanup_err struct err e = ERR_INIT;

	if (docker_image_ensure(op, c, purpose->image, &image_id, err) < 0 ||
	    docker_container_create(op, c, purpose, &ret->container, &ret->uuid, err) < 0)
		return -1;
	if (prepare_workspace(op, c, ret->container.name, c->workdir, &ret->shell, &e) == 0)
		return 0;
	/* One that has no shell may take a moment to end. */
	if (err_is(&e, ERR_CONFLICT) && docker_container_inspect(op, c, ret->container.name, &now, NULL) == 0 && now.status != DOCKER_RUNNING)
		docker_container_set_ended(&now, purpose->image, err);
	else
		err_move(err, &e);
	docker_container_discard(op, c, ret->container.name);
	return -1;
}

/* --- acquire, resume --- */

static json_t *metadata_of(struct op *op, const struct docker_config *c, const struct docker_container *container, const char *shell,
			   const char *cwd)
{
	struct docker_engine *engine;
	bool podman = docker_engine_find(op, c, &engine, NULL) == 0 && engine->is_podman;

	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b}", "provider", "docker", "containerId", container->id, "containerName",
			 container->name, "sandboxName", container->name, "imageId", container->image_id, "engine", podman ? "podman" : "docker",
			 "remoteCwd", cwd, "shellCommand", shell, "reuseLease", c->reuse_lease);
}

static char *expiry_text(int64_t expires_ms)
{
	char text[ISO_TIME_BYTES];

	return expires_ms >= 0 ? xstrdup(iso_time_format(expires_ms / 1000 * 1000, text)) : NULL;
}

int docker_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	cleanup_docker_ready struct docker_ready r = {0};

	if (docker_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	const struct docker_purpose purpose = {.base = &p->base, .image = c.image, .expires_ms = p->requested_expires_unix_ms};

	if (docker_make_ready(op, &c, &purpose, &r, err) < 0)
		return -1;
	if (docker_container_hand_out(op, &c, &r.container, r.uuid, err) < 0) {
		docker_container_discard(op, &c, r.container.id);
		return -1;
	}
	ret->provider_lease_id = xstrdup(r.container.name);
	ret->expires_at = expiry_text(p->requested_expires_unix_ms);
	ret->metadata = metadata_of(op, &c, &r.container, r.shell, c.workdir);
	remember(op, &c, &p->base, r.container.name);
	return 0;
}

static int report_gone(struct lease_result *ret)
{
	ret->metadata = json_pack("{s:s, s:b}", "provider", "docker", "expired", true);
	return 0;
}

int docker_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	cleanup_docker_container struct docker_container container = {0};
	cleanup_err struct err e = ERR_INIT;
	const char *shell;

	if (!str_nonempty(p->provider_lease_id))
		return err_set(err, ERR_INVALID, "providerLeaseId is missing: there is no lease to resume");
	if (!docker_lease_id_is_valid(p->provider_lease_id))
		return report_gone(ret);
	if (docker_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	if (docker_container_inspect(op, &c, p->provider_lease_id, &container, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? report_gone(ret) : err_move(err, &e);
	if (docker_time_is_over(container.labels))
		return docker_container_remove(op, &c, container.name, err) < 0 ? -1 : report_gone(ret);
	if (docker_container_ensure_running(op, &c, &container, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? report_gone(ret) : err_move(err, &e);
	const char *cwd = str_nonempty(container.remote_cwd) ? container.remote_cwd : c.workdir;

	if (prepare_workspace(op, &c, container.name, cwd, &shell, err) < 0)
		return -1;
	const char *expires = json_string_value(json_object_get(container.labels, DOCKER_LABEL_EXPIRES));

	ret->provider_lease_id = xstrdup(container.name);
	ret->expires_at = expires ? xstrdup(expires) : NULL;
	ret->metadata = metadata_of(op, &c, &container, shell, cwd);
	remember(op, &c, &p->base, container.name);
	return 0;
}

/* --- release, destroy --- */

static int end_lease(struct op *op, const struct lease_params *p, bool keep, enum lease_end *ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	cleanup_docker_container struct docker_container container = {0};
	cleanup_err struct err e = ERR_INIT;
	const char *id = p->provider_lease_id;
	struct docker_state *state = op_state(op);

	if (!str_nonempty(id))
		return 0;
	/* Nothing of ours has another name; the host may hold a lease of another driver's for one of this. */
	if (!docker_lease_id_is_valid(id)) {
		*ret = LEASE_DESTROYED;
		return 0;
	}
	if (docker_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	bool stop = keep && c.reuse_lease;
	struct docker_lease *lease = pin(op, &c, &p->base, id);

	lease_table_end(&state->leases, lease);
	int rc = docker_container_inspect(op, &c, id, &container, &e);

	*ret = LEASE_DESTROYED;
	if (rc < 0 && err_is(&e, ERR_NOT_FOUND))
		rc = 0;
	else if (rc == 0 && stop) {
		*ret = LEASE_STOPPED;
		if (container.status == DOCKER_PAUSED)
			rc = docker_container_ensure_running(op, &c, &container, &e);
		if (rc == 0)
			rc = docker_container_stop(op, &c, id, &e);
	} else if (rc == 0) {
		rc = docker_container_remove(op, &c, id, &e);
	}
	unpin(op, lease);
	return rc < 0 ? err_move(err, &e) : 0;
}

int docker_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, /* keep= */ true, ret, err);
}

int docker_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	return end_lease(op, p, /* keep= */ false, ret, err);
}

/* --- realize --- */

int docker_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	char *path = js_trimmed(json_object_get(p->lease.metadata, "remoteCwd"));
	const char *id = p->lease.provider_lease_id, *shell;
	int rc = docker_config_read(op, p->base.config, &c, err);

	if (!path)
		path = xstrdup(p->remote_path ? p->remote_path : rc == 0 ? c.workdir : "/workspace");
	if (rc == 0 && str_nonempty(id))
		rc = docker_lease_check(op, &c, &p->base, id, err) < 0 ? -1 : prepare_workspace(op, &c, id, path, &shell, err);
	if (rc < 0) {
		free(path);
		return -1;
	}
	ret->metadata = json_pack("{s:s, s:s}", "provider", "docker", "remoteCwd", path);
	ret->cwd = path;
	return 0;
}
