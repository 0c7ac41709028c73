/* wire: daytona, The toolbox. */
#include "daytona.h"

#include "protocol/js_value.h"
#include "protocol/multipart.h"
#include "protocol/url.h"

#include <string.h>

#define HOME_DEFAULT "/home/daytona"
#define WORKSPACE "paperclip-workspace"
#define GRACE_MS 5000 /* the service ends a command itself; so long after it ought to have */
#define REMOVE_MS 2000
#define RESULT_MAX ((size_t)256 << 20)
#define NOT_STARTED "Is the Sandbox started?"

int daytona_find_toolbox(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, struct err *err)
{
	if (s->toolbox)
		return 0;
	cleanup_free char *url = daytona_url(c->api_url, "/sandbox/%s/toolbox-proxy-url", DAYTONA_PARTS(s->id));
	cleanup_daytona_answer struct daytona_answer answer;
	struct daytona_call call = {
		.method = "GET", .url = url, .deadline_ms = daytona_call_ms(c), .repeat = HTTP_REPEAT_IDEMPOTENT};
	if (daytona_perform(op, c, &call, &answer, err) < 0)
		return -1;
	const char *base = json_string_value(json_object_get(answer.json, "url"));
	if (!str_nonempty(base))
		return err_set(err, ERR_PROTOCOL, "Daytona does not say where the toolbox of sandbox %s is.", s->id);
	cleanup_free char *trimmed = xstrdup(base);
	for (size_t len = strlen(trimmed); len > 0 && trimmed[len - 1] == '/'; len--)
		trimmed[len - 1] = '\0';
	s->toolbox = daytona_url(trimmed, "/%s", DAYTONA_PARTS(s->id));
	return 0;
}

/* --- directories --- */

/* *ret: the trimmed directory, owned; NULL: the answer is blank. */
static int ask_directory(struct op *op, const struct daytona_config *c, const struct daytona_sandbox *s, const char *path,
			 char **ret, struct err *err)
{
	cleanup_free char *url = daytona_url(s->toolbox, path, NULL);
	cleanup_daytona_answer struct daytona_answer answer;
	struct daytona_call call = {
		.method = "GET", .url = url, .deadline_ms = daytona_call_ms(c), .repeat = HTTP_REPEAT_IDEMPOTENT};

	if (daytona_perform(op, c, &call, &answer, err) < 0)
		return -1;
	if (!answer.json)
		return err_set(err, ERR_PROTOCOL, "Daytona's toolbox answers %s with something that is no JSON object.", path);
	*ret = js_trimmed(json_object_get(answer.json, "dir"));
	return 0;
}

int daytona_make_folder(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *path,
			struct err *err)
{
	cleanup_buf struct buf url = BUF_INIT(BUF_UNBOUNDED);
	cleanup_daytona_answer struct daytona_answer answer;

	if (daytona_find_toolbox(op, c, s, err) < 0)
		return -1;
	buf_printf(&url, "%s/files/folder", s->toolbox);
	url_add_query(&url, "path", path);
	url_add_query(&url, "mode", "755");
	struct daytona_call call = {.method = "POST",
				    .url = url.data,
				    .accept = "*/*",
				    .deadline_ms = daytona_call_ms(c),
				    .repeat = HTTP_REPEAT_IDEMPOTENT};
	return daytona_perform(op, c, &call, &answer, err);
}

int daytona_make_workspace(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, char **ret, struct err *err)
{
	cleanup_free char *home = NULL;

	if (daytona_find_toolbox(op, c, s, err) < 0 || ask_directory(op, c, s, "/work-dir", &home, err) < 0)
		return -1;
	if (!home && ask_directory(op, c, s, "/user-home-dir", &home, err) < 0)
		return -1;
	cleanup_free char *path = xasprintf("%s/" WORKSPACE, home ? home : HOME_DEFAULT);
	if (daytona_make_folder(op, c, s, path, err) < 0)
		return -1;
	*ret = steal(&path);
	return 0;
}

/* --- one command --- */

void daytona_run_deinit(struct daytona_run *run)
{
	if (!run)
		return;
	free(run->timeout_text);
	json_decref(run->answer);
	*run = (struct daytona_run){0};
}

/* A login page, {} or half an answer is no result: a command that may never have run did not end with 1. */
static int take_result(struct daytona_answer *answer, struct daytona_run *ret, struct err *err)
{
	const json_t *code = json_object_get(answer->json, "exitCode");
	const json_t *text = json_object_get(answer->json, "result");

	if (!json_is_number(code))
		code = json_object_get(answer->json, "code");
	if (!json_is_number(code) || (json_is_real(code) && js_number(code) != (double)(int)js_number(code)))
		return err_set(err, ERR_PROTOCOL, "Daytona answered a command without its exit code.");
	ret->exit_code = (int)json_number_value(code);
	ret->text = json_is_string(text) ? json_string_value(text) : "";
	ret->len = json_string_length(text);
	ret->answer = steal(&answer->json);
	return 0;
}

static int run_once(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *script, const char *cwd,
		    int64_t seconds, struct daytona_run *ret, bool *ret_not_started, struct err *err)
{
	cleanup_json json_t *body = json_pack("{s:s, s:I}", "command", script, "timeout", (json_int_t)seconds);
	cleanup_daytona_answer struct daytona_answer answer;

	*ret_not_started = false;
	if (!body)
		return err_set(err, ERR_INVALID, "The command is no valid text.");
	if (cwd)
		json_object_set_new(body, "cwd", json_string(cwd));
	if (daytona_find_toolbox(op, c, s, err) < 0)
		return -1;
	cleanup_free char *url = daytona_url(s->toolbox, "/process/execute", NULL);
	struct daytona_call call = {
		.method = "POST",
		.url = url,
		.json = body,
		.deadline_ms = seconds * 1000 + GRACE_MS,
		.repeat = HTTP_REPEAT_REJECTED,
		.answer_max = RESULT_MAX,
		.long_lived = true,
	};
	cleanup_err struct err e = ERR_INIT;
	if (daytona_perform(op, c, &call, &answer, &e) == 0)
		return take_result(&answer, ret, err);
	if (answer.failure.timed_out) {
		ret->timed_out = true;
		ret->timeout_text = xstrdup(err_text(&e));
		return 0;
	}
	*ret_not_started = answer.failure.status == 400 && strstr(err_text(&e), NOT_STARTED);
	return err_move(err, &e);
}

int daytona_run_command(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *script,
			const char *cwd, int64_t seconds, struct daytona_run *ret, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;
	bool not_started;

	if (run_once(op, c, s, script, cwd, seconds, ret, &not_started, &e) == 0)
		return 0;
	if (!not_started)
		return err_move(err, &e);
	/* Stopped behind our back: nothing has run. */
	cleanup_free char *id = xstrdup(s->id);
	if (daytona_sandbox_get(op, c, id, s, err) < 0 || daytona_sandbox_ensure_started(op, c, s, err) < 0)
		return -1;
	return run_once(op, c, s, script, cwd, seconds, ret, &not_started, err);
}

int daytona_find_shell(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char **ret,
		       struct err *err)
{
	cleanup_err struct err e = ERR_INIT;
	cleanup_daytona_run struct daytona_run run = {0};
	size_t len = 0;

	*ret = "sh";
	if (daytona_run_command(op, c, s, "if command -v bash >/dev/null 2>&1; then printf bash; else printf sh; fi", NULL,
				daytona_seconds(c->timeout_ms), &run, &e) < 0)
		return err_is(&e, ERR_CANCELLED) ? err_move(err, &e) : 0;
	const char *text = run.text ? js_trim(run.text, run.len, &len) : "";
	if (len == 4 && memcmp(text, "bash", 4) == 0)
		*ret = "bash";
	return 0;
}

/* --- files --- */

int daytona_check_upload(const struct daytona_answer *answer, struct err *err)
{
	if (json_is_array(json_object_get(answer->json, "files")))
		return 0;
	return err_set(err, ERR_PROTOCOL, "Daytona answered an upload without saying which files it took.");
}

int daytona_upload(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *path,
		   struct http_piece content, int64_t seconds, struct err *err)
{
	unsigned char random[MULTIPART_RANDOM_BYTES];
	char boundary[MULTIPART_BOUNDARY_SIZE];
	cleanup_buf struct buf head = BUF_INIT(BUF_UNBOUNDED);
	cleanup_buf struct buf tail = BUF_INIT(BUF_UNBOUNDED);
	cleanup_daytona_answer struct daytona_answer answer;
	const char *slash = strrchr(path, '/');

	if (daytona_find_toolbox(op, c, s, err) < 0)
		return -1;
	random_bytes(random, sizeof random);
	multipart_boundary(random, boundary);
	multipart_write_field(&head, boundary, "files[0].path", path);
	multipart_write_file_head(&head, boundary, "files[0].file", slash ? slash + 1 : path, "application/octet-stream");
	multipart_write_file_tail(&tail);
	multipart_write_end(&tail, boundary);
	cleanup_free char *url = daytona_url(s->toolbox, "/files/bulk-upload", NULL);
	cleanup_free char *type = xasprintf("multipart/form-data; boundary=%s", boundary);
	const struct http_piece pieces[] = {HTTP_PIECE(head.data, head.len), content, HTTP_PIECE(tail.data, tail.len)};
	struct daytona_call call = {
		.method = "POST",
		.url = url,
		.body = {.pieces = pieces, .count = 3},
		.content_type = type,
		.accept = "*/*",
		.deadline_ms = seconds * 1000,
		.repeat = HTTP_REPEAT_REJECTED,
	};
	if (daytona_perform(op, c, &call, &answer, err) < 0)
		return -1;
	return daytona_check_upload(&answer, err);
}

void daytona_remove_file(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *path)
{
	cleanup_buf struct buf url = BUF_INIT(BUF_UNBOUNDED);
	cleanup_daytona_answer struct daytona_answer answer;
	struct fiber_scope scope;

	if (!s->toolbox)
		return;
	buf_printf(&url, "%s/files", s->toolbox);
	url_add_query(&url, "path", path);
	struct daytona_call call = {
		.method = "DELETE", .url = url.data, .accept = "*/*", .deadline_ms = REMOVE_MS, .repeat = HTTP_REPEAT_IDEMPOTENT};
	shield_enter(&scope, REMOVE_MS);
	(void)daytona_perform(op, c, &call, &answer, NULL);
	scope_leave(&scope);
}
