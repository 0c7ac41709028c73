/* wire: docker, 4. Commands that are more than a program: shell scripts of ours, and input over connections without a half-close. */
#include "docker.h"

#include <string.h>

#define STDIN_MAX ((size_t)128 << 20)
#define SCRIPT_OUT_MAX 65536

/* --- input without a half-close --- */

/* TLS has no half-close here: the length goes to a shell in the container, which gives the command so many bytes and their end. */
static int run_counted(struct op *op, const struct docker_config *c, const struct docker_command *command, struct docker_ended *ret,
		       struct err *err)
{
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	cleanup_strv struct strv argv = {0};
	struct input counted = *command->input;
	struct docker_command with_count = *command;

	if (counted.fd >= 0) {
		if (input_read_bytes(command->input, STDIN_MAX, &text, err) < 0)
			return -1;
		counted = INPUT_FROM_TEXT(text.data ? text.data : "", text.len);
	}
	strv_add_all(&argv, "sh", "-c", "n=$1; shift; head -c \"$n\" 2>/dev/null | { exec \"$@\"; }", "sh", NULL);
	strv_addf(&argv, "%zu", counted.len - counted.taken);
	for (size_t i = 0; command->argv[i]; i++)
		strv_add(&argv, command->argv[i]);
	with_count.argv = strv_list(&argv);
	with_count.input = &counted;
	return docker_exec_plain(op, c, &with_count, ret, err);
}

int docker_exec(struct op *op, const struct docker_config *c, const struct docker_command *command, struct docker_ended *ret, struct err *err)
{
	if (command->input && !docker_config_is_local(c) && str_starts_with(c->base_url, "https:"))
		return run_counted(op, c, command, ret, err);
	return docker_exec_plain(op, c, command, ret, err);
}

/* --- scripts of ours --- */

static int capture(void *arg, enum output_stream stream, const char *bytes, size_t n, struct err *err)
{
	struct buf *out = arg;

	if (stream == OUTPUT_STDOUT && out && out->len + n <= SCRIPT_OUT_MAX)
		buf_append(out, bytes, n);
	return 0;
}

int docker_exec_script(struct op *op, const struct docker_config *c, const struct docker_script *script, struct buf *out,
		       struct docker_ended *ret, struct err *err)
{
	cleanup_strv struct strv argv = {0};
	struct docker_command command = {.container = script->container,
					 .user = script->user,
					 .cwd = "/",
					 .timeout_ms = script->ms,
					 .is_killer = script->is_killer,
					 .on_output = capture,
					 .arg = out};

	strv_add_all(&argv, "sh", "-c", script->text, "sh", NULL);
	for (const char *const *arg = script->args; *arg; arg++)
		strv_add(&argv, *arg);
	command.argv = strv_list(&argv);
	return docker_exec(op, c, &command, ret, err);
}
