/* What of the engine's machine may be shown to a container. A socket of the engine is the key to that machine (wire: docker, 3). */
#include "docker.h"

#include "protocol/js_value.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define MOUNTS_MAX 128

/* --- reading --- */

/* "source[:target][:ro|rw]", as people know it from the engine's own tools. */
static void split(char *text, char **ret_source, char **ret_target, bool *ret_writable)
{
	char *mode = strrchr(text, ':');

	if (mode && (strcmp(mode, ":ro") == 0 || strcmp(mode, ":rw") == 0)) {
		*ret_writable = strcmp(mode, ":rw") == 0;
		*mode = '\0';
	}
	char *colon = strchr(text, ':');

	if (colon)
		*colon = '\0';
	*ret_source = xstrdup(text);
	*ret_target = colon ? xstrdup(colon + 1) : NULL;
}

static bool is_clean_path(const char *path)
{
	return *path == '/' && !strstr(path, "/../") && !str_ends_with(path, "/..");
}

static void add_mount(json_t *list, const char *name, const char *source, const char *target, bool writable, struct strv *errors)
{
	static const char *const kernel[] = {"/proc", "/sys", "/dev"};

	if (!source || !is_clean_path(source)) {
		strv_addf(errors, "%s.source must be an absolute path without \"..\".", name);
		return;
	}
	if (!is_clean_path(target) || strcmp(target, "/") == 0) {
		strv_addf(errors, "%s.target must be an absolute path without \"..\", and not /.", name);
		return;
	}
	for (size_t i = 0; i < sizeof kernel / sizeof kernel[0]; i++) {
		size_t n = strlen(kernel[i]);

		if (strncmp(target, kernel[i], n) == 0 && (target[n] == '\0' || target[n] == '/')) {
			strv_addf(errors, "%s.target must not lie in %s.", name, kernel[i]);
			return;
		}
	}
	json_array_append_new(list, json_pack("{s:s, s:s, s:b}", "source", source, "target", target, "writable", writable));
}

json_t *docker_mounts_read(const json_t *config, struct strv *errors)
{
	const json_t *given = json_object_get(config, "mounts");
	json_t *list = json_array();

	if (given && !json_is_null(given) && !json_is_array(given))
		strv_add(errors, "mounts must be a list.");
	if (json_array_size(given) > MOUNTS_MAX) {
		strv_addf(errors, "mounts must have at most %d entries.", MOUNTS_MAX);
		return list;
	}
	for (size_t i = 0; i < json_array_size(given); i++) {
		const json_t *value = json_array_get(given, i);
		cleanup_free char *name = xasprintf("mounts[%zu]", i);
		cleanup_free char *source = js_trimmed(json_object_get(value, "source"));
		cleanup_free char *target = js_trimmed(json_object_get(value, "target"));
		cleanup_free char *text = js_trimmed(value);
		bool writable = json_is_true(json_object_get(value, "writable"));

		if (text)
			split(text, &source, &target, &writable);
		add_mount(list, name, source, target ? target : source, writable, errors);
	}
	return list;
}

/* --- checking, before a container is made --- */

static bool is_in(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strcmp(dir, "/") == 0 || (strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/'));
}

/* Where engines have their sockets. */
static bool holds_engine_socket(const struct docker_config *c, const char *dir)
{
	static const char *const usual[] = {"/run/docker.sock", "/var/run/docker.sock", "/run/podman", "/var/run/podman", "/run/containerd",
					    "/var/run/containerd", "/run/crio", "/run/user"};

	for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) {
		if (is_in(usual[i], dir) || (i >= 2 && is_in(dir, usual[i])))
			return true;
	}
	char *real = c->http.socket_path ? realpath(c->http.socket_path, NULL) : NULL;
	bool holds = real && is_in(real, dir);

	free(real);
	return holds;
}

static int check_mount(const struct docker_config *c, const char *source, struct err *err)
{
	struct stat st;
	char *real = realpath(source, NULL);
	cleanup_free char *path = real ? real : xstrdup(source);

	if (!real && docker_config_is_local(c))
		return err_set_errno(err, errno, "mounts: %s", source);
	if (c->allow_engine_socket)
		return 0;
	if (real && stat(real, &st) == 0 && S_ISSOCK(st.st_mode))
		return err_set(err, ERR_INVALID,
			       "mounts: %s is a socket. Who can talk to an engine's socket rules its machine; if that is meant, set "
			       "allowEngineSocket.",
			       source);
	if (holds_engine_socket(c, path) || holds_engine_socket(c, source))
		return err_set(err, ERR_INVALID,
			       "mounts: %s may hold an engine's socket, and who can talk to that rules the machine; mount what is needed of "
			       "it, or set allowEngineSocket.",
			       source);
	return 0;
}

int docker_mounts_check(const struct docker_config *c, struct err *err)
{
	const json_t *mount;
	size_t i;

	json_array_foreach(c->mounts, i, mount) {
		if (check_mount(c, json_string_value(json_object_get(mount, "source")), err) < 0)
			return -1;
	}
	return 0;
}
