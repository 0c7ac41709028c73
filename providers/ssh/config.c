/* wire: ssh, Config, lease, results. */
#include "ssh.h"

#include "protocol/js_value.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#define TIMEOUT_DEFAULT_MS 300000
#define TIMEOUT_MAX_MS 86400000

/* --- parsing --- */

/* Absent and null are the fallback; what is no whole number from low to high is NaN. */
static double number_of(const json_t *config, const char *key, double fallback, double low, double high)
{
	const json_t *value = json_object_get(config, key);
	double number = json_number_value(value);

	if (!value || json_is_null(value))
		return fallback;
	if (!json_is_number(value) || number != trunc(number) || number < low || number > high)
		return NAN;
	return number;
}

static bool flag_of(const json_t *config, const char *key, bool fallback)
{
	const json_t *value = json_object_get(config, key);

	return json_is_boolean(value) ? json_is_true(value) : fallback;
}

static bool host_is_valid(const char *host)
{
	for (const char *at = host; *at; at++) {
		if (!isalnum((unsigned char)*at) && !strchr("._:-", *at))
			return false;
	}
	return *host && *host != '-';
}

static bool user_is_valid(const char *user)
{
	size_t len = strlen(user);

	for (size_t i = 0; i < len; i++) {
		bool is_last_dollar = user[i] == '$' && i > 0 && i + 1 == len;
		if (!isalnum((unsigned char)user[i]) && !strchr("._-", user[i]) && !is_last_dollar)
			return false;
	}
	return len > 0 && *user != '-';
}

static bool port_from(const char *text, int *ret)
{
	char *end;
	long port = strtol(text, &end, 10);

	*ret = (int)port;
	return isdigit((unsigned char)*text) && *end == '\0' && port >= 1 && port <= 65535;
}

/* [user@]host[:port], IPv6 in brackets. */
static bool hop_parse(char *text, const char *default_user, struct ssh_hop *ret)
{
	char *at = strrchr(text, '@');
	char *host = at ? at + 1 : text;
	char *port = strrchr(host, ':');

	ret->port = 22;
	if (at)
		*at = '\0';
	if (*host == '[') {
		char *close = strchr(host, ']');
		if (!close || (close[1] != ':' && close[1] != '\0'))
			return false;
		port = close[1] ? close + 1 : NULL;
		*close = '\0';
		host++;
	} else if (port && strchr(host, ':') != port) {
		port = NULL; /* an IPv6 address without brackets */
	}
	if (port) {
		*port = '\0';
		if (!port_from(port + 1, &ret->port))
			return false;
	}
	const char *user = at ? text : default_user;
	if (!user || !user_is_valid(user) || !host_is_valid(host))
		return false;
	ret->user = xstrdup(user);
	ret->host = xstrdup(host);
	return true;
}

static char *trim_in_place(char *text)
{
	size_t len;

	while (isspace((unsigned char)*text))
		text++;
	for (len = strlen(text); len > 0 && isspace((unsigned char)text[len - 1]); len--)
		text[len - 1] = '\0';
	return text;
}

/* As many as are right, up to the first that is not: hops_are_valid. */
static void parse_hops(struct ssh_config *c)
{
	cleanup_free char *copy = c->jump_hosts ? xstrdup(c->jump_hosts) : NULL;
	char *rest = copy, *item;

	while ((item = strsep(&rest, ","))) {
		struct ssh_hop hop = {0};
		if (!hop_parse(trim_in_place(item), c->username, &hop))
			return;
		c->hops = xrealloc(c->hops, (c->hop_count + 1) * sizeof *c->hops);
		c->hops[c->hop_count++] = hop;
	}
}

static bool hops_are_valid(const struct ssh_config *c)
{
	size_t count = c->jump_hosts ? 1 : 0;

	for (const char *at = c->jump_hosts; at && *at; at++)
		count += *at == ',';
	return c->hop_count == count;
}

/* A secret is returned as it came: it may be the id of one. */
static char *secret_of(const json_t *config, const char *key)
{
	cleanup_free char *trimmed = js_trimmed(json_object_get(config, key));

	return trimmed ? xstrdup(json_string_value(json_object_get(config, key))) : NULL;
}

void ssh_config_parse(const json_t *config, struct ssh_config *ret)
{
	*ret = (struct ssh_config){
		.host = js_trimmed(json_object_get(config, "host")),
		.username = js_trimmed(json_object_get(config, "username")),
		.workspace = js_trimmed(json_object_get(config, "remoteWorkspacePath")),
		.private_key = secret_of(config, "privateKey"),
		.passphrase = secret_of(config, "privateKeyPassphrase"),
		.known_hosts = secret_of(config, "knownHosts"),
		.jump_hosts = js_trimmed(json_object_get(config, "jumpHosts")),
		.port = number_of(config, "port", 22, 1, 65535),
		.timeout_ms = number_of(config, "timeoutMs", TIMEOUT_DEFAULT_MS, 1, TIMEOUT_MAX_MS),
		.max_sessions = number_of(config, "maxSessions", 8, 1, 1000),
		.alive_seconds = number_of(config, "serverAliveSeconds", 5, 1, 3600),
		.connect_seconds = number_of(config, "connectTimeoutSeconds", 10, 1, 300),
		.strict = flag_of(config, "strictHostKeyChecking", true),
		.reuse_lease = flag_of(config, "reuseLease", false),
		.login_shell = flag_of(config, "loginShell", true),
	};
	size_t len = ret->host ? strlen(ret->host) : 0;

	if (len > 2 && ret->host[0] == '[' && ret->host[len - 1] == ']') {
		memmove(ret->host, ret->host + 1, len - 2);
		ret->host[len - 2] = '\0';
	}
	for (len = ret->workspace ? strlen(ret->workspace) : 0; len > 1 && ret->workspace[len - 1] == '/'; len--)
		ret->workspace[len - 1] = '\0';
	parse_hops(ret);
}

void ssh_config_deinit(struct ssh_config *c)
{
	if (!c)
		return;
	free(c->host);
	free(c->username);
	free(c->workspace);
	str_wipe_free(c->private_key);
	str_wipe_free(c->passphrase);
	free(c->known_hosts);
	free(c->jump_hosts);
	for (size_t i = 0; i < c->hop_count; i++) {
		free(c->hops[i].user);
		free(c->hops[i].host);
	}
	free(c->hops);
	*c = (struct ssh_config){0};
}

/* --- validation --- */

static bool has_control(const char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return true;
	}
	return false;
}

static bool has_dot_part(const char *path)
{
	for (const char *part = path; (part = strchr(part, '/')); part++) {
		size_t len = strcspn(part + 1, "/");
		if ((len == 1 && part[1] == '.') || (len == 2 && part[1] == '.' && part[2] == '.'))
			return true;
	}
	return false;
}

static void check_names(const struct ssh_config *c, struct strv *errors)
{
	if (!c->host)
		strv_add(errors, "SSH sandbox environments require host.");
	else if (!host_is_valid(c->host))
		strv_add(errors, "host must be a host name or address, without user and port.");
	if (isnan(c->port))
		strv_add(errors, "port must be an integer between 1 and 65535.");
	if (!c->username)
		strv_add(errors, "SSH sandbox environments require username.");
	else if (!user_is_valid(c->username))
		strv_add(errors, "username must be the name of a user: letters, digits, dots, dashes and underscores.");
	if (!c->workspace)
		strv_add(errors, "SSH sandbox environments require remoteWorkspacePath.");
	else if (*c->workspace != '/' || has_control(c->workspace) || has_dot_part(c->workspace))
		strv_add(errors, "remoteWorkspacePath must be an absolute path without . and .. in it.");
	else if (strspn(c->workspace, "/") == strlen(c->workspace))
		strv_add(errors, "remoteWorkspacePath must not be /.");
}

static void check_types(const json_t *config, struct strv *errors)
{
	static const char *const strings[] = {"privateKey", "privateKeyPassphrase", "knownHosts", "jumpHosts"};
	static const char *const flags[] = {"strictHostKeyChecking", "reuseLease", "loginShell"};

	for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
		const json_t *value = json_object_get(config, strings[i]);
		const char *text = json_string_value(value);
		if (value && !json_is_null(value) && !text)
			strv_addf(errors, "%s must be a string.", strings[i]);
		else if (text && strlen(text) != json_string_length(value))
			strv_addf(errors, "%s must not contain a null character.", strings[i]);
	}
	for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
		const json_t *value = json_object_get(config, flags[i]);
		if (value && !json_is_null(value) && !json_is_boolean(value))
			strv_addf(errors, "%s must be true or false.", flags[i]);
	}
}

static void check_numbers(const struct ssh_config *c, struct strv *errors)
{
	if (isnan(c->timeout_ms))
		strv_addf(errors, "timeoutMs must be between 1 and %d.", TIMEOUT_MAX_MS);
	if (isnan(c->max_sessions))
		strv_add(errors, "maxSessions must be an integer between 1 and 1000.");
	if (isnan(c->alive_seconds))
		strv_add(errors, "serverAliveSeconds must be an integer between 1 and 3600.");
	if (isnan(c->connect_seconds))
		strv_add(errors, "connectTimeoutSeconds must be an integer between 1 and 300.");
}

static void collect_errors(const struct ssh_config *c, const json_t *config, struct strv *errors)
{
	check_names(c, errors);
	check_types(config, errors);
	if (!hops_are_valid(c))
		strv_add(errors, "jumpHosts must be a list of [user@]host[:port], separated by commas.");
	check_numbers(c, errors);
}

void ssh_config_validate(const struct ssh_config *c, const json_t *config, struct validation *ret)
{
	collect_errors(c, config, &ret->errors);
	if (ret->errors.count > 0)
		return;
	if (!c->private_key)
		strv_add(&ret->warnings, "privateKey is not set: nothing can connect without it.");
	if (c->strict && !c->known_hosts)
		strv_add(&ret->warnings, "knownHosts is empty while strictHostKeyChecking is on: every host is refused. The probe shows "
					 "what the host offers.");
	if (!c->strict)
		strv_add(&ret->warnings, "strictHostKeyChecking is off: the first connection trusts whoever answers.");
}

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

json_t *ssh_config_normalized(const struct ssh_config *c)
{
	json_t *object = json_pack("{s:s, s:o, s:s, s:s, s:o, s:o, s:b, s:o, s:b, s:o, s:o, s:o, s:b}", "host", c->host, "port",
				   js_number_json(c->port), "username", c->username, "remoteWorkspacePath", c->workspace,
				   "privateKey", text_or_null(c->private_key), "knownHosts", text_or_null(c->known_hosts),
				   "strictHostKeyChecking", c->strict, "timeoutMs", js_number_json(c->timeout_ms), "reuseLease",
				   c->reuse_lease, "maxSessions", js_number_json(c->max_sessions), "serverAliveSeconds",
				   js_number_json(c->alive_seconds), "connectTimeoutSeconds", js_number_json(c->connect_seconds),
				   "loginShell", c->login_shell);

	if (c->passphrase)
		json_object_set_new(object, "privateKeyPassphrase", json_string(c->passphrase));
	if (c->jump_hosts)
		json_object_set_new(object, "jumpHosts", json_string(c->jump_hosts));
	return object;
}

/* --- for calls --- */

int ssh_config_read(struct op *op, const json_t *config, struct ssh_config *ret, struct err *err)
{
	cleanup_strv struct strv errors = {0};

	ssh_config_parse(config, ret);
	op_hold_secret(op, ret->private_key);
	op_hold_secret(op, ret->passphrase);
	collect_errors(ret, config, &errors);
	if (errors.count > 0)
		return err_set(err, ERR_INVALID, "%s", errors.items[0]);
	if (!ret->private_key)
		return err_set(err, ERR_INVALID, "SSH sandbox environments require privateKey: keys of the worker's own machine are not used.");
	if (ret->strict && !ret->known_hosts)
		return err_set(err, ERR_CONFLICT,
			       "knownHosts is empty, so no host key of %s is trusted. Fill it in (the probe shows what the host offers), "
			       "or turn strictHostKeyChecking off.",
			       ret->host);
	return 0;
}

char *ssh_destination(const struct ssh_config *c)
{
	bool is_ipv6 = strchr(c->host, ':');

	return xasprintf("%s@%s%s%s:%d", c->username, is_ipv6 ? "[" : "", c->host, is_ipv6 ? "]" : "", (int)c->port);
}
