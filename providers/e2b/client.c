/* wire: e2b, Addresses and headers; Novita. */
#include "e2b.h"

#include "protocol/js_value.h"
#include "protocol/url.h"

#include <string.h>

const struct e2b_service e2b_service = {
	.name = "E2B",
	.provider = "e2b",
	.domain = "e2b.app",
	.key_variable = "E2B_API_KEY",
	.domain_variable = "E2B_DOMAIN",
	.api_url_variable = "E2B_API_URL",
	.sandbox_url_variable = "E2B_SANDBOX_URL",
	.key_missing = "E2B sandbox environments require an API key in config or E2B_API_KEY.",
	.create_path = "/v2/sandboxes",
	.connect_path = "/v2/sandboxes/%s/connect",
	.create_key = "paperclipCreateId",
	.pause_body = "{}",
	.shared_hosts = true,
};

/* The domain is the one that the driver's own SDK knows; sandboxes and templates of other regions are reached by naming theirs. */
const struct e2b_service novita_service = {
	.name = "Novita",
	.provider = "novita",
	.domain = "sandbox.novita.ai",
	.key_variable = "NOVITA_API_KEY",
	.domain_variable = "NOVITA_DOMAIN",
	.api_url_variable = "NOVITA_API_URL",
	.sandbox_url_variable = "NOVITA_SANDBOX_URL",
	.bearer_variable = "NOVITA_ACCESS_TOKEN",
	.key_missing = "Novita sandbox environments require an API key in config or NOVITA_API_KEY.",
	.create_path = "/sandboxes",
	.connect_path = "/sandboxes/%s/connect",
	.create_key = "paperclip-create-id",
	.client_in_id = true,
};

char *e2b_environment_text(const char *name)
{
	const char *value = name ? getenv(name) : NULL;
	cleanup_json json_t *text = value ? json_string(value) : NULL;

	return js_trimmed(text);
}

bool e2b_has_key(const struct e2b_service *service, const char *api_key)
{
	char *variable = e2b_environment_text(service->key_variable);
	bool has = api_key || variable;

	str_wipe_free(variable);
	return has;
}

/* --- endpoints --- */

void e2b_endpoints_parse(const json_t *config, struct e2b_endpoints *ret)
{
	*ret = (struct e2b_endpoints){
		.api_url = js_trimmed(json_object_get(config, "apiUrl")),
		.domain = js_trimmed(json_object_get(config, "domain")),
		.sandbox_url = js_trimmed(json_object_get(config, "sandboxUrl")),
	};
}

void e2b_endpoints_deinit(struct e2b_endpoints *e)
{
	free(e->api_url);
	free(e->domain);
	free(e->sandbox_url);
	*e = (struct e2b_endpoints){0};
}

static void validate_url(const char *key, const char *text, struct strv *errors)
{
	cleanup_url struct url url = {0};

	if (!text)
		return;
	if (url_parse(text, &url, NULL) < 0 || !str_nonempty(url.host))
		strv_addf(errors, "%s must be a valid URL.", key);
	else if (strcmp(url.scheme, "https") != 0 && !(strcmp(url.scheme, "http") == 0 && url_is_loopback(&url)))
		strv_addf(errors, "%s must be an https URL (http is for this machine only).", key);
}

bool e2b_is_domain(const char *text)
{
	cleanup_free char *whole = xasprintf("https://x.%s", text);
	cleanup_url struct url url = {0};

	return !text[strcspn(text, "/?#@\\ ")] && url_parse(whole, &url, NULL) == 0;
}

void e2b_endpoints_validate(const struct e2b_endpoints *e, struct strv *errors)
{
	validate_url("apiUrl", e->api_url, errors);
	if (e->domain && !e2b_is_domain(e->domain))
		strv_add(errors, "domain must be a host name like e2b.app.");
	validate_url("sandboxUrl", e->sandbox_url, errors);
}

/* --- the client --- */

static char *chosen(const char *of_config, const char *variable)
{
	return of_config ? xstrdup(of_config) : e2b_environment_text(variable);
}

static void strip_slashes(char *url)
{
	for (size_t len = url ? strlen(url) : 0; len > 0 && url[len - 1] == '/'; len--)
		url[len - 1] = '\0';
}

/* A value without a scheme means https (wire: e2b, Novita). */
static void complete_url(char **url)
{
	if (!*url || strstr(*url, "://"))
		return;
	char *whole = xasprintf("https://%s", *url);
	free(*url);
	*url = whole;
}

int e2b_client_init(struct op *op, const struct e2b_service *service, const json_t *config, const char *api_key,
		    int64_t request_ms, struct e2b_client *ret, struct err *err)
{
	cleanup_e2b_endpoints struct e2b_endpoints e = {0};

	e2b_endpoints_parse(config, &e);
	*ret = (struct e2b_client){
		.service = service,
		.request_ms = request_ms,
		.api_key = chosen(api_key, service->key_variable),
		.bearer = e2b_environment_text(service->bearer_variable),
		.domain = chosen(e.domain, service->domain_variable),
		.api_url = chosen(e.api_url, service->api_url_variable),
		.sandbox_url = chosen(e.sandbox_url, service->sandbox_url_variable),
	};
	if (!ret->api_key)
		return err_set(err, ERR_AUTH, "%s", service->key_missing);
	op_hold_secret(op, ret->api_key);
	op_hold_secret(op, ret->bearer);
	if (!ret->domain)
		ret->domain = xstrdup(service->domain);
	if (!ret->api_url)
		ret->api_url = xasprintf("https://api.%s", ret->domain);
	complete_url(&ret->api_url);
	complete_url(&ret->sandbox_url);
	strip_slashes(ret->api_url);
	strip_slashes(ret->sandbox_url);
	return http_options_read(config, &ret->http, err);
}

void e2b_client_deinit(struct e2b_client *c)
{
	if (!c)
		return;
	str_wipe_free(c->api_key);
	str_wipe_free(c->bearer);
	free(c->api_url);
	free(c->domain);
	free(c->sandbox_url);
	http_options_deinit(&c->http);
	*c = (struct e2b_client){0};
}
