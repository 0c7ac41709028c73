/* What is missing is told step by step, in the order in which it has to be put right. */
#include "docker.h"

#include "protocol/js_value.h"

#include <string.h>

struct step {
	const char *code, *advice;
};

static const struct step config_step = {"config", "Set it right in the environment's settings."};
static const struct step engine_step = {"engine", NULL};
static const struct step image_step = {"image", "Pull it by hand at the engine to see more, or name another image."};
static const struct step sandbox_step = {"sandbox", "The engine is there, but could not make a container like this one."};
static const struct step command_step = {"command", "The container is there, but no command could be run in it."};

static void add(struct probe_report *ret, const char *severity, const char *code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void add(struct probe_report *ret, const char *severity, const char *code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	cleanup_free char *message = xvasprintf(format, ap);
	va_end(ap);

	json_array_append_new(ret->diagnostics, json_pack("{s:s, s:s, s:s}", "severity", severity, "message", message, "code", code));
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return str_nonempty(text) ? text : "?";
}

/* --- the engine --- */

static bool has_option(const json_t *info, const char *option)
{
	const json_t *value;
	size_t i;

	json_array_foreach(json_object_get(info, "SecurityOptions"), i, value) {
		const char *text = json_string_value(value);

		if (text && strstr(text, option))
			return true;
	}
	return false;
}

static void warn_of_limits(const struct docker_config *c, const json_t *info, struct probe_report *ret)
{
	static const struct {
		const char *key, *setting;
	} limits[] = {{"MemoryLimit", "memoryMb"}, {"PidsLimit", "pidsLimit"}, {"CpuCfsQuota", "cpus"}};
	const double wanted[] = {c->memory_mb, c->pids_limit, c->cpus};

	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
		if (wanted[i] > 0 && json_is_false(json_object_get(info, limits[i].key)))
			add(ret, "warning", "limits", "%s will not hold: the engine has no control group for it (%s is false).",
			    limits[i].setting, limits[i].key);
	}
}

static void describe(const struct docker_config *c, const struct docker_engine *engine, const json_t *info, struct probe_report *ret)
{
	bool rootless = has_option(info, "name=rootless") || json_is_true(json_object_get(info, "Rootless"));
	const json_t *warning, *runtimes = json_object_get(info, "Runtimes");
	size_t i;

	add(ret, "info", "engine", "%s %s on %s answers at %s: API %s, storage %s, control groups v%s%s%s%s.",
	    engine->is_podman ? "Podman" : "Docker", text_of(info, "ServerVersion"), text_of(info, "OperatingSystem"), c->place, engine->version,
	    text_of(info, "Driver"), text_of(info, "CgroupVersion"), rootless ? ", rootless" : "",
	    has_option(info, "name=userns") ? ", with user namespaces" : "", has_option(info, "name=seccomp") ? ", with seccomp" : "");
	if (!has_option(info, "name=seccomp"))
		add(ret, "warning", "seccomp", "The engine filters no system calls (seccomp): containers reach more of its kernel.");
	warn_of_limits(c, info, ret);
	if (c->runtime && json_is_object(runtimes) && !json_object_get(runtimes, c->runtime))
		add(ret, "warning", "runtime", "The engine does not list the runtime %s.", c->runtime);
	json_array_foreach(json_object_get(info, "Warnings"), i, warning) {
		if (json_is_string(warning))
			add(ret, "info", "warnings", "The engine says: %s", json_string_value(warning));
	}
}

static int probe_engine(struct op *op, const struct docker_config *c, struct probe_report *ret, struct err *err)
{
	cleanup_docker_answer struct docker_answer answer = {0};
	struct docker_call call = {.method = "GET", .path = "/info", .repeat = HTTP_REPEAT_IDEMPOTENT};
	struct docker_engine *engine;

	if (docker_engine_find(op, c, &engine, err) < 0 || docker_perform(op, c, &call, &answer, err) < 0)
		return -1;
	describe(c, engine, answer.json, ret);
	ret->metadata = json_pack("{s:s, s:s, s:s, s:s, s:s}", "provider", "docker", "engine", engine->is_podman ? "podman" : "docker",
				  "engineVersion", text_of(answer.json, "ServerVersion"), "apiVersion", engine->version, "image", c->image);
	return 0;
}

/* --- a container --- */

static int probe_command(struct op *op, const struct docker_config *c, const struct docker_ready *ready, struct probe_report *ret, struct err *err)
{
	cleanup_buf struct buf out = BUF_INIT(65536);
	const struct docker_script script = {.container = ready->container.name,
					     .user = c->user,
					     .text = "for t in tr grep head; do command -v $t >/dev/null || echo \"$t \"; done",
					     .args = (const char *const[]){NULL},
					     .ms = 20000};
	struct docker_ended ended;
	int64_t since_ms = loop_now_ms();

	if (docker_exec_script(op, c, &script, &out, &ended, err) < 0)
		return -1;
	if (ended.timed_out || ended.exit_code != 0)
		return err_set(err, ERR_REMOTE, "a small script ended with %d", ended.exit_code);
	add(ret, "info", "command", "A command ran in it, within %lld ms; the shell is %s.", (long long)(loop_now_ms() - since_ms), ready->shell);
	if (out.len > 0)
		add(ret, "warning", "tools", "The image lacks programs by which single commands are ended (%.*s): at a timeout the whole container "
		    "is killed.", (int)strcspn(out.data, "\n"), out.data);
	return 0;
}

static int probe_sandbox(struct op *op, const struct docker_config *c, const struct probe_params *p, struct probe_report *ret,
			 const struct step **ret_step, struct err *err)
{
	cleanup_docker_ready struct docker_ready ready = {0};
	cleanup_free char *image_id = NULL;
	const struct docker_purpose purpose = {.base = &p->base, .image = c->image, .expires_ms = -1};

	*ret_step = &image_step;
	if (docker_image_ensure(op, c, c->image, &image_id, err) < 0)
		return -1;
	add(ret, "info", "image", "The image %s is there.", c->image);
	*ret_step = &sandbox_step;
	if (docker_make_ready(op, c, &purpose, &ready, err) < 0)
		return -1;
	add(ret, "info", "sandbox", "A container was made and started, with the workspace %s.", c->workdir);
	*ret_step = &command_step;
	int rc = probe_command(op, c, &ready, ret, err);

	docker_container_discard(op, c, ready.container.name);
	return rc;
}

static int report_failure(const struct step *step, struct err *cause, struct probe_report *ret, struct err *err)
{
	if (err_is(cause, ERR_CANCELLED) || err_is(cause, ERR_TIMEOUT))
		return err_move(err, cause);
	add(ret, "error", step->code, "%s%s%s", err_text(cause), step->advice ? "\n" : "", step->advice ? step->advice : "");
	ret->summary = xasprintf("Docker sandbox probe failed: %s", err_text(cause));
	if (!ret->metadata)
		ret->metadata = json_pack("{s:s}", "provider", "docker");
	json_object_set_new(ret->metadata, "error", json_string(err_text(cause)));
	return 0;
}

int docker_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	cleanup_err struct err e = ERR_INIT;
	const struct step *step = &config_step;

	ret->diagnostics = json_array();
	if (docker_config_read(op, p->base.config, &c, &e) < 0)
		return report_failure(step, &e, ret, err);
	step = &engine_step;
	if (probe_engine(op, &c, ret, &e) < 0 || probe_sandbox(op, &c, p, ret, &step, &e) < 0)
		return report_failure(step, &e, ret, err);
	ret->ok = true;
	ret->summary = xasprintf("Containers of %s can be used at %s.", c.image, c.place);
	return 0;
}
