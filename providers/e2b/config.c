/* wire: e2b, Config. */
#include "e2b.h"

#include "protocol/js_value.h"

#include <math.h>

#define TEMPLATE_DEFAULT "base"
#define TIMEOUT_DEFAULT_MS 3600000
#define TIMEOUT_MAX_MS 86400000
#define REQUEST_DEFAULT_MS 60000
#define REQUEST_MIN_MS 1000

/* requestTimeoutMs is a key of ours: NaN where it is not set. */
static double request_ms_of(const json_t *config)
{
	const json_t *value = json_object_get(config, "requestTimeoutMs");

	return value && !json_is_null(value) ? js_integer(value, -1) : NAN;
}

void e2b_config_parse(const json_t *config, struct e2b_config *ret)
{
	const json_t *timeout = json_object_get(config, "timeoutMs"), *template_id = json_object_get(config, "template");

	*ret = (struct e2b_config){
		.api_key = js_trimmed(json_object_get(config, "apiKey")),
		.template_id = js_trimmed(template_id),
		.timeout_ms = timeout && !json_is_null(timeout) ? js_integer(timeout, TIMEOUT_DEFAULT_MS) : TIMEOUT_DEFAULT_MS,
		.request_ms = request_ms_of(config),
		.reuse_lease = json_is_true(json_object_get(config, "reuseLease")),
	};
	ret->template_blank = json_is_string(template_id) && !ret->template_id;
	if (!ret->template_id)
		ret->template_id = xstrdup(TEMPLATE_DEFAULT);
	e2b_endpoints_parse(config, &ret->endpoints);
}

void e2b_config_deinit(struct e2b_config *c)
{
	if (!c)
		return;
	str_wipe_free(c->api_key);
	free(c->template_id);
	e2b_endpoints_deinit(&c->endpoints);
	*c = (struct e2b_config){0};
}

static void validate(const struct e2b_config *c, const json_t *config, struct strv *errors)
{
	if (c->template_blank)
		strv_add(errors, "E2B sandbox environments require a template.");
	if (!(c->timeout_ms >= 1 && c->timeout_ms <= TIMEOUT_MAX_MS))
		strv_addf(errors, "timeoutMs must be between 1 and %d.", TIMEOUT_MAX_MS);
	if (!isnan(c->request_ms) && !(c->request_ms >= REQUEST_MIN_MS && c->request_ms <= TIMEOUT_MAX_MS))
		strv_addf(errors, "requestTimeoutMs must be between %d and %d.", REQUEST_MIN_MS, TIMEOUT_MAX_MS);
	e2b_endpoints_validate(&c->endpoints, errors);
	http_options_validate(config, errors);
}

static void set_if_any(json_t *object, const char *key, const char *text)
{
	if (text)
		json_object_set_new(object, key, json_string(text));
}

static json_t *normalized(const struct e2b_config *c, const json_t *config)
{
	json_t *object = json_pack("{s:s, s:s?, s:o, s:b}", "template", c->template_id, "apiKey", c->api_key, "timeoutMs",
				   js_number_json(c->timeout_ms), "reuseLease", c->reuse_lease);

	set_if_any(object, "apiUrl", c->endpoints.api_url);
	set_if_any(object, "domain", c->endpoints.domain);
	set_if_any(object, "sandboxUrl", c->endpoints.sandbox_url);
	if (!isnan(c->request_ms))
		json_object_set_new(object, "requestTimeoutMs", js_number_json(c->request_ms));
	http_options_normalize(config, object);
	return object;
}

int e2b_validate_config(const json_t *config, struct validation *ret, struct err *err)
{
	cleanup_e2b_config struct e2b_config c = {0};

	(void)err;
	e2b_config_parse(config, &c);
	validate(&c, config, &ret->errors);
	if (ret->errors.count > 0)
		return 0;
	ret->normalized = normalized(&c, config);
	if (!e2b_has_key(&e2b_service, c.api_key))
		strv_addf(&ret->warnings, "%s", e2b_service.key_missing);
	return 0;
}

int e2b_config_client(struct op *op, const struct e2b_config *c, const json_t *config, struct e2b_client *ret, struct err *err)
{
	int64_t request_ms = c->request_ms >= REQUEST_MIN_MS && c->request_ms <= TIMEOUT_MAX_MS ? (int64_t)c->request_ms
												: REQUEST_DEFAULT_MS;

	return e2b_client_init(op, &e2b_service, config, c->api_key, request_ms, ret, err);
}
