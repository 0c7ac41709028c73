/* wire: cloudflare, Config. */
#include "cloudflare.h"

#include "protocol/js_value.h"
#include "protocol/url.h"

#include <string.h>

#define TIMEOUT_DEFAULT_MS 300000
#define TIMEOUT_MAX_MS 86400000

static char *text_or(const json_t *config, const char *key, const char *fallback)
{
	char *text = js_trimmed(json_object_get(config, key));

	return text || !fallback ? text : xstrdup(fallback);
}

void cloudflare_config_parse(const json_t *config, struct cloudflare_config *ret)
{
	const json_t *normalize = json_object_get(config, "normalizeId");
	const char *strategy = json_string_value(json_object_get(config, "sessionStrategy"));

	*ret = (struct cloudflare_config){
		.base_url = text_or(config, "bridgeBaseUrl", ""),
		.token = text_or(config, "bridgeAuthToken", ""),
		.reuse_lease = json_is_true(json_object_get(config, "reuseLease")),
		.keep_alive = json_is_true(json_object_get(config, "keepAlive")),
		.normalize_id = !normalize || json_is_true(normalize),
		.default_session = strategy && strcmp(strategy, "default") == 0,
		.sleep_after = text_or(config, "sleepAfter", "1h"),
		.requested_cwd = text_or(config, "requestedCwd", "/workspace/paperclip"),
		.session_id = text_or(config, "sessionId", "paperclip"),
		.preview_hostname = text_or(config, "previewHostname", NULL),
		.timeout_ms = js_integer(json_object_get(config, "timeoutMs"), TIMEOUT_DEFAULT_MS),
		.request_timeout_ms = js_integer(json_object_get(config, "bridgeRequestTimeoutMs"), TIMEOUT_DEFAULT_MS),
	};
}

void cloudflare_config_deinit(struct cloudflare_config *c)
{
	if (!c)
		return;
	free(c->base_url);
	str_wipe_free(c->token);
	free(c->sleep_after);
	free(c->requested_cwd);
	free(c->session_id);
	free(c->preview_hostname);
	http_options_deinit(&c->http);
	*c = (struct cloudflare_config){0};
}

const char *cloudflare_session_strategy(const struct cloudflare_config *c)
{
	return c->default_session ? "default" : "named";
}

/* --- validation --- */

/* http:// is for this machine; [::1] is refused, as it has always been. */
static int check_url(const char *text, struct err *err)
{
	cleanup_url struct url url = {0};

	if (!*text)
		return err_set(err, ERR_INVALID, "Cloudflare sandbox environments require bridgeBaseUrl.");
	if (url_parse(text, &url, NULL) < 0)
		return err_set(err, ERR_INVALID, "bridgeBaseUrl must be a valid URL.");
	bool is_local = strcmp(url.scheme, "http") == 0 && (str_eq(url.host, "localhost") || str_eq(url.host, "127.0.0.1"));

	if (strcmp(url.scheme, "https") != 0 && !is_local)
		return err_set(err, ERR_INVALID, "bridgeBaseUrl must use HTTPS unless it points at localhost.");
	return 0;
}

static int check_token(const char *token, struct err *err)
{
	return *token ? 0 : err_set(err, ERR_AUTH, "Cloudflare sandbox environments require bridgeAuthToken.");
}

static void add_if_failed(int rc, struct err *err, struct strv *errors)
{
	if (rc < 0)
		strv_add(errors, err_text(err));
	err_clear(err);
}

static void check_time(double ms, const char *key, struct strv *errors)
{
	if (!(ms >= 1 && ms <= TIMEOUT_MAX_MS))
		strv_addf(errors, "%s must be between 1 and %d.", key, TIMEOUT_MAX_MS);
}

/* What is valid, but does not do what it seems to. */
static void warn(const struct cloudflare_config *c, struct strv *warnings)
{
	cleanup_url struct url url = {0};

	if (url_parse(c->base_url, &url, NULL) < 0)
		return;
	if (url.query || url.fragment)
		strv_add(warnings,
			 "bridgeBaseUrl holds a ? or #, which swallows the paths of the bridge's routes: leave it out.");
	if (*url.username || *url.password)
		strv_add(warnings,
			 "bridgeBaseUrl holds a user name or password, with which no request can be sent: leave them out.");
}

void cloudflare_config_validate(const struct cloudflare_config *c, const json_t *config, struct validation *ret)
{
	struct strv *errors = &ret->errors;
	cleanup_err struct err err = ERR_INIT;

	add_if_failed(check_url(c->base_url, &err), &err, errors);
	add_if_failed(check_token(c->token, &err), &err, errors);
	if (c->reuse_lease && !c->keep_alive)
		strv_add(errors, "reuseLease requires keepAlive for Cloudflare sandboxes.");
	check_time(c->timeout_ms, "timeoutMs", errors);
	check_time(c->request_timeout_ms, "bridgeRequestTimeoutMs", errors);
	if (c->requested_cwd[0] != '/')
		strv_add(errors, "requestedCwd must be an absolute POSIX path.");
	http_options_validate(config, errors);
	if (errors->count == 0)
		warn(c, &ret->warnings);
}

json_t *cloudflare_config_normalized(const struct cloudflare_config *c, const json_t *config)
{
	json_t *object = json_pack("{s:s, s:s, s:b, s:b, s:b, s:s, s:s, s:s, s:s, s:o, s:o, s:s?}", "bridgeBaseUrl", c->base_url,
				   "bridgeAuthToken", c->token, "reuseLease", c->reuse_lease, "keepAlive", c->keep_alive,
				   "normalizeId", c->normalize_id, "sleepAfter", c->sleep_after, "requestedCwd", c->requested_cwd,
				   "sessionStrategy", cloudflare_session_strategy(c), "sessionId", c->session_id, "timeoutMs",
				   js_number_json(c->timeout_ms), "bridgeRequestTimeoutMs", js_number_json(c->request_timeout_ms),
				   "previewHostname", c->preview_hostname);

	http_options_normalize(config, object);
	return object;
}

/* --- for calls --- */

int cloudflare_config_read(struct op *op, const json_t *config, struct cloudflare_config *ret, struct err *err)
{
	cloudflare_config_parse(config, ret);
	op_hold_secret(op, ret->token);
	if (check_url(ret->base_url, err) < 0 || check_token(ret->token, err) < 0)
		return -1;
	for (size_t len = strlen(ret->base_url); len > 0 && ret->base_url[len - 1] == '/'; len--)
		ret->base_url[len - 1] = '\0';
	return http_options_read(config, &ret->http, err);
}
