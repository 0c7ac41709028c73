/*
 * Containers that nobody owns any more: those whose worker died between making them and answering the host, which their first name tells,
 * and those whose time is over. A lease in the host's hands outlives its worker and is left alone (wire: docker, 3, Orphans), unless a
 * person asks for more.
 */
#include "docker.h"

#include "owner.h"
#include "protocol/url.h"

#define MAKING_MAX_S (6 * 3600) /* no container is being made for so long, whoever's clock it is */

static const char *label(const json_t *container, const char *name)
{
	return json_string_value(json_object_get(json_object_get(container, "Labels"), name));
}

/* Why it is to go; NULL: it is to stay. Static. */
static const char *reason_of(const struct reap_params *p, const json_t *container, const char *name)
{
	const char *owner = label(container, DOCKER_LABEL_WORKER);
	bool dead = owner && owner_is_dead(owner);
	json_int_t created_s = json_integer_value(json_object_get(container, "Created"));

	if (docker_time_is_over(json_object_get(container, "Labels")))
		return "its time is over";
	if (str_starts_with(name, DOCKER_NEW_PREFIX)) {
		if (dead)
			return "its worker died before the host had it";
		if (created_s > 0 && created_s < docker_now_ms() / 1000 - MAKING_MAX_S)
			return "it was left half made, hours ago";
	}
	return p->all && dead ? "its worker has died" : NULL;
}

static int list_ours(struct op *op, const struct docker_config *c, json_t **ret, struct err *err)
{
	cleanup_buf struct buf path = BUF_INIT(BUF_UNBOUNDED);
	cleanup_docker_answer struct docker_answer answer = {0};

	buf_append_str(&path, "/containers/json?all=true");
	url_add_query(&path, "filters", "{\"label\":[\"" DOCKER_LABEL "=1\"]}");
	struct docker_call call = {.method = "GET", .path = path.data, .repeat = HTTP_REPEAT_IDEMPOTENT, .answer_max = (size_t)256 << 20};

	if (docker_perform(op, c, &call, &answer, err) < 0)
		return -1;
	if (!json_is_array(answer.json))
		return err_set(err, ERR_PROTOCOL, "The engine at %s does not list its containers.", c->place);
	*ret = json_incref(answer.json);
	return 0;
}

static void reap_one(struct op *op, const struct docker_config *c, const struct reap_params *p, const json_t *container, struct reap_report *ret)
{
	const char *name = json_string_value(json_array_get(json_object_get(container, "Names"), 0));
	const char *id = json_string_value(json_object_get(container, "Id"));
	cleanup_err struct err e = ERR_INIT;

	if (!name || !id)
		return;
	name += *name == '/';
	const char *reason = reason_of(p, container, name);

	if (!reason) {
		ret->left++;
		return;
	}
	if (!p->dry_run && docker_container_remove(op, c, id, &e) < 0) {
		ret->failed++;
		strv_addf(&ret->lines, "%s: %s, but it could not be removed: %s", name, reason, err_text(&e));
		return;
	}
	ret->reaped++;
	strv_addf(&ret->lines, "%s: %s", name, reason);
}

int docker_reap(struct op *op, const struct reap_params *p, struct reap_report *ret, struct err *err)
{
	cleanup_docker_config struct docker_config c = {0};
	json_t *list = NULL;
	const json_t *container;
	size_t i;

	if (docker_config_read(op, p->base.config, &c, err) < 0 || list_ours(op, &c, &list, err) < 0)
		return -1;
	json_array_foreach(list, i, container)
		reap_one(op, &c, p, container, ret);
	json_decref(list);
	return 0;
}
