/* Templates are images, committed from a container that a person has set up by the engine's own exec (wire: docker, 2). */
#include "docker.h"

#include "protocol/host_time.h"
#include "protocol/js_value.h"
#include "protocol/url.h"

#include <math.h>
#include <string.h>

#define KIND "image"
#define REPOSITORY "localhost/paperclip-template"
#define NAME_MAX_LENGTH 96

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

/* --- sessions --- */

static json_t *describe(const struct docker_config *c, const struct docker_container *container, bool podman, const struct setup_params *p,
			bool with_payload)
{
	const char *program = podman ? "podman" : "docker";
	cleanup_free char *command = xasprintf("%s exec -it %s sh", program, container->name);
	json_t *summary = json_pack("{s:s, s:b, s:b, s:b, s:{s:s}}", "type", "docker_exec", "hostRedacted", true, "portRedacted", true,
				    "commandRedacted", true, "metadata", "provider", "docker");
	json_t *payload = with_payload ? json_pack("{s:s, s:s, s:{s:s, s:s}}", "type", "docker_exec", "command", command, "metadata", "provider",
						   "docker", "engine", c->place)
				       : json_null();
	json_t *session = json_pack("{s:s, s:s, s:o, s:o, s:{s:s, s:s, s:s, s:b}}", "providerLeaseId", container->name, "status",
				    "waiting_for_user", "connectionSummary", summary, "connectionPayload", payload, "metadata", "provider", "docker",
				    "containerName", container->name, "remoteCwd", c->workdir, "connectionRedacted", true);

	if (p->expires_at)
		json_object_set_new(session, "expiresAt", json_string(p->expires_at));
	return session;
}

static bool is_podman(struct op *op, const struct docker_config *c)
{
	struct docker_engine *engine;

	return docker_engine_find(op, c, &engine, NULL) == 0 && engine->is_podman;
}

int docker_start_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	cleanup_docker_ready struct docker_ready ready = {0};

	if (str_nonempty(p->source_template_kind) && strcmp(p->source_template_kind, KIND) != 0)
		return err_set(err, ERR_INVALID, "Docker interactive setup can start from image templates only, not %s.", p->source_template_kind);
	if (str_nonempty(p->source_template_ref) && !docker_image_name_is_valid(p->source_template_ref))
		return err_set(err, ERR_INVALID, "sourceTemplateRef is no image.");
	if (docker_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	const struct docker_purpose purpose = {
		.base = &p->base,
		.image = str_nonempty(p->source_template_ref) ? p->source_template_ref : c.image,
		.expires_ms = p->expires_at ? iso_time_parse(p->expires_at) : -1,
		.keep_running = true,
	};

	if (docker_make_ready(op, &c, &purpose, &ready, err) < 0)
		return -1;
	if (docker_container_hand_out(op, &c, &ready.container, ready.uuid, err) < 0) {
		docker_container_discard(op, &c, ready.container.id);
		return -1;
	}
	*ret = describe(&c, &ready.container, is_podman(op, &c), p, /* with_payload= */ true);
	return 0;
}

/* 0 with *ret_missing: there is no such container of ours. */
static int find(struct op *op, const struct setup_params *p, struct docker_config *c, struct docker_container *container, bool *ret_missing,
		struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	*ret_missing = !str_nonempty(p->provider_lease_id) || !docker_lease_id_is_valid(p->provider_lease_id);
	if (docker_config_read(op, p->base.config, c, err) < 0)
		return -1;
	if (*ret_missing || docker_container_inspect(op, c, p->provider_lease_id, container, &e) == 0)
		return 0;
	*ret_missing = err_is(&e, ERR_NOT_FOUND);
	return *ret_missing ? 0 : err_move(err, &e);
}

int docker_get_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	cleanup_docker_container struct docker_container container = {0};
	bool missing;

	if (find(op, p, &c, &container, &missing, err) < 0)
		return -1;
	if (missing) {
		*ret = json_pack("{s:n, s:s, s:n, s:n, s:{s:s, s:b}}", "providerLeaseId", "status", "missing", "connectionSummary",
				 "connectionPayload", "metadata", "provider", "docker", "missing", true);
		return 0;
	}
	if (docker_container_ensure_running(op, &c, &container, err) < 0)
		return -1;
	*ret = describe(&c, &container, is_podman(op, &c), p, p->include_connection_payload);
	return 0;
}

int docker_cancel_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	cleanup_docker_container struct docker_container container = {0};
	bool missing;

	if (find(op, p, &c, &container, &missing, err) < 0 || (!missing && docker_container_remove(op, &c, container.name, err) < 0))
		return -1;
	*ret = json_pack("{s:s, s:{s:s, s:b, s:o}}", "status",
			 missing ? "missing" : str_eq(p->reason, "timed_out") ? "timed_out" : "cancelled", "metadata", "provider", "docker",
			 "missing", missing, "reason", text_or_null(p->reason));
	return 0;
}

/* --- templates --- */

/* The label as a tag ([A-Za-z0-9_.-], not beginning with . or -), made unique by the time. Owned. */
static char *tag_of(const char *label)
{
	struct buf tag = BUF_INIT(BUF_UNBOUNDED);

	for (const char *p = label ? label : ""; *p && tag.len < NAME_MAX_LENGTH; p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '_';

		if (plain)
			buf_append_char(&tag, *p);
		else if (tag.len > 0 && tag.data[tag.len - 1] != '-')
			buf_append_char(&tag, '-');
	}
	buf_printf(&tag, "%s%lld", tag.len > 0 && tag.data[tag.len - 1] != '-' ? "-" : "", (long long)docker_now_ms());
	return buf_steal(&tag);
}

int docker_capture_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	cleanup_docker_container struct docker_container container = {0};
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_buf struct buf path = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *tag = tag_of(p->template_label);
	cleanup_json json_t *body = json_object();
	char captured_at[ISO_TIME_BYTES];
	bool missing;

	if (find(op, p, &c, &container, &missing, err) < 0)
		return -1;
	if (missing)
		return err_set(err, ERR_INVALID, "Cannot capture a Docker template without a setup container.");
	buf_append_str(&path, "/commit");
	url_add_query(&path, "container", container.name);
	url_add_query(&path, "repo", REPOSITORY);
	url_add_query(&path, "tag", tag);
	url_add_query(&path, "pause", "true");
	url_add_query(&path, "changes", "LABEL " DOCKER_LABEL_TEMPLATE "=1");
	struct docker_call call = {.method = "POST",
				   .path = path.data,
				   .json = body,
				   .deadline_ms = (int64_t)fmin(p->timeout_ms > 0 ? p->timeout_ms : c.timeout_ms, 86400000),
				   .long_lived = true};

	if (docker_perform(op, &c, &call, &answer, err) < 0)
		return -1;
	const char *id = json_string_value(json_object_get(answer.json, "Id"));

	iso_time_format(docker_now_ms(), captured_at);
	*ret = json_pack("{s:o, s:s, s:{s:s, s:s, s:s, s:s}}", "templateRef", json_sprintf("%s:%s", REPOSITORY, tag), "templateKind", KIND,
			 "metadata", "provider", "docker", "containerName", container.name, "imageId", id ? id : "", "capturedAt", captured_at);
	return 0;
}

/* 1: it is a template of ours; 0: it is not there; -1. */
static int check_template(struct op *op, const struct docker_config *c, const char *ref, struct err *err)
{
	cleanup_free char *path = xasprintf("/images/%s/json", ref);
	cleanup_docker_answer struct docker_answer answer = {0};
	struct docker_call call = {.method = "GET", .path = path, .repeat = HTTP_REPEAT_IDEMPOTENT};
	cleanup_err struct err e = ERR_INIT;

	if (docker_perform(op, c, &call, &answer, &e) < 0)
		return err_is(&e, ERR_NOT_FOUND) ? 0 : err_move(err, &e);
	if (json_object_get(json_object_get(json_object_get(answer.json, "Config"), "Labels"), DOCKER_LABEL_TEMPLATE))
		return 1;
	return err_set(err, ERR_INVALID, "The image %s is no template of this driver: it is left alone.", ref);
}

int docker_delete_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	cleanup_docker_answer struct docker_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;

	if (p->template_kind && strcmp(p->template_kind, KIND) != 0)
		return err_set(err, ERR_INVALID, "Docker can delete image templates only, not %s.", p->template_kind);
	if (!str_nonempty(p->template_ref) || !docker_image_name_is_valid(p->template_ref))
		return err_set(err, ERR_INVALID, "templateRef is missing or no image: there is no template to delete");
	if (docker_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	int found = check_template(op, &c, p->template_ref, err);

	if (found < 0)
		return -1;
	cleanup_free char *path = xasprintf("/images/%s", p->template_ref);
	struct docker_call call = {.method = "DELETE", .path = path, .repeat = HTTP_REPEAT_IDEMPOTENT};

	if (found > 0 && docker_perform(op, &c, &call, &answer, &e) < 0 && !err_is(&e, ERR_NOT_FOUND))
		return err_move(err, &e);
	*ret = json_pack("{s:b, s:{s:s, s:s, s:b, s:o}}", "deleted", true, "metadata", "provider", "docker", "templateKind", KIND, "missing",
			 found == 0, "reason", text_or_null(p->reason));
	return 0;
}
