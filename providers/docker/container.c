/* wire: docker, 2 and 3. */
#include "docker.h"

#include "base/random.h"
#include "protocol/host_time.h"
#include "protocol/url.h"

#include <string.h>
#include <time.h>

#define NAME_PREFIX "paperclip-"
#define UUID_LENGTH 36
#define STOP_SECONDS 5
#define REMOVE_MS 20000
#define CREATE_MS 120000 /* engines with slow disks copy the image's root */
#define REMOVED_LOOK_MS 200
#define REQUESTS_MAX 2
#define LATE_LOOKS 2 /* for a container whose making may still be under way */
#define LATE_LOOK_MS 1000

/*
 * The keeper is the container's first process (below the engine's init): it does nothing, until it is told to end, or the container's time
 * is over ($2, Unix seconds; 0: never), or nobody has used it for $1 seconds (0: never). It is used while anything else runs in it, or
 * anything was started meanwhile, which the kernel's last pid tells.
 */
static const char keeper[] =
	"trap 'exit 0' TERM INT\n"
	"idle=$1; end=$2; quiet=0\n"
	"tick=$((idle/10)); [ $tick -gt 30 ] && tick=30; [ $tick -lt 1 ] && tick=1\n"
	"while :; do\n"
	"  step=3600; [ $idle -gt 0 ] && step=$tick\n"
	"  if [ $end -gt 0 ]; then\n"
	"    left=$((end-$(date +%s))); [ $left -le 0 ] && exit 11\n"
	"    [ $left -lt $step ] && step=$left\n"
	"  fi\n"
	"  if [ $idle -gt 0 ]; then read -r a b c d before </proc/loadavg; fi\n"
	"  sleep $step & wait $!\n"
	"  if [ $idle -gt 0 ]; then\n"
	"    read -r a b c d after </proc/loadavg; set -- /proc/[0-9]*\n"
	"    if [ $# -gt 2 ] || { [ $after != $before ] && [ $after != $((before+1)) ]; }; then quiet=0; else quiet=$((quiet+step)); fi\n"
	"    [ $quiet -ge $idle ] && exit 10\n"
	"  fi\n"
	"done\n";

int64_t docker_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool docker_time_is_over(const json_t *labels)
{
	const char *text = json_string_value(json_object_get(labels, DOCKER_LABEL_EXPIRES));
	int64_t expires_ms = text ? iso_time_parse(text) : -1;

	return expires_ms >= 0 && expires_ms <= docker_now_ms();
}

bool docker_lease_id_is_valid(const char *lease_id)
{
	const char *uuid = lease_id + strlen(NAME_PREFIX);

	return str_starts_with(lease_id, NAME_PREFIX) && strlen(uuid) == UUID_LENGTH && uuid[strspn(uuid, "0123456789abcdef-")] == '\0';
}

void docker_container_deinit(struct docker_container *container)
{
	if (!container)
		return;
	free(container->id);
	free(container->name);
	free(container->image_id);
	free(container->status_text);
	free(container->runtime);
	free(container->remote_cwd);
	json_decref(container->labels);
	*container = (struct docker_container){0};
}

/* --- the body of a create --- */

static void set_text(json_t *object, const char *key, const char *text)
{
	if (str_nonempty(text))
		json_object_set_new(object, key, json_string(text));
}

static json_t *labels_of(struct op *op, const struct docker_config *c, const struct docker_purpose *purpose, const char *uuid)
{
	const struct docker_state *state = op_state(op);
	json_t *labels = json_copy(c->labels);
	char text[ISO_TIME_BYTES];

	json_object_set_new(labels, DOCKER_LABEL, json_string("1"));
	json_object_set_new(labels, DOCKER_LABEL_WORKER, json_string(state->owner));
	json_object_set_new(labels, DOCKER_LABEL_LEASE, json_string(uuid));
	set_text(labels, DOCKER_LABEL_ENVIRONMENT, purpose->base->environment_id);
	set_text(labels, DOCKER_LABEL_COMPANY, purpose->base->company_id);
	if (purpose->expires_ms >= 0)
		set_text(labels, DOCKER_LABEL_EXPIRES, iso_time_format(purpose->expires_ms, text));
	return labels;
}

static json_t *mounts_of(const struct docker_config *c)
{
	json_t *list = json_array();
	const json_t *mount;
	size_t i;

	json_array_foreach(c->mounts, i, mount)
		json_array_append_new(list, json_pack("{s:s, s:O, s:O, s:b}", "Type", "bind", "Source", json_object_get(mount, "source"), "Target",
						      json_object_get(mount, "target"), "ReadOnly",
						      !json_is_true(json_object_get(mount, "writable"))));
	/* A workspace that can be written and stays when the container is stopped. */
	if (c->read_only_root)
		json_array_append_new(list, json_pack("{s:s, s:s, s:b}", "Type", "volume", "Target", c->workdir, "ReadOnly", false));
	return list;
}

static json_t *tmpfs_of(const struct docker_config *c)
{
	static const char *const paths[] = {"/tmp", "/var/tmp", "/run"};
	json_t *tmpfs = json_object();

	for (size_t i = 0; c->read_only_root && i < sizeof paths / sizeof paths[0]; i++)
		json_object_set_new(tmpfs, paths[i], json_string("rw,nosuid,nodev,exec,mode=1777"));
	return tmpfs;
}

static json_t *host_config_of(const struct docker_config *c)
{
	json_t *security = json_array();
	json_t *host = json_pack("{s:b, s:O, s:O, s:o, s:b, s:o, s:o, s:{s:s}, s:b, s:b, s:{s:s}, s:s}", "Init", true, "CapDrop", c->cap_drop,
				 "CapAdd", c->cap_add, "SecurityOpt", security, "ReadonlyRootfs", c->read_only_root, "Tmpfs", tmpfs_of(c),
				 "Mounts", mounts_of(c), "RestartPolicy", "Name", "no", "AutoRemove", false, "Privileged", false, "LogConfig",
				 "Type", "none", "IpcMode", "private");

	if (c->no_new_privileges)
		json_array_append_new(security, json_string("no-new-privileges"));
	set_text(host, "NetworkMode", c->network);
	set_text(host, "Runtime", c->runtime);
	if (c->pids_limit > 0)
		json_object_set_new(host, "PidsLimit", json_integer((json_int_t)c->pids_limit));
	if (c->memory_mb > 0) {
		json_object_set_new(host, "Memory", json_integer((json_int_t)c->memory_mb << 20));
		json_object_set_new(host, "MemorySwap", json_integer((json_int_t)c->memory_mb << 20));
	}
	if (c->cpus > 0)
		json_object_set_new(host, "NanoCpus", json_integer((json_int_t)(c->cpus * 1e9)));
	return host;
}

static json_t *body_of(struct op *op, const struct docker_config *c, const struct docker_purpose *purpose, const char *uuid)
{
	double idle_ms = purpose->keep_running ? 0 : c->idle_timeout_ms;
	json_t *env = json_array(), *value;
	const char *key;
	json_t *body = json_pack("{s:s, s:[s, s], s:[s, s, o, o], s:s, s:o, s:i, s:s, s:o, s:o}", "Image", purpose->image, "Entrypoint", "/bin/sh",
				 "-c", "Cmd", keeper, "paperclip-keeper", json_sprintf("%lld", (long long)((idle_ms + 999) / 1000)),
				 json_sprintf("%lld", (long long)(purpose->expires_ms >= 0 ? purpose->expires_ms / 1000 : 0)), "WorkingDir",
				 c->workdir, "Env", env, "StopTimeout", STOP_SECONDS, "StopSignal", "SIGTERM", "Labels",
				 labels_of(op, c, purpose, uuid), "HostConfig", host_config_of(c));

	set_text(body, "User", c->user);
	json_object_foreach(c->env, key, value)
		json_array_append_new(env, json_sprintf("%s=%s", key, json_string_value(value)));
	return body;
}

/* --- one request each --- */

static int post(struct op *op, const struct docker_config *c, const char *name, const char *what, int64_t ms, struct err *err)
{
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_free char *path = xasprintf("/containers/%s/%s", name, what);
	struct docker_call call = {.method = "POST", .path = path, .deadline_ms = ms, .repeat = HTTP_REPEAT_IDEMPOTENT};

	return docker_perform(op, c, &call, &answer, err);
}

static enum docker_status status_of(const char *text)
{
	if (strcmp(text, "running") == 0 || strcmp(text, "restarting") == 0)
		return DOCKER_RUNNING;
	if (strcmp(text, "paused") == 0)
		return DOCKER_PAUSED;
	if (strcmp(text, "removing") == 0 || strcmp(text, "dead") == 0 || strcmp(text, "stopping") == 0)
		return DOCKER_ENDING;
	return DOCKER_STOPPED;
}

static char *copied(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return xstrdup(text ? text : "");
}

static int take_inspection(const struct docker_config *c, const json_t *json, struct docker_container *ret, struct err *err)
{
	const json_t *config = json_object_get(json, "Config"), *state = json_object_get(json, "State");
	json_t *labels = json_object_get(config, "Labels");
	const char *status = json_string_value(json_object_get(state, "Status")), *name = json_string_value(json_object_get(json, "Name"));

	if (!status || !name)
		return err_set(err, ERR_PROTOCOL, "The engine at %s describes a container without its name or state.", c->place);
	*ret = (struct docker_container){
		.id = copied(json, "Id"),
		.name = xstrdup(*name == '/' ? name + 1 : name),
		.image_id = copied(json, "Image"),
		.status = status_of(status),
		.status_text = xstrdup(status),
		.exit_code = (int)json_integer_value(json_object_get(state, "ExitCode")),
		.runtime = copied(json_object_get(json, "HostConfig"), "Runtime"),
		.remote_cwd = copied(config, "WorkingDir"),
		.labels = json_is_object(labels) ? json_incref(labels) : json_object(),
	};
	return 0;
}

int docker_container_inspect(struct op *op, const struct docker_config *c, const char *name, struct docker_container *ret, struct err *err)
{
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_free char *path = xasprintf("/containers/%s/json", name);
	struct docker_call call = {.method = "GET", .path = path, .repeat = HTTP_REPEAT_IDEMPOTENT};

	if (docker_perform(op, c, &call, &answer, err) < 0 || take_inspection(c, answer.json, ret, err) < 0)
		return -1;
	if (json_object_get(ret->labels, DOCKER_LABEL))
		return 0;
	docker_container_deinit(ret);
	return err_set(err, ERR_NOT_FOUND, "The container %s was not made by this driver: it is left alone.", name);
}

int docker_container_start(struct op *op, const struct docker_config *c, const char *name, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	if (post(op, c, name, "start", CREATE_MS, &e) == 0)
		return 0;
	if (strstr(err_text(&e), "executable file") || strstr(err_text(&e), "/bin/sh"))
		return err_set(err, ERR_REMOTE, "The image %s cannot be used: it has no /bin/sh, which a sandbox needs (%s).", c->image,
			       err_text(&e));
	return err_move(err, &e);
}

int docker_container_stop(struct op *op, const struct docker_config *c, const char *name, struct err *err)
{
	cleanup_free char *what = xasprintf("stop?t=%d", STOP_SECONDS);

	return post(op, c, name, what, DOCKER_CALL_MS, err);
}

int docker_container_kill(struct op *op, const struct docker_config *c, const char *name, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	if (post(op, c, name, "kill?signal=KILL", DOCKER_CALL_MS, &e) == 0 || err_is(&e, ERR_NOT_FOUND) || err_is(&e, ERR_CONFLICT))
		return 0;
	return err_move(err, &e);
}

int docker_container_remove(struct op *op, const struct docker_config *c, const char *name, struct err *err)
{
	cleanup_free char *path = xasprintf("/containers/%s?force=true&v=true", name);
	struct docker_call call = {.method = "DELETE", .path = path, .deadline_ms = REMOVE_MS, .repeat = HTTP_REPEAT_IDEMPOTENT};
	struct fiber_scope scope;
	int rc;

	/* A removal that is under way already is waited for. */
	deadline_enter(&scope, REMOVE_MS);
	for (;;) {
		cleanup_docker_answer struct docker_answer answer = {0};
		cleanup_err struct err e = ERR_INIT;

		rc = docker_perform(op, c, &call, &answer, &e);
		if (rc < 0 && err_is(&e, ERR_NOT_FOUND))
			rc = 0;
		if (rc == 0 || !err_is(&e, ERR_CONFLICT) || fiber_sleep(REMOVED_LOOK_MS, NULL) < 0) {
			rc = rc < 0 ? err_move(err, &e) : 0;
			break;
		}
	}
	scope_leave(&scope);
	return rc;
}

/* may_come: its making may still be under way, so that it is not there yet is no proof. */
static void discard(struct op *op, const struct docker_config *c, const char *name, bool may_come)
{
	struct fiber_scope scope;
	cleanup_err struct err e = ERR_INIT;

	shield_enter(&scope, REMOVE_MS);
	for (int look = 0; look < (may_come ? LATE_LOOKS : 1); look++) {
		if (look > 0)
			fiber_sleep(LATE_LOOK_MS, NULL);
		if (docker_container_remove(op, c, name, &e) < 0)
			break;
	}
	if (!err_is(&e, ERR_NONE))
		op_log(op, LOG_LEVEL_ERROR, NULL, "Container %s at %s could not be removed and may still be there: %s", name, c->place,
		       err_text(&e));
	scope_leave(&scope);
}

void docker_container_discard(struct op *op, const struct docker_config *c, const char *name)
{
	discard(op, c, name, /* may_come= */ false);
}

/* --- making one --- */

/* A lost answer, or a twin of a repeated request: what bears the name and our lease's label is ours. 1: found; 0: not there; -1. */
static int adopt(struct op *op, const struct docker_config *c, const char *name, const char *uuid, struct err *err)
{
	cleanup_docker_container struct docker_container found = {0};
	cleanup_err struct err e = ERR_INIT;

	if (docker_container_inspect(op, c, name, &found, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? 0 : err_move(err, &e);
	return str_eq(json_string_value(json_object_get(found.labels, DOCKER_LABEL_LEASE)), uuid);
}

static int request_once(struct op *op, const struct docker_config *c, const json_t *body, const char *name, bool *ret_lost, struct err *err)
{
	cleanup_free char *path = xasprintf("/containers/create?name=%s", name);
	struct docker_call call = {.method = "POST", .path = path, .json = body, .deadline_ms = CREATE_MS};
	cleanup_docker_answer struct docker_answer answer = {0};
	const json_t *warning;
	size_t i;

	if (docker_perform(op, c, &call, &answer, err) < 0) {
		*ret_lost = answer.sent && (answer.http.status == 0 || err_is(err, ERR_PROTOCOL));
		return -1;
	}
	json_array_foreach(json_object_get(answer.json, "Warnings"), i, warning)
		op_log(op, LOG_LEVEL_WARN, NULL, "The container engine warns: %s", json_string_value(warning));
	return 0;
}

/* *ret_lost: an answer was lost, and what it was about may still be under way. The name makes a second request harmless. */
static int request_container(struct op *op, const struct docker_config *c, const json_t *body, const char *name, const char *uuid, bool *ret_lost,
			     struct err *err)
{
	for (int attempt = 1;; attempt++) {
		cleanup_err struct err e = ERR_INIT;
		bool lost = false;

		if (request_once(op, c, body, name, &lost, &e) == 0)
			return 0;
		*ret_lost = *ret_lost || lost;
		if ((!lost && !err_is(&e, ERR_CONFLICT)) || attempt == REQUESTS_MAX || fiber_is_cancelled() || deadline_left_ms() == 0)
			return err_move(err, &e);
		for (int look = 0; look < LATE_LOOKS; look++) {
			int found = adopt(op, c, name, uuid, err);

			if (found != 0)
				return found > 0 ? 0 : -1;
			if (fiber_sleep(LATE_LOOK_MS, err) < 0)
				return -1;
		}
	}
}

/* Podman ignores in this API what it was told of the runtime, and tells the truth in its own (wire: docker, 3). */
static int check_runtime(struct op *op, const struct docker_config *c, const struct docker_container *container, struct err *err)
{
	struct docker_engine *engine;
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_free char *path = xasprintf("/libpod/containers/%s/json", container->name);
	struct docker_call call = {.method = "GET", .path = path, .repeat = HTTP_REPEAT_IDEMPOTENT};
	const char *used = container->runtime;

	if (!c->runtime)
		return 0;
	if (docker_engine_find(op, c, &engine, err) < 0)
		return -1;
	if (engine->is_podman) {
		if (docker_perform(op, c, &call, &answer, err) < 0)
			return -1;
		used = json_string_value(json_object_get(answer.json, "OCIRuntime"));
	}
	if (str_eq(used, c->runtime))
		return 0;
	return err_set(err, ERR_REMOTE, "The engine at %s used the runtime %s, not %s as the config asks: the container was removed.", c->place,
		       str_nonempty(used) ? used : "of its own choice", c->runtime);
}

int docker_container_set_ended(const struct docker_container *container, const char *image, struct err *err)
{
	return err_set(err, ERR_REMOTE,
		       "The image %s cannot be used: its container ended at once, with exit code %d (%s). A sandbox needs /bin/sh in it.", image,
		       container->exit_code, container->status_text);
}

static int make(struct op *op, const struct docker_config *c, const struct docker_purpose *purpose, const char *name, const char *uuid,
		struct docker_container *ret, bool *ret_lost, struct err *err)
{
	cleanup_json json_t *body = body_of(op, c, purpose, uuid);

	if (!body)
		return err_set(err, ERR_INVALID, "the config holds text that is no UTF-8");
	if (request_container(op, c, body, name, uuid, ret_lost, err) < 0 || docker_container_start(op, c, name, err) < 0)
		return -1;
	if (docker_container_inspect(op, c, name, ret, err) < 0)
		return -1;
	if (ret->status != DOCKER_RUNNING)
		return docker_container_set_ended(ret, purpose->image, err);
	return check_runtime(op, c, ret, err);
}

int docker_container_create(struct op *op, const struct docker_config *c, const struct docker_purpose *purpose, struct docker_container *ret,
			    char **ret_uuid, struct err *err)
{
	cleanup_free char *uuid = random_uuid();
	cleanup_free char *name = xasprintf(DOCKER_NEW_PREFIX "%s", uuid);
	struct docker_engine *engine;
	bool lost = false;

	if (docker_mounts_check(c, err) < 0 || docker_engine_find(op, c, &engine, err) < 0)
		return -1;
	if (make(op, c, purpose, name, uuid, ret, &lost, err) < 0) {
		discard(op, c, name, lost);
		return -1;
	}
	*ret_uuid = steal(&uuid);
	return 0;
}

int docker_container_hand_out(struct op *op, const struct docker_config *c, struct docker_container *container, const char *uuid,
			      struct err *err)
{
	cleanup_free char *name = xasprintf(NAME_PREFIX "%s", uuid);
	cleanup_free char *path = xasprintf("/containers/%s/rename?name=%s", container->id, name);
	struct docker_call call = {.method = "POST", .path = path, .repeat = HTTP_REPEAT_IDEMPOTENT};
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;

	/* A lost answer says nothing, nor does the refusal of a repeated request; the name does. */
	if (docker_perform(op, c, &call, &answer, &e) < 0 && (!answer.sent || adopt(op, c, name, uuid, NULL) <= 0))
		return err_move(err, &e);
	free(container->name);
	container->name = steal(&name);
	return 0;
}

int docker_container_ensure_running(struct op *op, const struct docker_config *c, struct docker_container *container, struct err *err)
{
	const char *name = container->name;
	int rc = 0;

	if (container->status == DOCKER_PAUSED)
		rc = post(op, c, name, "unpause", DOCKER_CALL_MS, err);
	else if (container->status == DOCKER_STOPPED)
		rc = docker_container_start(op, c, name, err);
	while (rc == 0 && container->status == DOCKER_ENDING) {
		cleanup_docker_container struct docker_container now = {0};

		if (strcmp(container->status_text, "dead") == 0)
			return err_set(err, ERR_NOT_FOUND, "The container %s is dead.", name);
		if (fiber_sleep(REMOVED_LOOK_MS, err) < 0 || docker_container_inspect(op, c, name, &now, err) < 0)
			return -1;
		if (now.status == DOCKER_STOPPED)
			rc = docker_container_start(op, c, name, err);
		container->status = now.status;
	}
	if (rc == 0)
		container->status = DOCKER_RUNNING;
	return rc;
}
