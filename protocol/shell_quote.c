#include "protocol/shell_quote.h"

#include "base/str.h"

#include <string.h>

void shell_quote(struct buf *out, const char *word)
{
	buf_append_char(out, '\'');
	for (;;) {
		size_t plain = strcspn(word, "'");

		buf_append(out, word, plain);
		word += plain;
		if (*word == '\0')
			break;
		buf_append_str(out, "'\"'\"'");
		word++;
	}
	buf_append_char(out, '\'');
}

bool shell_env_key_is_valid(const char *key)
{
	static const char first[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_";
	static const char later[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_0123456789";

	return *key != '\0' && strchr(first, *key) && key[strspn(key, later)] == '\0';
}

/* Jansson's iteration takes no const value, though it changes nothing. */
static json_t *iterable(const json_t *object)
{
	return (json_t *)(uintptr_t)object;
}

int shell_check_env(const json_t *env, struct err *err)
{
	const char *key;
	json_t *value;

	json_object_foreach(iterable(env), key, value)
		if (!shell_env_key_is_valid(key))
			return err_set(err, ERR_INVALID, "Invalid sandbox environment variable key: %s", key);
	return 0;
}

static void write_env(struct buf *out, const json_t *env)
{
	bool any = false;
	const char *key;
	json_t *value;

	json_object_foreach(iterable(env), key, value) {
		if (!json_is_string(value))
			continue;
		buf_append_str(out, any ? "" : "env ");
		any = true;
		buf_append_str(out, key);
		buf_append_char(out, '=');
		shell_quote(out, json_string_value(value));
		buf_append_char(out, ' ');
	}
}

void shell_write_script(struct buf *out, const struct shell_script *script)
{
	buf_append_str(out, SHELL_LOGIN_PROFILES " && ");
	if (script->setup)
		buf_printf(out, "%s && ", script->setup);
	if (str_nonempty(script->cwd)) {
		buf_append_str(out, "cd ");
		shell_quote(out, script->cwd);
		buf_append_str(out, " && ");
	}
	if (script->exec)
		buf_append_str(out, "exec ");
	write_env(out, script->env);
	shell_quote(out, script->command);
	for (char *const *arg = script->args; *arg; arg++) {
		buf_append_char(out, ' ');
		shell_quote(out, *arg);
	}
	if (script->stdin_path) {
		buf_append_str(out, " < ");
		shell_quote(out, script->stdin_path);
	}
}
