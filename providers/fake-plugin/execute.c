/* wire: fake-plugin, Commands. The lease is not looked at: a command runs wherever its cwd says. */
#include "fake.h"

#include "base/buf.h"
#include "base/mem.h"
#include "process.h"
#include "protocol/host_time.h"
#include "protocol/json_write.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
/* Between SIGTERM and SIGKILL. */
#define GRACE_MS 250
/* A thousand years: longer limits are none. */
#define TIMEOUT_MAX_MS 31557600000000.0

/* JavaScript's String(value). */
static void append_js_text(struct buf *out, const json_t *value)
{
	if (json_is_string(value)) {
		buf_append(out, json_string_value(value), json_string_length(value));
	} else if (json_is_object(value)) {
		buf_append_str(out, "[object Object]");
	} else if (!json_is_array(value)) {
		json_write_value(out, value);
	} else {
		for (size_t i = 0; i < json_array_size(value); i++) {
			if (i > 0)
				buf_append_char(out, ',');
			if (!json_is_null(json_array_get(value, i)))
				append_js_text(out, json_array_get(value, i));
		}
	}
}

/* Adds "key=value" to the environment (a key holds no NUL: op's params). ret_value: the value in there, borrowed; may be NULL. */
static int env_add(struct strv *env, const char *key, const json_t *value, const char **ret_value, struct err *err)
{
	cleanup_buf struct buf pair = BUF_INIT(BUF_UNBOUNDED);
	cleanup_free char *what = xasprintf("property 'options.env['%s']'", key);
	size_t start = strlen(key) + 1;

	buf_printf(&pair, "%s=", key);
	append_js_text(&pair, value);
	if (strlen(pair.data) != pair.len)
		return fake_null_byte_error(err, what, pair.data + start, pair.len - start);
	strv_take(env, buf_steal(&pair));
	if (ret_value)
		*ret_value = env->items[env->count - 1] + start;
	return 0;
}

/* PATH first, then the others in the order given; nothing of the worker's own. */
static int env_build(const json_t *given, struct strv *env, const char **ret_path, struct err *err)
{
	json_t *path = json_object_get(given, "PATH");
	cleanup_json json_t *default_path = json_string(DEFAULT_PATH);
	/* jansson's iterators take no const object; nothing is changed. */
	json_t *object = (json_t *)(uintptr_t)given;
	int rc = env_add(env, "PATH", path ? path : default_path, ret_path, err);

	for (void *item = json_object_iter(object); item && rc == 0; item = json_object_iter_next(object, item)) {
		const char *key = json_object_iter_key(item);
		if (strcmp(key, "PATH") != 0)
			rc = env_add(env, key, json_object_iter_value(item), NULL, err);
	}
	return rc;
}

/* For process_spec: 0 is "no limit". */
static int64_t timeout_ms_of(const struct execute_params *p)
{
	cleanup_config struct fake_config config = {0};
	double ms;

	fake_config_parse(p->base.config, &config);
	ms = p->has_timeout ? p->timeout_ms : json_number_value(config.timeout);
	if (!(ms > 0) || ms > TIMEOUT_MAX_MS)
		return 0;
	return ms < 1 ? 1 : (int64_t)ms;
}

/* Just before the start: the command, its words joined by single blanks, and when. */
static json_t *describe(const struct execute_params *p)
{
	cleanup_buf struct buf line = BUF_INIT(BUF_UNBOUNDED);
	char started_at[ISO_TIME_BYTES];
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	iso_time_format((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, started_at);
	buf_append_str(&line, p->command);
	for (char *const *arg = p->args; *arg; arg++) {
		buf_append_char(&line, ' ');
		buf_append_str(&line, *arg);
	}
	return json_pack("{s:s, s:s%}", "startedAt", started_at, "commandLine", line.data, line.len);
}

/* In Node's words, which name the command only for the errors that come to it after the fork. */
static int start_error(const char *command, const struct process_result *result, struct err *err)
{
	int number = result->start_errno;
	const char *name = strerrorname_np(number);
	bool with_command = number == ENOENT || number == EACCES || number == EAGAIN || number == EMFILE || number == ENFILE;

	err_set(err, ERR_SYSTEM, "spawn %s%s%s", with_command ? command : "", with_command ? " " : "", name ? name : "EUNKNOWN");
	if (err)
		err->sys_errno = number;
	return -1;
}

int fake_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	cleanup_strv struct strv argv = {0}, env = {0};
	struct process_result result = {0};
	struct init *init;
	const char *path;

	if (!str_nonempty(p->command))
		return err_set(err, ERR_INVALID, "The argument 'file' cannot be empty. Received ''");
	if (env_build(p->env, &env, &path, err) < 0 || worker_init(op_worker(op), &init, err) < 0)
		return -1;
	strv_add(&argv, p->command);
	for (char *const *arg = p->args; *arg; arg++)
		strv_add(&argv, *arg);
	struct process_spec spec = {
		.file = p->command,
		.argv = strv_list(&argv),
		.envp = strv_list(&env),
		.search_path = path,
		.cwd = str_nonempty(p->cwd) ? p->cwd : NULL,
		.input = p->stdin_data,
		.output = op_output(op),
		.timeout_ms = timeout_ms_of(p),
		.grace_ms = GRACE_MS,
		.linger_ms = -1,
	};
	cleanup_json json_t *metadata = describe(p);
	if (process_run(init, &spec, &result, err) < 0)
		return -1;
	if (result.outcome == PROCESS_NOT_STARTED)
		return start_error(p->command, &result, err);
	*ret = (struct execute_result){
		.has_exit_code = result.outcome == PROCESS_EXITED && !result.timed_out,
		.exit_code = result.exit_code,
		.has_signal_key = true,
		.signal_name = result.outcome == PROCESS_SIGNALLED ? process_signal_name(result.term_signal) : NULL,
		.timed_out = result.timed_out,
		.metadata = steal(&metadata),
	};
	return 0;
}
