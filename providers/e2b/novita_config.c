/* wire: e2b, Novita: the config. */
#include "e2b.h"

#include "protocol/js_value.h"

#include <math.h>

#define CWD_DEFAULT "/home/user/paperclip-workspace"
#define TIMEOUT_DEFAULT_MS 300000
#define TIMEOUT_MIN_MS 10000
#define REQUEST_DEFAULT_MS 30000
#define REQUEST_MIN_MS 1000
#define REQUEST_MAX_MS 86400000

/* A positive number; null, "" and whatever is none give the fallback. */
static double positive(const json_t *value, double fallback)
{
	if (!value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0))
		return fallback;
	double number = js_number(value);
	return isfinite(number) && number > 0 ? trunc(number) : fallback;
}

void novita_config_parse(const json_t *config, struct novita_config *ret)
{
	const json_t *secure = json_object_get(config, "secure");

	*ret = (struct novita_config){
		.api_key = js_trimmed(json_object_get(config, "apiKey")),
		.template_id = js_trimmed(json_object_get(config, "template")),
		.requested_cwd = js_trimmed(json_object_get(config, "requestedCwd")),
		.timeout_ms = positive(json_object_get(config, "timeoutMs"), TIMEOUT_DEFAULT_MS),
		.request_ms = positive(json_object_get(config, "requestTimeoutMs"), REQUEST_DEFAULT_MS),
		.secure = json_is_boolean(secure) ? json_is_true(secure) : -1,
		.auto_pause = json_is_true(json_object_get(config, "autoPause")),
		.reuse_lease = json_is_true(json_object_get(config, "reuseLease")),
	};
	if (!ret->requested_cwd)
		ret->requested_cwd = xstrdup(CWD_DEFAULT);
	e2b_endpoints_parse(config, &ret->endpoints);
}

void novita_config_deinit(struct novita_config *c)
{
	if (!c)
		return;
	str_wipe_free(c->api_key);
	free(c->template_id);
	free(c->requested_cwd);
	e2b_endpoints_deinit(&c->endpoints);
	*c = (struct novita_config){0};
}

static void validate(const struct novita_config *c, const json_t *config, struct strv *errors)
{
	if (!e2b_has_key(&novita_service, c->api_key))
		strv_add(errors, novita_service.key_missing);
	if (c->requested_cwd[0] != '/')
		strv_add(errors, "requestedCwd must be an absolute path.");
	if (c->timeout_ms < TIMEOUT_MIN_MS)
		strv_addf(errors, "timeoutMs must be at least %d.", TIMEOUT_MIN_MS);
	if (c->request_ms < REQUEST_MIN_MS)
		strv_addf(errors, "requestTimeoutMs must be at least %d.", REQUEST_MIN_MS);
	e2b_endpoints_validate(&c->endpoints, errors);
	http_options_validate(config, errors);
}

static json_t *normalized(const struct novita_config *c, const json_t *config)
{
	json_t *object = json_pack("{s:s?, s:s?, s:s?, s:s, s:o, s:o, s:o, s:b, s:b}", "apiKey", c->api_key, "domain",
				   c->endpoints.domain, "template", c->template_id, "requestedCwd", c->requested_cwd, "timeoutMs",
				   js_number_json(c->timeout_ms), "requestTimeoutMs", js_number_json(c->request_ms), "secure",
				   c->secure < 0 ? json_null() : json_boolean(c->secure), "autoPause", c->auto_pause,
				   "reuseLease", c->reuse_lease);

	if (c->endpoints.api_url)
		json_object_set_new(object, "apiUrl", json_string(c->endpoints.api_url));
	if (c->endpoints.sandbox_url)
		json_object_set_new(object, "sandboxUrl", json_string(c->endpoints.sandbox_url));
	http_options_normalize(config, object);
	return object;
}

int novita_validate_config(const json_t *config, struct validation *ret, struct err *err)
{
	cleanup_novita_config struct novita_config c = {0};

	(void)err;
	novita_config_parse(config, &c);
	validate(&c, config, &ret->errors);
	if (ret->errors.count == 0)
		ret->normalized = normalized(&c, config);
	return 0;
}

int novita_config_client(struct op *op, const struct novita_config *c, const json_t *config, struct e2b_client *ret,
			 struct err *err)
{
	int64_t request_ms = (int64_t)fmin(fmax(c->request_ms, REQUEST_MIN_MS), REQUEST_MAX_MS);

	return e2b_client_init(op, &novita_service, config, c->api_key, request_ms, ret, err);
}
