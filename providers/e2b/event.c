/*
 * wire: e2b, envd: running a command. A command's output is base64 inside JSON; it is found and decoded in place, without building a
 * value of it. Encoders leave zero values out and add blanks, and newer services add members.
 */
#include "e2b.h"

#include "base/utf8.h"
#include "protocol/base64.h"
#include "protocol/json_number.h"
#include "protocol/json_scan.h"

#include <string.h>

void e2b_event_deinit(struct e2b_event *e)
{
	if (!e)
		return;
	buf_deinit(&e->out);
	buf_deinit(&e->err);
	free(e->status);
	free(e->error);
	*e = (struct e2b_event){0};
}

static int scan(const struct json_slice *slice, struct json_member *members, size_t count, struct err *err)
{
	enum json_kind kind;

	return json_scan(slice->text, slice->len, &kind, members, count, err);
}

static int decode(const struct json_slice *slice, struct buf *out, struct err *err)
{
	int rc;

	*out = BUF_INIT(BUF_UNBOUNDED);
	if (slice->kind != JSON_KIND_STRING)
		return 0;
	if (memchr(slice->text, '\\', slice->len)) {
		size_t len;
		cleanup_free char *text = json_slice_string(slice, &len);

		rc = base64_decode(out, text, len);
	} else {
		rc = base64_decode(out, slice->text + 1, slice->len - 2);
	}
	return rc < 0 ? err_set(err, ERR_PROTOCOL, "output of the command is not valid base64") : 0;
}

/* Whole numbers; encoders may write them as strings. */
static int64_t number(const struct json_slice *slice)
{
	size_t len;

	if (slice->kind == JSON_KIND_NUMBER) {
		cleanup_json json_t *value = json_number_read(slice->text, slice->len);

		return json_is_integer(value) ? json_integer_value(value) : 0;
	}
	if (slice->kind != JSON_KIND_STRING)
		return 0;
	cleanup_free char *text = json_slice_string(slice, &len);
	return strtoll(text, NULL, 10);
}

static char *text_of(const struct json_slice *slice)
{
	size_t len;

	return slice->kind == JSON_KIND_STRING && utf8_is_valid(slice->text, slice->len) ? json_slice_string(slice, &len) : NULL;
}

static int read_start(const struct json_slice *slice, struct e2b_event *ret, struct err *err)
{
	struct json_member members[] = {{.key = "pid"}};

	if (scan(slice, members, 1, err) < 0)
		return -1;
	ret->kind = E2B_EVENT_START;
	ret->pid = number(&members[0].value);
	return 0;
}

static int read_data(const struct json_slice *slice, struct e2b_event *ret, struct err *err)
{
	struct json_member members[] = {{.key = "stdout"}, {.key = "stderr"}, {.key = "pty"}};

	if (scan(slice, members, 3, err) < 0)
		return -1;
	ret->kind = E2B_EVENT_DATA;
	const struct json_slice *out = members[0].value.kind == JSON_KIND_STRING ? &members[0].value : &members[2].value;
	return decode(out, &ret->out, err) < 0 || decode(&members[1].value, &ret->err, err) < 0 ? -1 : 0;
}

static int read_end(const struct json_slice *slice, struct e2b_event *ret, struct err *err)
{
	struct json_member members[] = {
		{.key = "exitCode"}, {.key = "exit_code"}, {.key = "exited"}, {.key = "status"}, {.key = "error"}};

	if (scan(slice, members, 5, err) < 0)
		return -1;
	int64_t code = number(members[0].value.kind != JSON_KIND_NONE ? &members[0].value : &members[1].value);

	ret->kind = E2B_EVENT_END;
	ret->exit_code = code >= INT32_MIN && code <= INT32_MAX ? (int)code : -1;
	ret->exited = members[2].value.kind == JSON_KIND_TRUE;
	ret->status = text_of(&members[3].value);
	ret->error = text_of(&members[4].value);
	return 0;
}

int e2b_event_read(const char *text, size_t len, struct e2b_event *ret, struct err *err)
{
	struct json_member top[] = {{.key = "event"}}, kinds[] = {{.key = "start"}, {.key = "data"}, {.key = "end"}};
	const struct json_slice whole = {.text = text, .len = len};

	*ret = (struct e2b_event){0};
	if (scan(&whole, top, 1, err) < 0)
		return -1;
	if (top[0].value.kind != JSON_KIND_OBJECT)
		return 0;
	if (scan(&top[0].value, kinds, 3, err) < 0)
		return -1;
	if (kinds[1].value.kind == JSON_KIND_OBJECT)
		return read_data(&kinds[1].value, ret, err);
	if (kinds[0].value.kind == JSON_KIND_OBJECT)
		return read_start(&kinds[0].value, ret, err);
	if (kinds[2].value.kind == JSON_KIND_OBJECT)
		return read_end(&kinds[2].value, ret, err);
	return 0;
}

const char *e2b_signal_name(const char *status)
{
	/* Go's words (syscall.Signal.String). */
	static const struct {
		const char *words, *name;
	} signals[] = {
		{"hangup", "SIGHUP"},
		{"interrupt", "SIGINT"},
		{"quit", "SIGQUIT"},
		{"illegal instruction", "SIGILL"},
		{"trace/breakpoint trap", "SIGTRAP"},
		{"aborted", "SIGABRT"},
		{"bus error", "SIGBUS"},
		{"floating point exception", "SIGFPE"},
		{"killed", "SIGKILL"},
		{"user defined signal 1", "SIGUSR1"},
		{"segmentation fault", "SIGSEGV"},
		{"user defined signal 2", "SIGUSR2"},
		{"broken pipe", "SIGPIPE"},
		{"alarm clock", "SIGALRM"},
		{"terminated", "SIGTERM"},
		{"CPU time limit exceeded", "SIGXCPU"},
		{"file size limit exceeded", "SIGXFSZ"},
		{"bad system call", "SIGSYS"},
	};

	if (!status || !str_starts_with(status, "signal: "))
		return NULL;
	status += strlen("signal: ");
	for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++) {
		size_t len = strlen(signals[i].words);

		if (strncmp(status, signals[i].words, len) == 0 &&
		    (status[len] == '\0' || strcmp(status + len, " (core dumped)") == 0))
			return signals[i].name;
	}
	return NULL;
}
