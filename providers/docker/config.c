/* Config: strings are trimmed, numeric strings are numbers, only true is true, as in the other drivers. */
#include "docker.h"

#include "protocol/js_value.h"
#include "protocol/shell_quote.h"
#include "protocol/url.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>

#define IMAGE_DEFAULT "docker.io/library/node:22-bookworm"
#define WORKDIR_DEFAULT "/workspace"
#define PIDS_DEFAULT 1024
#define TIMEOUT_MAX_MS 86400000
#define SOCKET_PATH_MAX 107 /* sockaddr_un */
#define HOST_ERROR "host must be like tcp://engine.example:2376, https://…, unix:///path, or http://127.0.0.1:2375 on this machine."

struct reader {
	const json_t *config;
	struct strv *errors;
};

/* --- single values --- */

/* Trimmed and owned; NULL if absent, blank or wrong. */
static char *read_text(struct reader *r, const char *key)
{
	const json_t *value = json_object_get(r->config, key);

	if (value && !json_is_null(value) && !json_is_string(value)) {
		strv_addf(r->errors, "%s must be a string.", key);
		return NULL;
	}
	char *text = js_trimmed(value);

	if (text && strlen(json_string_value(value)) != json_string_length(value)) {
		strv_addf(r->errors, "%s must not contain a null character.", key);
		free(steal(&text));
	}
	return text;
}

static char *read_path(struct reader *r, const char *key)
{
	char *path = read_text(r, key);

	if (path && (*path != '/' || strstr(path, "/../") || str_ends_with(path, "/.."))) {
		strv_addf(r->errors, *path == '/' ? "%s must not contain \"..\"." : "%s must be an absolute path.", key);
		free(steal(&path));
	}
	return path;
}

static double read_number(struct reader *r, const char *key, double min, double max, double fallback)
{
	const json_t *value = json_object_get(r->config, key);

	if (!value || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0))
		return fallback;
	double number = json_is_number(value) || json_is_string(value) ? js_number(value) : NAN;

	if (!isfinite(number))
		strv_addf(r->errors, "%s must be a number.", key);
	else if (number < min || number > max)
		strv_addf(r->errors, "%s must be between %.15g and %.15g.", key, min, max);
	else
		return number;
	return fallback;
}

static double read_integer(struct reader *r, const char *key, double min, double max, double fallback)
{
	return trunc(read_number(r, key, min, max, fallback));
}

static bool read_flag(struct reader *r, const char *key, bool fallback)
{
	const json_t *value = json_object_get(r->config, key);

	return !value || json_is_null(value) ? fallback : json_is_true(value);
}

static bool is_plain(const json_t *value)
{
	return json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value);
}

/* An object of strings: a copy. is_key: NULL: any name. */
static json_t *read_strings(struct reader *r, const char *name, bool (*is_key)(const char *), const char *bad_key)
{
	const json_t *object = json_object_get(r->config, name);
	json_t *ret = json_object(), *value;
	const char *key;

	if (!object || json_is_null(object))
		return ret;
	if (!json_is_object(object)) {
		strv_addf(r->errors, "%s must be an object of strings.", name);
		return ret;
	}
	json_object_foreach((json_t *)(uintptr_t)object, key, value) {
		if (!is_key(key))
			strv_addf(r->errors, "%s: %s", bad_key, key);
		else if (!is_plain(value))
			strv_addf(r->errors, "%s.%s must be a string without null characters.", name, key);
		else
			json_object_set(ret, key, value);
	}
	return ret;
}

/* Ours are not to be given by others. */
static bool is_label(const char *key)
{
	return *key && !str_starts_with(key, "io.paperclip.");
}

/* --- capabilities --- */

static bool is_capability(const char *text)
{
	return *text && text[strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_")] == '\0';
}

/* An array of names, or a string of names with commas or blanks between them, as people type it. */
static json_t *read_capabilities(struct reader *r, const char *key, const json_t *fallback)
{
	const json_t *value = json_object_get(r->config, key);
	json_t *list = json_array();

	if (!value || json_is_null(value)) {
		json_array_extend(list, (json_t *)(uintptr_t)fallback);
		return list;
	}
	if (!json_is_array(value)) {
		strv_addf(r->errors, "%s must be a list of names like NET_BIND_SERVICE.", key);
		return list;
	}
	for (size_t i = 0; i < json_array_size(value); i++) {
		cleanup_free char *name = js_trimmed(json_array_get(value, i));
		const char *bare = name && str_starts_with(name, "CAP_") ? name + 4 : name;

		if (!bare || !is_capability(bare))
			strv_addf(r->errors, "%s[%zu] must be a name like NET_BIND_SERVICE.", key, i);
		else
			json_array_append_new(list, json_string(bare));
	}
	return list;
}

/* --- where the engine is --- */

static void use_socket(struct reader *r, struct docker_config *c, char *path)
{
	if (strlen(path) > SOCKET_PATH_MAX)
		strv_addf(r->errors, "socketPath must have at most %d characters.", SOCKET_PATH_MAX);
	c->http.socket_path = path;
	c->base_url = xstrdup("http://localhost");
	c->place = xasprintf("unix://%s", path);
}

static bool is_socket(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* The first of the usual ones that is there. Owned. */
static char *default_socket(void)
{
	cleanup_free char *of_user = xasprintf("/run/user/%u", (unsigned)getuid());
	cleanup_free char *rootless = xasprintf("%s/docker.sock", of_user);
	cleanup_free char *podman = xasprintf("%s/podman/podman.sock", of_user);
	const char *const usual[] = {"/var/run/docker.sock", "/run/podman/podman.sock", rootless, podman};

	for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) {
		if (is_socket(usual[i]))
			return xstrdup(usual[i]);
	}
	return xstrdup(usual[0]);
}

/* tcp:// is how Docker's own tools call both. */
static char *url_of_host(const char *host)
{
	if (!str_starts_with(host, "tcp://"))
		return strstr(host, "://") ? xstrdup(host) : xasprintf("https://%s", host);
	cleanup_free char *secure = xasprintf("https://%s", host + strlen("tcp://"));
	cleanup_url struct url url = {0};
	bool plain = url_parse(secure, &url, NULL) == 0 && url_is_loopback(&url) && url.port != 2376;

	return xasprintf("%s://%s", plain ? "http" : "https", host + strlen("tcp://"));
}

static void use_host(struct reader *r, struct docker_config *c, const char *host)
{
	cleanup_free char *text = url_of_host(host);
	cleanup_url struct url url = {0};

	if (url_parse(text, &url, NULL) < 0 || !url.host || *url.username || *url.password || url.query ||
	    (strcmp(url.scheme, "https") != 0 && !(strcmp(url.scheme, "http") == 0 && url_is_loopback(&url)))) {
		strv_add(r->errors, HOST_ERROR);
		return;
	}
	cleanup_free char *target = url_target(&url);

	for (size_t n = strlen(target); n > 0 && target[n - 1] == '/'; n--)
		target[n - 1] = '\0';
	if (url.port < 0 && strcmp(url.scheme, "https") == 0 && !strrchr(target + strlen("https://"), ':'))
		c->base_url = xasprintf("%s:2376", target);
	else
		c->base_url = steal(&target);
	c->place = xstrdup(c->base_url);
}

static void read_place(struct reader *r, struct docker_config *c)
{
	char *path = read_path(r, "socketPath");
	cleanup_free char *host = read_text(r, "host");
	cleanup_err struct err err = ERR_INIT;

	if (http_options_read(r->config, &c->http, &err) < 0)
		strv_add(r->errors, err_text(&err));
	c->http.cert_file = read_path(r, "tlsCertFile");
	c->http.key_file = read_path(r, "tlsKeyFile");
	if (path && host) {
		strv_add(r->errors, "Set either socketPath or host, not both.");
		free(path);
	} else if (host && str_starts_with(host, "unix://")) {
		use_socket(r, c, xstrdup(host + strlen("unix://")));
	} else if (host) {
		use_host(r, c, host);
	} else {
		use_socket(r, c, path ? path : default_socket());
	}
	if (c->http.key_file && !c->http.cert_file)
		strv_add(r->errors, "tlsKeyFile needs tlsCertFile.");
}

/* --- all --- */

static enum docker_pull read_pull(struct reader *r)
{
	static const char *const names[] = {
		[DOCKER_PULL_MISSING] = "missing", [DOCKER_PULL_ALWAYS] = "always", [DOCKER_PULL_NEVER] = "never"};
	cleanup_free char *text = read_text(r, "pullPolicy");

	for (size_t i = 0; text && i < sizeof names / sizeof names[0]; i++) {
		if (strcmp(text, names[i]) == 0)
			return (enum docker_pull)i;
	}
	if (text)
		strv_add(r->errors, "pullPolicy must be \"always\", \"missing\" or \"never\".");
	return DOCKER_PULL_MISSING;
}

bool docker_image_name_is_valid(const char *image)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@";

	return *image && !image[strspn(image, plain)] && *image != '/' && !strstr(image, "..");
}

static char *text_or(char *text, const char *fallback)
{
	return text ? text : xstrdup(fallback);
}

static void check(struct reader *r, const struct docker_config *c)
{
	if (!docker_image_name_is_valid(c->image))
		strv_add(r->errors, "image must be a name like docker.io/library/debian:12.");
	if (!!c->registry_username != !!c->registry_password)
		strv_add(r->errors, "registryUsername and registryPassword belong together.");
	if (strcmp(c->workdir, "/") == 0)
		strv_add(r->errors, "workdir must not be /.");
	if (c->network && strcmp(c->network, "host") == 0)
		strv_add(r->errors, "network must not be host: the container would share this machine's network. Name a network, or none.");
	if (c->network && (str_starts_with(c->network, "container:") || str_starts_with(c->network, "ns:")))
		strv_add(r->errors, "network must not be another container's or namespace's.");
}

static void read_box(struct reader *r, struct docker_config *c)
{
	cleanup_json json_t *all = json_pack("[s]", "ALL");
	/* Enough to install packages, hand files over and end commands of other users; all of it inside the container. */
	cleanup_json json_t *some = json_pack("[s, s, s, s, s, s]", "CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID");

	c->user = read_text(r, "user");
	c->workdir = text_or(read_path(r, "workdir"), WORKDIR_DEFAULT);
	c->network = read_text(r, "network");
	c->runtime = read_text(r, "runtime");
	c->memory_mb = read_integer(r, "memoryMb", 16, 16777216, 0);
	c->cpus = read_number(r, "cpus", 0.01, 1024, 0);
	c->pids_limit = read_integer(r, "pidsLimit", 8, 4194304, PIDS_DEFAULT);
	c->mounts = docker_mounts_read(r->config, r->errors);
	c->env = read_strings(r, "env", shell_env_key_is_valid, "Invalid sandbox environment variable key");
	c->labels = read_strings(r, "labels", is_label, "Invalid label (io.paperclip. is the driver's own)");
	c->cap_drop = read_capabilities(r, "capDrop", all);
	c->cap_add = read_capabilities(r, "capAdd", some);
	c->read_only_root = read_flag(r, "readOnlyRoot", false);
	c->no_new_privileges = read_flag(r, "noNewPrivileges", true);
	c->allow_engine_socket = read_flag(r, "allowEngineSocket", false);
}

void docker_config_parse(const json_t *config, struct docker_config *ret, struct strv *errors)
{
	struct reader r = {.config = config, .errors = errors};

	*ret = (struct docker_config){0};
	read_place(&r, ret);
	ret->image = text_or(read_text(&r, "image"), IMAGE_DEFAULT);
	ret->pull = read_pull(&r);
	ret->registry_username = read_text(&r, "registryUsername");
	ret->registry_password = read_text(&r, "registryPassword");
	read_box(&r, ret);
	ret->timeout_ms = read_integer(&r, "timeoutMs", 1, TIMEOUT_MAX_MS, DOCKER_TIMEOUT_DEFAULT_MS);
	ret->idle_timeout_ms = read_integer(&r, "idleTimeoutMs", 1000, 30.0 * TIMEOUT_MAX_MS, 0);
	ret->reuse_lease = read_flag(&r, "reuseLease", false);
	check(&r, ret);
}

void docker_config_deinit(struct docker_config *c)
{
	if (!c)
		return;
	http_options_deinit(&c->http);
	free(c->base_url);
	free(c->place);
	free(c->image);
	free(c->registry_username);
	str_wipe_free(c->registry_password);
	free(c->user);
	free(c->workdir);
	free(c->network);
	free(c->runtime);
	json_decref(c->mounts);
	json_decref(c->env);
	json_decref(c->labels);
	json_decref(c->cap_drop);
	json_decref(c->cap_add);
	*c = (struct docker_config){0};
}

bool docker_config_is_local(const struct docker_config *c)
{
	return c->http.socket_path != NULL;
}

/* --- the normal form: what was set, in its own type --- */

static void keep_text(json_t *object, const json_t *config, const char *key)
{
	cleanup_free char *text = js_trimmed(json_object_get(config, key));

	if (text)
		json_object_set_new(object, key, json_string(text));
}

static void keep_number(json_t *object, const json_t *config, const char *key, double number)
{
	const json_t *value = json_object_get(config, key);

	if (value && !json_is_null(value) && number > 0)
		json_object_set_new(object, key, js_number_json(number));
}

static void keep_value(json_t *object, const json_t *config, const char *key, json_t *value)
{
	const json_t *given = json_object_get(config, key);

	if (given && !json_is_null(given))
		json_object_set(object, key, value);
}

static void keep_flag(json_t *object, const json_t *config, const char *key, bool flag)
{
	if (json_object_get(config, key))
		json_object_set_new(object, key, json_boolean(flag));
}

json_t *docker_config_normalized(const struct docker_config *c, const json_t *config)
{
	static const char *const texts[] = {"socketPath", "host", "tlsCertFile", "tlsKeyFile", "pullPolicy", "registryUsername",
					    "registryPassword", "user", "network", "runtime"};
	json_t *object = json_object();

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		keep_text(object, config, texts[i]);
	json_object_set_new(object, "image", json_string(c->image));
	json_object_set_new(object, "workdir", json_string(c->workdir));
	keep_number(object, config, "memoryMb", c->memory_mb);
	keep_number(object, config, "cpus", c->cpus);
	keep_number(object, config, "pidsLimit", c->pids_limit);
	keep_number(object, config, "idleTimeoutMs", c->idle_timeout_ms);
	keep_value(object, config, "mounts", c->mounts);
	keep_value(object, config, "env", c->env);
	keep_value(object, config, "labels", c->labels);
	keep_value(object, config, "capDrop", c->cap_drop);
	keep_value(object, config, "capAdd", c->cap_add);
	keep_flag(object, config, "readOnlyRoot", c->read_only_root);
	keep_flag(object, config, "noNewPrivileges", c->no_new_privileges);
	keep_flag(object, config, "allowEngineSocket", c->allow_engine_socket);
	json_object_set_new(object, "timeoutMs", js_number_json(c->timeout_ms));
	json_object_set_new(object, "reuseLease", json_boolean(c->reuse_lease));
	http_options_normalize(config, object);
	return object;
}

int docker_config_read(struct op *op, const json_t *config, struct docker_config *ret, struct err *err)
{
	cleanup_strv struct strv errors = {0};

	docker_config_parse(config, ret, &errors);
	op_hold_secret(op, ret->registry_password);
	return errors.count > 0 ? err_set(err, ERR_INVALID, "%s", errors.items[0]) : 0;
}
