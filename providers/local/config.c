/* Config: upstream providers trim strings, take numeric strings as numbers, and count only true as true. So do we. */
#include "local.h"

#include "base/buf.h"
#include "base/mem.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#define DEFAULT_WORKDIR "/workspace"
#define DEFAULT_TIMEOUT_MS 300000
#define BINDS_MAX 128

/* Where commands cannot be given a directory of their own: the sandbox puts its own things there. */
static const char *const kernel_dirs[] = {"/proc", "/dev", "/sys", NULL};
static const char *const system_dirs[] = {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", NULL};

struct reader {
	const json_t *config;
	struct strv *errors;
};

bool local_path_is_in(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/' || strcmp(dir, "/") == 0);
}

static bool is_in_any(const char *path, const char *const *dirs)
{
	for (; *dirs; dirs++) {
		if (local_path_is_in(path, *dirs))
			return true;
	}
	return false;
}

bool local_env_key_is_valid(const char *key)
{
	if (!isalpha((unsigned char)*key) && *key != '_')
		return false;
	while (isalnum((unsigned char)*key) || *key == '_')
		key++;
	return *key == '\0';
}

char *local_path_normalize(const char *path)
{
	struct buf out = BUF_INIT(BUF_UNBOUNDED);

	if (*path != '/')
		return NULL;
	for (const char *part = path; *part;) {
		part += strspn(part, "/");
		size_t n = strcspn(part, "/");
		if (n == 2 && memcmp(part, "..", 2) == 0) {
			buf_deinit(&out);
			return NULL;
		}
		if (n > 0 && !(n == 1 && *part == '.')) {
			buf_append_char(&out, '/');
			buf_append(&out, part, n);
		}
		part += n;
	}
	if (out.len == 0)
		buf_append_char(&out, '/');
	return buf_steal(&out);
}

/* --- one value --- */

/* Trimmed and owned; NULL if absent, blank or wrong. name is how errors call the value. */
static char *read_text(struct reader *r, const json_t *value, const char *name)
{
	const char *text = json_string_value(value);
	size_t n = json_string_length(value);

	if (!value || json_is_null(value))
		return NULL;
	if (!text) {
		strv_addf(r->errors, "%s must be a string.", name);
		return NULL;
	}
	if (strlen(text) != n) {
		strv_addf(r->errors, "%s must not contain a null character.", name);
		return NULL;
	}
	while (n > 0 && isspace((unsigned char)text[n - 1]))
		n--;
	while (n > 0 && isspace((unsigned char)*text)) {
		text++;
		n--;
	}
	return n > 0 ? xstrndup(text, n) : NULL;
}

static char *check_path(struct reader *r, const char *text, const char *name)
{
	char *path = local_path_normalize(text);

	if (!path)
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): local_path_normalize has read it */
		strv_addf(r->errors, *text == '/' ? "%s must not contain \"..\"." : "%s must be an absolute path.", name);
	return path;
}

static char *read_path(struct reader *r, const char *key)
{
	cleanup_free char *text = read_text(r, json_object_get(r->config, key), key);

	return text ? check_path(r, text, key) : NULL;
}

static bool read_flag(struct reader *r, const char *key)
{
	return json_is_true(json_object_get(r->config, key));
}

/* The number, or NAN if there is none or it is wrong. Of integers the fraction is cut off first, as upstream does it: 0.9 is 0. */
static double read_number(struct reader *r, const char *key, bool integer, double min, double max)
{
	const json_t *value = json_object_get(r->config, key);
	double number = NAN;

	if (!value || json_is_null(value))
		return NAN;
	if (json_is_number(value)) {
		number = json_number_value(value);
	} else if (json_is_string(value)) {
		const char *text = json_string_value(value);
		char *end;

		if (text[strspn(text, " \t\r\n")] == '\0')
			return NAN;
		number = strtod(text, &end);
		if (end[strspn(end, " \t\r\n")] != '\0')
			number = NAN;
	}
	if (integer && isfinite(number))
		number = number_truncate(number);
	if (!isfinite(number))
		strv_addf(r->errors, "%s must be a number.", key);
	else if (number >= min && number <= max)
		return number;
	else
		strv_addf(r->errors, "%s must be between %.15g and %.15g.", key, min, max);
	return NAN;
}

static int64_t read_integer(struct reader *r, const char *key, int64_t min, int64_t max, int64_t fallback)
{
	double number = read_number(r, key, true, (double)min, (double)max);

	return isnan(number) ? fallback : (int64_t)number;
}

/* --- binds --- */

static bool is_mode(const char *text)
{
	return strcmp(text, "ro") == 0 || strcmp(text, "rw") == 0;
}

/* "source[:target][:ro|rw]", the form that people know from container tools and can type in a command line. */
static void split_bind(const char *text, char **ret_source, char **ret_target, bool *ret_writable)
{
	cleanup_free char *rest = xstrdup(text);
	char *mode = strrchr(rest, ':');

	if (mode && is_mode(mode + 1)) {
		*ret_writable = strcmp(mode + 1, "rw") == 0;
		*mode = '\0';
	}
	char *colon = strchr(rest, ':');
	if (colon)
		*colon = '\0';
	*ret_target = colon ? xstrdup(colon + 1) : NULL;
	*ret_source = xstrdup(rest);
}

static void bind_deinit(struct local_bind *bind)
{
	free(bind->source);
	free(bind->target);
	*bind = (struct local_bind){0};
}

static bool bind_target_is_free(const struct local_config *c, const char *target)
{
	for (size_t i = 0; i < c->bind_count; i++) {
		if (str_eq(c->binds[i].target, target))
			return false;
	}
	return true;
}

static void read_bind(struct reader *r, const json_t *value, const char *name, struct local_config *ret)
{
	cleanup_free char *source_name = xasprintf("%s.source", name);
	cleanup_free char *target_name = xasprintf("%s.target", name);
	cleanup_free char *source = NULL;
	cleanup_free char *target = NULL;
	cleanup(bind_deinit) struct local_bind bind = {0};

	if (json_is_string(value)) {
		cleanup_free char *text = read_text(r, value, name);
		if (text)
			split_bind(text, &source, &target, &bind.writable);
	} else if (json_is_object(value)) {
		size_t errors = r->errors->count;
		source = read_text(r, json_object_get(value, "source"), source_name);
		target = read_text(r, json_object_get(value, "target"), target_name);
		bind.writable = json_is_true(json_object_get(value, "writable"));
		if (r->errors->count > errors)
			return;
	} else {
		strv_addf(r->errors, "%s must be an object with a source, or a string.", name);
		return;
	}
	if (!str_nonempty(source)) {
		strv_addf(r->errors, "%s is required.", source_name);
		return;
	}
	bind.source = check_path(r, source, source_name);
	bind.target = bind.source && !str_nonempty(target) ? xstrdup(bind.source) : NULL;
	if (!bind.target && str_nonempty(target))
		bind.target = check_path(r, target, target_name);
	if (!bind.source || !bind.target)
		return;
	if (strcmp(bind.source, "/") == 0) {
		strv_addf(r->errors, "%s must not be /.", source_name);
		return;
	}
	if (strcmp(bind.target, "/") == 0 || is_in_any(bind.target, kernel_dirs)) {
		strv_addf(r->errors, "%s must not be / or lie in /proc, /dev or /sys.", target_name);
		return;
	}
	if (!bind_target_is_free(ret, bind.target)) {
		strv_addf(r->errors, "%s is used twice: %s.", target_name, bind.target);
		return;
	}
	ret->binds[ret->bind_count++] = bind;
	bind = (struct local_bind){0};
}

static void read_binds(struct reader *r, struct local_config *ret)
{
	const json_t *list = json_object_get(r->config, "binds");
	size_t count = json_array_size(list);

	if (!list || json_is_null(list))
		return;
	if (!json_is_array(list)) {
		strv_add(r->errors, "binds must be a list.");
		return;
	}
	if (count > BINDS_MAX) {
		strv_addf(r->errors, "binds must have at most %d entries.", BINDS_MAX);
		return;
	}
	ret->binds = xcalloc(count + 1, sizeof *ret->binds);
	for (size_t i = 0; i < count; i++) {
		cleanup_free char *name = xasprintf("binds[%zu]", i);
		read_bind(r, json_array_get(list, i), name, ret);
	}
}

/* --- the rest --- */

bool local_config_shares(const struct local_config *c, const char *path)
{
	for (size_t i = 0; i < c->bind_count; i++) {
		if (local_path_is_in(path, c->binds[i].target))
			return true;
	}
	return false;
}

/* After the binds: what the user shows to the sandbox may be worked in, wherever it is. */
static void check_workdir(struct reader *r, struct local_config *c)
{
	bool shared = c->workdir && local_config_shares(c, c->workdir);
	bool above_home = c->workdir && strcmp(c->workdir, SANDBOX_HOME) != 0 && local_path_is_in(SANDBOX_HOME, c->workdir);

	if (c->workdir && !shared && (above_home || is_in_any(c->workdir, kernel_dirs) || is_in_any(c->workdir, system_dirs))) {
		strv_add(r->errors, "workdir must not be / or /home, or lie in a system directory.");
		free(steal(&c->workdir));
	}
	if (!c->workdir)
		c->workdir = xstrdup(DEFAULT_WORKDIR);
}

static void read_env(struct reader *r, struct local_config *ret)
{
	const json_t *env = json_object_get(r->config, "env");
	const char *key;
	json_t *value;

	ret->env = json_object();
	if (!env || json_is_null(env))
		return;
	if (!json_is_object(env)) {
		strv_add(r->errors, "env must be an object of strings.");
		return;
	}
	json_object_foreach((json_t *)(uintptr_t)env, key, value) {
		if (!local_env_key_is_valid(key))
			strv_addf(r->errors, "Invalid sandbox environment variable key: %s", key);
		else if (!json_is_string(value))
			strv_addf(r->errors, "env.%s must be a string.", key);
		else if (strlen(json_string_value(value)) != json_string_length(value))
			strv_addf(r->errors, "env.%s must not contain a null character.", key);
		else
			json_object_set(ret->env, key, value);
	}
}

static bool read_network(struct reader *r)
{
	cleanup_free char *network = read_text(r, json_object_get(r->config, "network"), "network");

	if (!network || strcmp(network, "host") == 0)
		return true;
	if (strcmp(network, "none") != 0)
		strv_add(r->errors, "network must be \"host\" or \"none\".");
	return false; /* also if it is wrong: the safer of the two */
}

void local_config_read(const json_t *config, struct local_config *ret, struct strv *errors)
{
	struct reader r = {.config = config, .errors = errors};
	double cpus;

	*ret = (struct local_config){0};
	ret->rootfs = read_path(&r, "rootfs");
	if (str_eq(ret->rootfs, "/")) {
		strv_add(errors, "rootfs must not be /; leave it empty to use this machine's own system directories.");
		free(steal(&ret->rootfs));
	}
	ret->workdir = read_path(&r, "workdir");
	ret->host_network = read_network(&r);
	read_binds(&r, ret);
	check_workdir(&r, ret);
	read_env(&r, ret);
	ret->memory_mb = read_integer(&r, "memoryMb", 16, 16777216, 0);
	ret->max_processes = read_integer(&r, "maxProcesses", 8, 4194304, 0);
	ret->cpu_seconds = read_integer(&r, "cpuSeconds", 1, 31536000, 0);
	cpus = read_number(&r, "cpus", false, 0.01, 1024);
	ret->cpus = isnan(cpus) ? 0 : cpus;
	ret->timeout_ms = read_integer(&r, "timeoutMs", 1, 86400000, DEFAULT_TIMEOUT_MS);
	ret->reuse_lease = read_flag(&r, "reuseLease");
	ret->state_dir = read_path(&r, "stateDir");
	ret->login_shell = read_flag(&r, "loginShell");
	ret->archive_on_release = read_flag(&r, "archiveOnRelease");
}

int local_config_require(const json_t *config, struct local_config *ret, struct err *err)
{
	cleanup_strv struct strv errors = {0};

	local_config_read(config, ret, &errors);
	return errors.count > 0 ? err_set(err, ERR_INVALID, "%s", errors.items[0]) : 0;
}

void local_config_deinit(struct local_config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->bind_count; i++)
		bind_deinit(&c->binds[i]);
	free(c->binds);
	free(c->rootfs);
	free(c->workdir);
	free(c->state_dir);
	json_decref(c->env);
	*c = (struct local_config){0};
}
