/* wire: modal, Config of the driver. */
#include "modal.h"

#include "protocol/js_value.h"
#include "protocol/url.h"

#include <math.h>
#include <string.h>

#define SERVER_DEFAULT "https://api.modal.com:443"
#define WORKDIR_DEFAULT "/workspace/paperclip"
#define SANDBOX_TIMEOUT_DEFAULT_MS 3600000
#define SANDBOX_TIMEOUT_MAX_MS 86400000
#define EXEC_TIMEOUT_DEFAULT_MS 300000
#define SERVER_URL_ERROR "serverUrl must be an https:// URL, or an http:// URL of this machine."

static char *text_or(const json_t *value, const char *fallback)
{
	char *text = js_trimmed(value);

	return text ? text : xstrdup(fallback);
}

static double number_or(const json_t *value, double fallback)
{
	bool absent = !value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0);

	return absent ? fallback : js_integer(value, fallback) + 0.0;
}

static void read_cidrs(const json_t *value, struct strv *ret)
{
	for (size_t i = 0; i < json_array_size(value); i++) {
		char *text = js_trimmed(json_array_get(value, i));

		if (text)
			strv_take(ret, text);
	}
}

void modal_config_parse(const json_t *config, struct modal_config *ret)
{
	*ret = (struct modal_config){
		.app_name = text_or(json_object_get(config, "appName"), ""),
		.image = text_or(json_object_get(config, "image"), ""),
		.token_id = js_trimmed(json_object_get(config, "tokenId")),
		.token_secret = js_trimmed(json_object_get(config, "tokenSecret")),
		.environment = js_trimmed(json_object_get(config, "environment")),
		.workdir = text_or(json_object_get(config, "workdir"), WORKDIR_DEFAULT),
		.server_url = js_trimmed(json_object_get(config, "serverUrl")),
		.sandbox_timeout_ms = number_or(json_object_get(config, "sandboxTimeoutMs"), SANDBOX_TIMEOUT_DEFAULT_MS),
		.idle_timeout_ms = number_or(json_object_get(config, "idleTimeoutMs"), NAN),
		.exec_timeout_ms = number_or(json_object_get(config, "execTimeoutMs"), EXEC_TIMEOUT_DEFAULT_MS),
		.block_network = json_is_true(json_object_get(config, "blockNetwork")),
		.reuse_lease = json_is_true(json_object_get(config, "reuseLease")),
	};
	read_cidrs(json_object_get(config, "cidrAllowlist"), &ret->cidrs);
}

void modal_config_deinit(struct modal_config *c)
{
	if (!c)
		return;
	free(c->app_name);
	free(c->image);
	str_wipe_free(c->token_id);
	str_wipe_free(c->token_secret);
	free(c->environment);
	free(c->workdir);
	free(c->server_url);
	free(c->server);
	strv_deinit(&c->cidrs);
	http_options_deinit(&c->http);
	*c = (struct modal_config){0};
}

/* --- validation --- */

static bool is_whole_seconds(double ms)
{
	return ms >= 1000 && fmod(ms, 1000) == 0;
}

/* *ret: scheme, host and port, owned. */
static int read_server(const char *text, char **ret, bool *ret_is_local, struct err *err)
{
	static const char *const local_hosts[] = {"localhost", "127.0.0.1", "[::1]", "172.21.0.1"};
	cleanup_url struct url url = {0};

	if (url_parse(text, &url, NULL) < 0 || !url.host ||
	    (strcmp(url.scheme, "https") != 0 && !(strcmp(url.scheme, "http") == 0 && url_is_loopback(&url))))
		return err_set(err, ERR_INVALID, SERVER_URL_ERROR);
	*ret_is_local = false;
	for (size_t i = 0; i < sizeof(local_hosts) / sizeof(*local_hosts); i++)
		*ret_is_local = *ret_is_local || strcmp(url.host, local_hosts[i]) == 0;
	*ret = xasprintf("%s://%s:%d", url.scheme, url.host, url_effective_port(&url));
	return 0;
}

void modal_config_validate(const struct modal_config *c, const json_t *config, struct strv *errors)
{
	if (!*c->app_name)
		strv_add(errors, "Modal sandbox environments require an appName.");
	if (!*c->image)
		strv_add(errors, "Modal sandbox environments require an image reference.");
	if (!is_whole_seconds(c->sandbox_timeout_ms) || c->sandbox_timeout_ms > SANDBOX_TIMEOUT_MAX_MS)
		strv_add(errors, "sandboxTimeoutMs must be a positive multiple of 1000 between 1000 and 86400000.");
	if (!isnan(c->idle_timeout_ms) && !is_whole_seconds(c->idle_timeout_ms))
		strv_add(errors, "idleTimeoutMs must be a positive multiple of 1000 when provided.");
	if (!is_whole_seconds(c->exec_timeout_ms))
		strv_add(errors, "execTimeoutMs must be a positive multiple of 1000.");
	if (c->block_network && c->cidrs.count > 0)
		strv_add(errors, "cidrAllowlist cannot be combined with blockNetwork.");
	if (!c->token_id && !c->token_secret)
		strv_add(errors, "Modal sandbox environments require tokenId and tokenSecret.");
	else if (!c->token_id || !c->token_secret)
		strv_add(errors, "tokenId and tokenSecret must both be provided when either is set.");
	if (c->server_url) {
		cleanup_free char *server = NULL;
		bool is_local;

		if (read_server(c->server_url, &server, &is_local, NULL) < 0)
			strv_add(errors, SERVER_URL_ERROR);
	}
	http_options_validate(config, errors);
}

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

json_t *modal_config_normalized(const struct modal_config *c, const json_t *config)
{
	json_t *cidrs = c->cidrs.count > 0 ? json_array() : json_null();
	json_t *object = json_pack("{s:s, s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:b, s:o, s:b}", "appName", c->app_name,
				   "image", c->image, "tokenId", text_or_null(c->token_id), "tokenSecret",
				   text_or_null(c->token_secret), "environment", text_or_null(c->environment), "workdir",
				   c->workdir, "sandboxTimeoutMs", js_number_json(c->sandbox_timeout_ms), "idleTimeoutMs",
				   isnan(c->idle_timeout_ms) ? json_null() : js_number_json(c->idle_timeout_ms), "execTimeoutMs",
				   js_number_json(c->exec_timeout_ms), "blockNetwork", c->block_network, "cidrAllowlist", cidrs,
				   "reuseLease", c->reuse_lease);

	for (size_t i = 0; i < c->cidrs.count; i++)
		json_array_append_new(cidrs, json_string(c->cidrs.items[i]));
	if (c->server_url)
		json_object_set_new(object, "serverUrl", json_string(c->server_url));
	http_options_normalize(config, object);
	return object;
}

/* --- for calls --- */

int modal_config_read(const json_t *config, struct modal_config *ret, struct err *err)
{
	const char *environment = getenv("MODAL_SERVER_URL");

	modal_config_parse(config, ret);
	if (!ret->token_id != !ret->token_secret)
		return err_set(err, ERR_AUTH,
			       "Modal sandbox environments require both tokenId and tokenSecret to be configured.");
	if (!ret->token_id)
		return err_set(err, ERR_AUTH,
			       "Profile is missing token_id or token_secret. Please set them in .modal.toml, or as environment "
			       "variables, "
			       "or via ModalClient constructor.");
	const char *server = ret->server_url ? ret->server_url : str_nonempty(environment) ? environment : SERVER_DEFAULT;

	if (read_server(server, &ret->server, &ret->server_is_local, err) < 0)
		return -1;
	return http_options_read(config, &ret->http, err);
}

static int check_seconds(const char *name, double ms, struct err *err)
{
	if (ms <= 0)
		return err_set(err, ERR_INVALID, "%s must be positive, got %.0f", name, ms);
	if (fmod(ms, 1000) != 0)
		return err_set(err, ERR_INVALID, "%s must be a multiple of 1000ms, got %.0f", name, ms);
	return 0;
}

int modal_config_check_create(const struct modal_config *c, struct err *err)
{
	if (check_seconds("timeoutMs", c->sandbox_timeout_ms, err) < 0)
		return -1;
	if (!isnan(c->idle_timeout_ms) && check_seconds("idleTimeoutMs", c->idle_timeout_ms, err) < 0)
		return -1;
	if (*c->workdir != '/')
		return err_set(err, ERR_INVALID, "workdir must be an absolute path, got: %s", c->workdir);
	if (c->block_network && c->cidrs.count > 0)
		return err_set(err, ERR_INVALID, "cidrAllowlist cannot be used when blockNetwork is enabled");
	return 0;
}
