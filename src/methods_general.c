/* The general methods (host contract, "General methods"). */
#include "op_internal.h"

#include "protocol/json_write.h"

#define HEALTH_FRESH_MS 100

static bool any_provider_has(const struct worker *w, const struct method *method)
{
	for (size_t i = 0; i < w->provider_count; i++)
		if (method_in_provider(method, w->providers[i]))
			return true;
	return false;
}

static int serve_initialize(struct op *op, json_t **ret, struct err *err)
{
	struct worker *w = op->worker;
	json_t *methods = json_array();

	if (w->initialized) {
		json_decref(methods);
		return err_set(err, ERR_CONFLICT, "Worker already initialized");
	}
	w->initialized = true;
	/* What the host finds here it will call and rely on: only what some driver really has. */
	json_array_append_new(methods, json_string("health"));
	json_array_append_new(methods, json_string("configChanged"));
	for (const struct method *m = environment_methods; m->name; m++)
		if (any_provider_has(w, m))
			json_array_append_new(methods, json_string(m->name));
	*ret = json_pack("{s:b, s:o}", "ok", 1, "supportedMethods", methods);
	log_write(LOG_LEVEL_INFO, NULL, "Paperclip sandbox worker %s ready", w->version);
	for (size_t i = 0; i < w->provider_count; i++)
		if (w->providers[i]->greet)
			w->providers[i]->greet(w->states[i]);
	return 0;
}

static json_t *describe_health(const struct worker *w)
{
	json_t *drivers = json_object();

	for (size_t i = 0; i < w->provider_count; i++) {
		json_t *details = json_object();

		if (w->providers[i]->health)
			w->providers[i]->health(w->states[i], details);
		json_object_set_new(drivers, w->providers[i]->driver_key, details);
	}
	return json_pack("{s:s, s:s, s:{s:s, s:I, s:I, s:I, s:o}}", "status", "ok", "message", "Sandbox worker healthy",
			 "details", "version", w->version, "uptimeMs", (json_int_t)(loop_now_ms() - w->started_ms),
			 "requestsInFlight", (json_int_t)w->op_count - 1, "requestsServed", (json_int_t)w->served, "drivers",
			 drivers);
}

/* Asked often and in bulk: the text of the answer serves for HEALTH_FRESH_MS. */
static int serve_health(struct op *op, json_t **ret, struct err *err)
{
	struct worker *w = op->worker;
	struct message *m = message_create();
	struct buf *line = message_tail(m);

	(void)ret, (void)err;
	if (w->health.len == 0 || loop_now_ms() - w->health_at_ms >= HEALTH_FRESH_MS) {
		cleanup_json json_t *health = describe_health(w);

		buf_reset(&w->health);
		json_write_value(&w->health, health);
		w->health_at_ms = loop_now_ms();
	}
	op_begin_result(op, line);
	buf_append(line, w->health.data, w->health.len);
	buf_append_str(line, "}\n");
	op_answer_message(op, m);
	return 0;
}

/* Nothing of the plugin's own configuration is kept: each request brings its driver's. So every company's is accepted. */
static int serve_config_changed(struct op *op, json_t **ret, struct err *err)
{
	(void)op, (void)ret, (void)err;
	return 0;
}

/* The answer is the last word: it comes when everything is cleaned up (host contract, "Life cycle"). */
static int serve_shutdown(struct op *op, json_t **ret, struct err *err)
{
	struct fiber_scope scope;

	(void)ret;
	worker_stop(op->worker);
	shield_enter(&scope, DEADLINE_NONE);
	while (op->worker->phase != WORKER_DRAINED)
		event_wait(&op->go, err);
	scope_leave(&scope);
	return 0;
}

const struct method general_methods[] = {
	{"initialize", HOST_TIMEOUT_DEFAULT, serve_initialize, 0, true},
	{"health", HOST_TIMEOUT_DEFAULT, serve_health, 0, true},
	{"configChanged", HOST_TIMEOUT_DEFAULT, serve_config_changed, 0, true},
	{"shutdown", HOST_TIMEOUT_DEFAULT, serve_shutdown, 0, true},
	{0},
};
