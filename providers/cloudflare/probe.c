/* wire: cloudflare, Probe, acquire. What fails is told step by step, in the order in which it has to be put right. */
#include "cloudflare.h"

#include "protocol/js_value.h"

#include <string.h>

enum step { STEP_CONFIG, STEP_CONNECTION, STEP_BRIDGE, STEP_TOKEN, STEP_SANDBOX, STEPS };

static const struct {
	const char *code, *passed, *advice;
} steps[STEPS] = {
	[STEP_CONFIG] = {"config", "The settings are complete.", "Set it right in the environment's settings."},
	[STEP_CONNECTION] =
		{"connection", "The bridge's host can be reached.",
		 "Is the host in bridgeBaseUrl right, and can this machine reach it? Behind a corporate proxy set proxyUrl; "
		 "for a private certificate authority set caFile."},
	[STEP_BRIDGE] =
		{"bridge", "The bridge answers there.",
		 "Something else than the bridge answered, or did so too late. bridgeBaseUrl is the URL of the deployed Worker, "
		 "without a path of the bridge's own; nothing that asks for a login may stand in front of it."},
	[STEP_TOKEN] = {"token", "The bridge takes the token.",
			"bridgeAuthToken has to be the token that the bridge was deployed with."},
	[STEP_SANDBOX] =
		{"sandbox", "A sandbox ran a command.",
		 "The bridge is there, but could not start a sandbox or use requestedCwd. Its logs (wrangler tail) say more."},
};

/* How far it came. */
static enum step failed_step(const struct cloudflare_answer *a)
{
	if (a->status == 0)
		return a->timed_out && a->sent ? STEP_BRIDGE : STEP_CONNECTION;
	if (!a->json || a->status == 404 || a->status == 405)
		return STEP_BRIDGE;
	return a->status == 401 || a->status == 403 ? STEP_TOKEN : STEP_SANDBOX;
}

static json_t *diagnose(enum step failed, const char *text)
{
	json_t *list = json_array();

	for (enum step i = 0; i < failed; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "severity", "info", "message", steps[i].passed, "code",
						      steps[i].code));
	cleanup_free char *message = xasprintf("%s\n%s", text, steps[failed].advice);

	json_array_append_new(list,
			      json_pack("{s:s, s:s, s:s}", "severity", "error", "message", message, "code", steps[failed].code));
	return list;
}

static void report_failure(enum step failed, const struct err *cause, struct probe_report *ret)
{
	ret->summary = xstrdup("Cloudflare sandbox bridge probe failed.");
	ret->metadata = json_pack("{s:s, s:s}", "provider", "cloudflare", "error", err_text(cause));
	ret->diagnostics = diagnose(failed, err_text(cause));
}

/* The answer is the report as it came. */
static int take_report(json_t *answer, struct probe_report *ret, struct err *err)
{
	const json_t *summary = json_object_get(answer, "summary");

	if (!json_is_boolean(json_object_get(answer, "ok")))
		return cloudflare_set_malformed(err, "a probe without ok");
	ret->ok = json_is_true(json_object_get(answer, "ok"));
	json_object_del(answer, "ok");
	if (json_is_string(summary) && strlen(json_string_value(summary)) == json_string_length(summary)) {
		ret->summary = xstrdup(json_string_value(summary));
		json_object_del(answer, "summary");
	}
	json_t **const parts[] = {&ret->diagnostics, &ret->metadata};
	const char *const keys[] = {"diagnostics", "metadata"};

	for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		*parts[i] = json_incref(json_object_get(answer, keys[i]));
		json_object_del(answer, keys[i]);
	}
	ret->extra = json_incref(answer);
	return 0;
}

static json_t *probe_body(const struct cloudflare_config *c)
{
	return json_pack("{s:s, s:b, s:s, s:b, s:s, s:s, s:o}", "requestedCwd", c->requested_cwd, "keepAlive", c->keep_alive,
			 "sleepAfter", c->sleep_after, "normalizeId", c->normalize_id, "sessionStrategy",
			 cloudflare_session_strategy(c), "sessionId", c->session_id, "timeoutMs", js_number_json(c->timeout_ms));
}

int cloudflare_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err)
{
	cleanup_cloudflare_config struct cloudflare_config c = {0};
	cleanup_cloudflare_answer struct cloudflare_answer answer = {0};
	cleanup_err struct err e = ERR_INIT;

	if (cloudflare_config_read(op, p->base.config, &c, &e) < 0) {
		report_failure(STEP_CONFIG, &e, ret);
		return 0;
	}
	cleanup_json json_t *body = probe_body(&c);
	struct cloudflare_call call = {
		.method = "POST",
		.path = "/probe",
		.base = &p->base,
		.issue_id = p->base.issue_id,
		.timeout_ms = c.request_timeout_ms,
		.repeatable = true,
	};

	if (cloudflare_perform_json(op, &c, &call, body, &answer, &e) == 0 && take_report(answer.json, ret, &e) == 0)
		return 0;
	if (err_is(&e, ERR_CANCELLED))
		return err_move(err, &e);
	report_failure(err_is(&e, ERR_INVALID) && !answer.sent ? STEP_CONFIG : failed_step(&answer), &e, ret);
	return 0;
}
