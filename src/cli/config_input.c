#include "cli/config_input.h"

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "protocol/json_read.h"
#include "protocol/manifest.h"
#include "providers/registry.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define CONFIG_BYTES_MAX ((size_t)1 << 20)

void config_input_deinit(struct config_input *input)
{
	strv_deinit(&input->settings);
	secret_set_deinit(&input->secrets);
	secret_forget();
}

bool config_input_option(struct config_input *input, int letter, const char *value)
{
	if (letter == 'd')
		input->driver = value;
	else if (letter == 'C')
		input->file = value;
	else if (letter == 'c')
		strv_add(&input->settings, value);
	else
		return false;
	return true;
}

/* --- values --- */

static int read_file(const char *path, struct buf *ret, struct err *err)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n;

	if (fd < 0)
		return err_set_errno(err, errno, "%s", path);
	do {
		char *room = buf_reserve(ret, 4096);

		if (!room)
			return err_set(err, ERR_INVALID, "%s: more than %zu bytes", path, ret->max);
		n = read(fd, room, 4096);
		if (n < 0)
			return err_set_errno(err, errno, "%s", path);
		buf_added(ret, (size_t)n);
	} while (n > 0);
	if (!utf8_is_valid(ret->data, ret->len))
		return err_set(err, ERR_INVALID, "%s is not valid UTF-8", path);
	return 0;
}

/* The file's text without its last line end. */
static int value_of_file(const char *path, json_t **ret, struct err *err)
{
	struct buf text = BUF_INIT(CONFIG_BYTES_MAX);
	int rc = read_file(path, &text, err);

	if (rc == 0) {
		if (text.len && text.data[text.len - 1] == '\n')
			text.len--;
		if (text.len && text.data[text.len - 1] == '\r')
			text.len--;
		*ret = json_stringn(text.data, text.len);
	}
	buf_wipe(&text);
	return rc;
}

static int value_of_variable(const char *name, json_t **ret, struct err *err)
{
	const char *text = getenv(name);

	if (!text)
		return err_set(err, ERR_INVALID, "the environment has no variable %s", name);
	return cli_json_string(text, name, ret, err);
}

static int value_of_word(const char *word, json_t **ret, struct err *err)
{
	if (word[0] == '@')
		return value_of_file(word + 1, ret, err);
	if (str_starts_with(word, "env:"))
		return value_of_variable(word + strlen("env:"), ret, err);
	if (utf8_is_valid(word, strlen(word)) && json_read(word, strlen(word), ret, NULL) == 0)
		return 0;
	return cli_json_string(word, "the value", ret, err);
}

static size_t key_length(const char *setting)
{
	return strcspn(setting, "=");
}

static int apply_setting(json_t *config, const char *setting, struct err *err)
{
	size_t n = key_length(setting);
	json_t *value = NULL;

	if (n == 0 || !setting[n] || !utf8_is_valid(setting, n))
		return err_set(err, ERR_INVALID, "-c takes KEY=VALUE, not \"%s\"", setting);
	if (value_of_word(setting + n + 1, &value, err) < 0)
		return err_wrap(err, "-c %.*s", (int)n, setting);
	json_object_setn_new(config, setting, n, value);
	return 0;
}

static int read_config_file(const char *path, json_t **ret, struct err *err)
{
	struct buf text = BUF_INIT(CONFIG_BYTES_MAX);
	cleanup_json json_t *value = NULL;
	cleanup_err struct err cause = ERR_INIT;
	int rc = read_file(path, &text, err);

	if (rc == 0 && json_read(text.data ? text.data : "", text.len, &value, &cause) < 0)
		rc = err_set(err, ERR_INVALID, "%s: %s", path, err_text(&cause));
	else if (rc == 0 && !json_is_object(value))
		rc = err_set(err, ERR_INVALID, "%s: the config must be a JSON object", path);
	else if (rc == 0)
		*ret = steal(&value);
	buf_wipe(&text);
	return rc;
}

static int read_config(const struct config_input *input, json_t **ret, struct err *err)
{
	cleanup_json json_t *config = NULL;

	if (!input->file)
		config = json_object();
	else if (read_config_file(input->file, &config, err) < 0)
		return -1;
	for (size_t i = 0; i < input->settings.count; i++)
		if (apply_setting(config, input->settings.items[i], err) < 0)
			return -1;
	*ret = steal(&config);
	return 0;
}

bool config_input_has(const struct config_input *input, const char *key)
{
	cleanup_json json_t *config = NULL;

	return read_config(input, &config, NULL) == 0 && json_object_get(config, key);
}

/* --- drivers --- */

static const struct provider *find_driver(const char *key)
{
	for (size_t i = 0; provider_registry[i]; i++)
		if (strcmp(provider_registry[i]->driver_key, key) == 0)
			return provider_registry[i];
	return NULL;
}

static char *driver_names(void)
{
	struct buf names = BUF_INIT(BUF_UNBOUNDED);

	for (size_t i = 0; provider_registry[i]; i++)
		buf_printf(&names, "%s%s", i ? ", " : "", provider_registry[i]->driver_key);
	return buf_steal(&names);
}

static int choose_driver(const struct config_input *input, const struct cli_command *command, const struct provider **ret)
{
	cleanup_free char *names = driver_names();

	if (!input->driver)
		return cli_usage_error(command, "%s needs --driver; there are: %s", command->name, names);
	*ret = find_driver(input->driver);
	if (!*ret)
		return cli_usage_error(command, "there is no driver \"%s\"; there are: %s", input->driver, names);
	return CLI_OK;
}

/* --- checking --- */

/* Drivers ignore keys that they do not know, as the host demands; from a person such a key is mostly a slip. */
static void warn_of_unknown_keys(const struct provider *provider, const json_t *declaration, json_t *config)
{
	static const char *const host_keys[] = {"provider", "reuseLease", "timeoutMs", "streamRunLogs", "archiveOnRelease",
						"runnerLifecycleMode", "runnerIdleTimeoutMs", "bridgeRequestTimeoutMs"};
	json_t *known = json_object_get(json_object_get(declaration, "configSchema"), "properties");
	const char *key;
	json_t *value;

	json_object_foreach(config, key, value) {
		bool of_host = false;

		for (size_t i = 0; i < sizeof(host_keys) / sizeof(host_keys[0]); i++)
			of_host = of_host || strcmp(host_keys[i], key) == 0;
		if (of_host || json_object_get(known, key))
			continue;
		cleanup_buf struct buf names = BUF_INIT(BUF_UNBOUNDED);
		const char *name;

		json_object_foreach(known, name, value)
			buf_printf(&names, "%s%s", names.len ? ", " : "", name);
		cli_warn("%s knows no config key \"%s\"; it has: %s", provider->driver_key, key, names.len ? names.data : "none");
	}
}

static bool is_secret(const json_t *declaration, const char *setting)
{
	cleanup_json json_t *keys = manifest_secret_keys(declaration);
	size_t i, n = key_length(setting);
	json_t *key;

	json_array_foreach(keys, i, key)
		if (json_string_length(key) == n && strncmp(json_string_value(key), setting, n) == 0)
			return true;
	return false;
}

static bool is_reference(const char *setting)
{
	const char *value = setting + key_length(setting) + 1;

	return value[0] == '@' || str_starts_with(value, "env:");
}

static void warn_of_plain_secrets(const struct config_input *input, const json_t *declaration)
{
	for (size_t i = 0; i < input->settings.count; i++) {
		const char *setting = input->settings.items[i];
		int n = (int)key_length(setting);

		if (is_secret(declaration, setting) && !is_reference(setting))
			cli_warn("others on this machine can read %.*s among the arguments; give it as %.*s=@FILE or %.*s=env:NAME", n,
				 setting, n, setting, n, setting);
	}
}

static int check(const struct provider *provider, json_t *config, json_t **ret)
{
	struct validation v = {0};
	cleanup_err struct err err = ERR_INIT;
	int status = CLI_USAGE;

	if (provider->validate_config(config, &v, &err) < 0) {
		cli_error("config of %s: %s", provider->driver_key, err_text(&err));
	} else {
		for (size_t i = 0; i < v.warnings.count; i++)
			cli_warn("%s", v.warnings.items[i]);
		for (size_t i = 0; i < v.errors.count; i++)
			cli_error("config of %s: %s", provider->driver_key, v.errors.items[i]);
		if (!v.errors.count) {
			*ret = v.normalized ? steal(&v.normalized) : json_incref(config);
			status = CLI_OK;
		}
	}
	validation_deinit(&v);
	return status;
}

int config_input_read(struct config_input *input, const struct cli_command *command, const json_t *forced,
		      const struct provider **ret_provider, json_t **ret_config)
{
	const struct provider *provider = NULL;
	cleanup_json json_t *config = NULL;
	cleanup_err struct err err = ERR_INIT;

	if (choose_driver(input, command, &provider) != CLI_OK || !provider)
		return CLI_USAGE;
	if (read_config(input, &config, &err) < 0)
		return cli_usage_error(command, "%s", err_text(&err));
	cleanup_json json_t *declaration = json_loads(provider->declaration, 0, NULL);
	cleanup_json json_t *secret_keys = manifest_secret_keys(declaration);

	secret_set_hold_config(&input->secrets, config, secret_keys);
	warn_of_unknown_keys(provider, declaration, config);
	warn_of_plain_secrets(input, declaration);
	if (forced)
		json_object_update(config, (json_t *)(uintptr_t)forced);
	if (check(provider, config, ret_config) != CLI_OK)
		return CLI_USAGE;
	*ret_provider = provider;
	return CLI_OK;
}

/* --- and back --- */

char *shell_word(const char *word)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@,+%";
	struct buf quoted = BUF_INIT(BUF_UNBOUNDED);

	if (*word && !word[strspn(word, plain)])
		return xstrdup(word);
	buf_append_char(&quoted, '\'');
	for (const char *c = word; *c; c++) {
		if (*c == '\'')
			buf_append_str(&quoted, "'\\''");
		else
			buf_append_char(&quoted, *c);
	}
	buf_append_char(&quoted, '\'');
	return buf_steal(&quoted);
}

char *config_input_words(const struct config_input *input, const struct provider *provider)
{
	cleanup_json json_t *declaration = json_loads(provider->declaration, 0, NULL);
	struct buf words = BUF_INIT(BUF_UNBOUNDED);

	buf_printf(&words, "--driver %s", provider->driver_key);
	if (input->file) {
		cleanup_free char *file = shell_word(input->file);

		buf_printf(&words, " --config %s", file);
	}
	for (size_t i = 0; i < input->settings.count; i++) {
		const char *setting = input->settings.items[i];
		cleanup_free char *word = shell_word(setting);

		if (is_secret(declaration, setting) && !is_reference(setting))
			buf_printf(&words, " -c %.*s=…", (int)key_length(setting), setting);
		else
			buf_printf(&words, " -c %s", word);
	}
	return buf_steal(&words);
}
