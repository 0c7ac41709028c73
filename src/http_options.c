#include "base/mem.h"
#include "base/str.h"
#include "http.h"
#include "protocol/js_value.h"
#include "protocol/url.h"
#include "secret.h"

#include <string.h>

static const char *const keys[] = {"proxyUrl", "proxyCredentials", "caFile"};

static bool is_proxy_scheme(const char *scheme)
{
	static const char *const schemes[] = {"http", "https", "socks5", "socks5h"};

	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++)
		if (strcmp(scheme, schemes[i]) == 0)
			return true;
	return false;
}

/* user:password@ of the proxy's URL, decoded; NULL: none. */
static char *url_credentials(const struct url *u)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	if (!*u->username && !*u->password)
		return NULL;
	url_percent_decode(&out, u->username, strlen(u->username));
	buf_append_char(&out, ':');
	url_percent_decode(&out, u->password, strlen(u->password));
	return buf_steal(&out);
}

static int read_proxy(const char *text, struct http_options *ret, struct err *err)
{
	struct url u;
	int rc = 0;

	if (url_parse(text, &u, NULL) < 0 || !u.host || !*u.host || !is_proxy_scheme(u.scheme)) {
		url_deinit(&u);
		return err_set(err, ERR_INVALID, "proxyUrl must be a URL like http://proxy.example:3128 (http, https, socks5 or socks5h).");
	}
	if ((*u.path && strcmp(u.path, "/") != 0) || u.query)
		rc = err_set(err, ERR_INVALID, "proxyUrl must hold no path.");
	/* A port that is the scheme's own is said all the same: curl takes 1080 for any proxy without one. */
	if (rc == 0) {
		ret->proxy_url = xasprintf("%s://%s:%d", u.scheme, u.host, url_effective_port(&u) < 0 ? 1080 : url_effective_port(&u));
		ret->proxy_credentials = url_credentials(&u);
	}
	url_deinit(&u);
	return rc;
}

static int read_credentials(char *credentials, struct http_options *ret, struct err *err)
{
	if (!strchr(credentials, ':')) {
		str_wipe_free(credentials);
		return err_set(err, ERR_INVALID, "proxyCredentials must be user:password.");
	}
	str_wipe_free(ret->proxy_credentials);
	ret->proxy_credentials = credentials;
	return 0;
}

static int read_ca_file(char *path, struct http_options *ret, struct err *err)
{
	if (*path != '/') {
		free(path);
		return err_set(err, ERR_INVALID, "caFile must be an absolute path.");
	}
	ret->ca_file = path;
	return 0;
}

static int read_key(const json_t *config, const char *key, struct http_options *ret, struct err *err)
{
	const json_t *member = json_object_get(config, key);
	char *value = js_trimmed(member);
	int rc;

	if (member && !json_is_null(member) && !json_is_string(member))
		return err_set(err, ERR_INVALID, "%s must be a string.", key);
	if (!value)
		return 0;
	if (strcmp(key, "proxyUrl") == 0) {
		rc = read_proxy(value, ret, err);
		str_wipe_free(value);
		return rc;
	}
	return strcmp(key, "caFile") == 0 ? read_ca_file(value, ret, err) : read_credentials(value, ret, err);
}

int http_options_read(const json_t *config, struct http_options *ret, struct err *err)
{
	*ret = (struct http_options){0};
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (read_key(config, keys[i], ret, err) < 0) {
			http_options_deinit(ret);
			return -1;
		}
	}
	ret->secret = secret_hold(ret->proxy_credentials);
	return 0;
}

void http_options_deinit(struct http_options *options)
{
	if (!options)
		return;
	secret_release(options->secret);
	free(options->proxy_url);
	str_wipe_free(options->proxy_credentials);
	free(options->ca_file);
	free(options->socket_path);
	free(options->cert_file);
	free(options->key_file);
	*options = (struct http_options){0};
}

void http_options_validate(const json_t *config, struct strv *errors)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		struct http_options options = {0};
		cleanup_err struct err err = ERR_INIT;

		if (read_key(config, keys[i], &options, &err) < 0)
			strv_add(errors, err_text(&err));
		http_options_deinit(&options);
	}
}

void http_options_normalize(const json_t *config, json_t *normalized)
{
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		char *value = js_trimmed(json_object_get(config, keys[i]));

		if (value)
			json_object_set_new(normalized, keys[i], json_string(value));
		str_wipe_free(value);
	}
}
