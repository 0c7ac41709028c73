/* wire: modal, Operations, request by request. */
#include "modal.h"

#include "base/str.h"
#include "log.h"

#include <math.h>
#include <string.h>

#define DISCARD_MS 15000
#define DISCARD_CANCELLED_MS 2200 /* the worker waits */
#define AGAIN_MS 300
#define TERMINATE_CALL_MS 5000
#define TERMINATE_PAUSE_MAX_MS 1000
#define EXPIRY_MARGIN_S 5 /* creation takes its time, and only then the sandbox's begins */

void modal_sandbox_deinit(struct modal_sandbox *sandbox)
{
	free(sandbox->id);
	sandbox->id = NULL;
}

/* --- tags --- */

#define TAGS_MAX 5

struct tags {
	Modal__SandboxTag tags[TAGS_MAX];
	Modal__SandboxTag *list[TAGS_MAX];
	struct strv texts;
	size_t count;
};

static void add_tag(struct tags *t, const char *name, const char *value)
{
	Modal__SandboxTag *tag = &t->tags[t->count];

	if (!value)
		return;
	modal__sandbox_tag__init(tag);
	tag->tag_name = xstrdup(name);
	tag->tag_value = xstrdup(value);
	strv_take(&t->texts, tag->tag_name);
	strv_take(&t->texts, tag->tag_value);
	t->list[t->count++] = tag;
}

static void tags_init(struct tags *t, const struct modal_session *s, const struct modal_purpose *purpose)
{
	*t = (struct tags){0};
	add_tag(t, "paperclip-provider", "modal");
	add_tag(t, "paperclip-company-id", s->base->company_id);
	add_tag(t, "paperclip-environment-id", s->base->environment_id);
	add_tag(t, "paperclip-reuse-lease", purpose->reuse ? "true" : "false");
	add_tag(t, "paperclip-run-id", str_nonempty(purpose->run_id) ? purpose->run_id : NULL);
}

/* The tags go with the creation too; here they are set as the vendor's client does it, and a refusal is heard. */
static int set_tags(struct modal_session *s, struct tags *t, const char *id, struct err *err)
{
	cleanup_free char *sandbox_id = xstrdup(id);
	Modal__SandboxTagsSetRequest request = MODAL__SANDBOX_TAGS_SET_REQUEST__INIT;
	cleanup_message Modal__Empty *answer = NULL;
	struct modal_rpc rpc = {.name = "SandboxTagsSet", .request = &request.base, .answer = &modal__empty__descriptor};
	cleanup_err struct err e = ERR_INIT;

	request.environment_name = s->config.environment;
	request.sandbox_id = sandbox_id;
	request.n_tags = t->count;
	request.tags = t->list;
	if (modal_control(s, &rpc, NULL, &answer, NULL, &e) == 0)
		return 0;
	if (err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT))
		return err_move(err, &e);
	op_log(s->op, LOG_LEVEL_WARN, NULL, "Failed to set tags on Modal sandbox %s: %s", id, err_text(&e));
	return 0;
}

/* --- create --- */

static uint32_t whole_seconds(double seconds)
{
	return seconds < UINT32_MAX ? (uint32_t)seconds : UINT32_MAX;
}

/* How long it may live. -1, ERR_INVALID: not at all. */
static int lifetime(const struct modal_session *s, const struct modal_purpose *purpose, uint32_t *ret, struct err *err)
{
	double seconds = s->config.sandbox_timeout_ms / 1000;

	if (purpose->requested_expires_unix_ms >= 0) {
		double left = floor((double)(purpose->requested_expires_unix_ms - modal_unix_now_ms()) / 1000) - EXPIRY_MARGIN_S;

		if (left < 1)
			return err_set(err, ERR_INVALID,
				       "requestedExpiresAt leaves a sandbox no time: it must be at least %d s from now",
				       EXPIRY_MARGIN_S + 1);
		seconds = fmin(seconds, left);
	}
	*ret = whole_seconds(seconds);
	return 0;
}

struct creation {
	Modal__SandboxCreateRequest request;
	Modal__Sandbox definition;
	Modal__NetworkAccess network;
	struct tags tags;
	char *app_id, *image_id; /* owned */
	char *key;               /* owned */
};

static void creation_deinit(struct creation *c)
{
	strv_deinit(&c->tags.texts);
	free(c->app_id);
	free(c->image_id);
	free(c->key);
}

static void fill_creation(struct creation *c, const struct modal_session *s, const struct modal_purpose *purpose,
			  uint32_t seconds)
{
	const struct modal_config *config = &s->config;

	modal__sandbox_create_request__init(&c->request);
	modal__sandbox__init(&c->definition);
	modal__network_access__init(&c->network);
	tags_init(&c->tags, s, purpose);
	c->network.has_network_access_type = true;
	c->network.network_access_type = config->block_network ? 2 : config->cidrs.count > 0 ? 3 : 1;
	c->network.n_allowed_cidrs = config->cidrs.count;
	c->network.allowed_cidrs = config->cidrs.items;
	c->definition.image_id = c->image_id;
	c->definition.has_timeout_secs = true;
	c->definition.timeout_secs = seconds;
	c->definition.workdir = config->workdir;
	c->definition.network_access = &c->network;
	if (!isnan(config->idle_timeout_ms)) {
		c->definition.has_idle_timeout_secs = true;
		c->definition.idle_timeout_secs = whole_seconds(config->idle_timeout_ms / 1000);
	}
	c->request.app_id = c->app_id;
	c->request.definition = &c->definition;
	c->request.n_tags = c->tags.count;
	c->request.tags = c->tags.list;
	c->key = random_uuid();
}

static int send_create(struct modal_session *s, struct creation *c, char **ret, struct modal_fault *fault, struct err *err)
{
	cleanup_message Modal__SandboxCreateResponse *answer = NULL;
	struct modal_rpc rpc = {
		.name = "SandboxCreate", .request = &c->request.base, .answer = &modal__sandbox_create_response__descriptor};
	cleanup_err struct err e = ERR_INIT;

	if (modal_control(s, &rpc, c->key, &answer, fault, &e) < 0) {
		if (fault->status != GRPC_ALREADY_EXISTS)
			return err_move(err, &e);
		/* The details alone. */
		const char *details = strstr(err_text(&e), ": ");

		return err_set(err, ERR_CONFLICT, "%s", details ? details + 2 : err_text(&e));
	}
	if (modal_need_id(answer->sandbox_id, rpc.name, err) < 0)
		return -1;
	*ret = xstrdup(answer->sandbox_id);
	return 0;
}

static int64_t discard_limit(void)
{
	return fiber_is_cancelled() ? DISCARD_CANCELLED_MS : DISCARD_MS;
}

/*
 * The answer was lost, or came too late. The same call under the same key is the same sandbox: ask for its id, to end it. If the service
 * never knew of it, it is made now and ended at once.
 */
static void discard_unknown(struct modal_session *s, struct creation *c, const struct modal_purpose *purpose)
{
	cleanup_err struct err e = ERR_INIT;
	cleanup_free char *id = NULL;
	struct modal_fault fault;
	struct fiber_scope scope;
	int rc = -1;

	shield_enter(&scope, discard_limit());
	do {
		err_clear(&e);
		rc = send_create(s, c, &id, &fault, &e);
	} while (rc < 0 && !modal_is_refusal(&fault) && fiber_sleep(AGAIN_MS, NULL) == 0);
	scope_leave(&scope);
	if (rc == 0)
		modal_sandbox_discard(s, id);
	else
		op_log(s->op, LOG_LEVEL_ERROR, NULL,
		       "A Modal sandbox of the app %s may have been made that nobody knows the id of; look for the tag "
		       "paperclip-run-id=%s: %s",
		       s->config.app_name, purpose->run_id ? purpose->run_id : "", err_text(&e));
}

static int create(struct modal_session *s, struct creation *c, const struct modal_purpose *purpose, char **ret, struct err *err)
{
	struct modal_fault fault;

	if (send_create(s, c, ret, &fault, err) == 0)
		return 0;
	if (fault.sent)
		discard_unknown(s, c, purpose);
	return -1;
}

int modal_sandbox_create(struct modal_session *s, const struct modal_purpose *purpose, struct modal_sandbox *ret, struct err *err)
{
	struct creation c = {0};
	uint32_t seconds = 0;
	int rc = -1;

	*ret = (struct modal_sandbox){0};
	if (modal_config_check_create(&s->config, err) < 0 || lifetime(s, purpose, &seconds, err) < 0 ||
	    modal_app_get(s, purpose, &c.app_id, err) < 0 || modal_image_get(s, purpose, c.app_id, &c.image_id, err) < 0)
		goto out;
	/* The image may have taken its time. */
	if (lifetime(s, purpose, &seconds, err) < 0)
		goto out;
	fill_creation(&c, s, purpose, seconds);
	if (create(s, &c, purpose, &ret->id, err) < 0)
		goto out;
	ret->expires_unix_ms = modal_unix_now_ms() + (int64_t)seconds * 1000;
	if (purpose->requested_expires_unix_ms >= 0 && ret->expires_unix_ms > purpose->requested_expires_unix_ms)
		ret->expires_unix_ms = purpose->requested_expires_unix_ms;
	modal_tell(purpose, "modal.sandbox", "The sandbox %s is made.", ret->id);
	rc = set_tags(s, &c.tags, ret->id, err);
	if (rc < 0)
		modal_sandbox_discard(s, ret->id);
out:
	creation_deinit(&c);
	return rc;
}

/* --- one sandbox --- */

/* "sb-" and 22 letters and digits; what looks otherwise was made by the service's newer calls. */
static bool is_first_generation(const char *id)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

	return str_starts_with(id, "sb-") && strspn(id + 3, alphabet) == 22 && strlen(id) == 25;
}

int modal_sandbox_call(struct modal_session *s, const struct modal_lease *lease, const char *id, struct modal_rpc *rpc, void *ret,
		       struct modal_fault *fault, struct err *err)
{
	const char *name = rpc->name;
	struct modal_fault own = {0};
	struct modal_fault *f = fault ? fault : &own;

	if (!(lease ? lease->made_here : true) && !is_first_generation(id)) {
		cleanup_free char *second = xasprintf("%sV2", name);
		cleanup_err struct err e = ERR_INIT;

		rpc->name = second;
		int rc = modal_control(s, rpc, NULL, ret, f, &e);

		rpc->name = name;
		if (rc == 0 || f->status != GRPC_UNIMPLEMENTED)
			return rc < 0 ? err_move(err, &e) : 0;
		/* A service that has one generation only. */
	}
	return modal_control(s, rpc, NULL, ret, f, err);
}

int modal_sandbox_look(struct modal_session *s, const struct modal_lease *lease, const char *id, bool *ret_gone, struct err *err)
{
	cleanup_free char *sandbox_id = xstrdup(id);
	Modal__SandboxWaitRequest request = MODAL__SANDBOX_WAIT_REQUEST__INIT;
	cleanup_message Modal__SandboxWaitResponse *answer = NULL;
	struct modal_rpc rpc = {
		.name = "SandboxWait", .request = &request.base, .answer = &modal__sandbox_wait_response__descriptor};
	struct modal_fault fault;
	cleanup_err struct err e = ERR_INIT;

	*ret_gone = false;
	request.sandbox_id = sandbox_id;
	if (modal_sandbox_call(s, lease, id, &rpc, &answer, &fault, &e) == 0) {
		*ret_gone = modal_result_is_over(answer->result);
		return 0;
	}
	*ret_gone = fault.status == GRPC_NOT_FOUND;
	return *ret_gone ? 0 : err_move(err, &e);
}

/* *ret_done; else *ret_again: it may work later. */
static void try_terminate(struct modal_session *s, const struct modal_lease *lease, const char *id, bool *ret_done,
			  bool *ret_again, struct err *err)
{
	cleanup_free char *sandbox_id = xstrdup(id);
	Modal__SandboxTerminateRequest request = MODAL__SANDBOX_TERMINATE_REQUEST__INIT;
	cleanup_message Modal__Empty *answer = NULL; /* what it says does not matter */
	static const struct modal_backoff once = {0};
	struct modal_rpc rpc = {
		.name = "SandboxTerminate",
		.request = &request.base,
		.answer = &modal__empty__descriptor,
		.timeout_ms = TERMINATE_CALL_MS,
		.backoff = &once,
	};
	struct modal_fault fault = {0};

	request.sandbox_id = sandbox_id;
	*ret_done = modal_sandbox_call(s, lease, id, &rpc, &answer, &fault, err) == 0 || fault.status == GRPC_NOT_FOUND;
	*ret_again = modal_is_passing(fault.status) || fault.status == GRPC_RESOURCE_EXHAUSTED || fault.status == GRPC_ABORTED;
}

static int terminate_within(struct modal_session *s, const struct modal_lease *lease, const char *id, int64_t ms, struct err *err)
{
	int64_t deadline = loop_now_ms() + ms, pause = 100;

	for (;;) {
		cleanup_err struct err e = ERR_INIT;
		bool done, again;

		try_terminate(s, lease, id, &done, &again, &e);
		if (done)
			return 0;
		if (!again || loop_now_ms() + pause >= deadline)
			return err_move(err, &e);
		if (fiber_sleep(pause, NULL) < 0)
			return err_move(err, &e);
		pause = pause * 2 < TERMINATE_PAUSE_MAX_MS ? pause * 2 : TERMINATE_PAUSE_MAX_MS;
	}
}

int modal_sandbox_terminate(struct modal_session *s, const struct modal_lease *lease, const char *id, int64_t ms, struct err *err)
{
	struct fiber_scope scope;

	shield_enter(&scope, fiber_is_cancelled() ? ms : ms + TERMINATE_CALL_MS);
	int rc = terminate_within(s, lease, id, ms, err);

	/* The shield's own end is no deadline of the request. */
	if (rc < 0 && err && err_is(err, ERR_TIMEOUT))
		err->kind = ERR_TRANSPORT;
	scope_leave(&scope);
	return rc;
}

void modal_sandbox_discard(struct modal_session *s, const char *id)
{
	cleanup_err struct err err = ERR_INIT;

	if (modal_sandbox_terminate(s, NULL, id, discard_limit(), &err) < 0)
		op_log(s->op, LOG_LEVEL_ERROR, NULL, "Modal sandbox %s could not be terminated and may still be running: %s", id,
		       err_text(&err));
}
