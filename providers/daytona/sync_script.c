/* What runs in the sandbox for a sync. */
#include "sync.h"

#include "protocol/js_value.h"
#include "protocol/shell_quote.h"

#include <stdarg.h>
#include <string.h>

#define REMOVE_MS 3000

/*
 * `command exec`: a redirection that fails must not end the shell. /proc/self/fd/9 is, in each program, the directory that was opened,
 * wherever its name leads by now.
 */
static const char words[] = "if command -v realpath >/dev/null 2>&1; then canon() { realpath \"$1\" 2>/dev/null; }\n"
			    "elif command -v readlink >/dev/null 2>&1; then canon() { readlink -f \"$1\" 2>/dev/null; }\n"
			    "else echo 'no path canonicalizer available'; exit 40; fi\n"
			    "root=$(canon \"$cwd\") && [ -n \"$root\" ] || { echo 'cannot resolve root'; exit 41; }\n"
			    "inside() { p=$(canon \"$1\") && [ -n \"$p\" ] || return 1; case \"$p/\" in \"${root%/}\"/*) return "
			    "0;; esac; return 1; }\n"
			    "hold() {\n"
			    "inside \"$1\" || { echo ESCAPE; exit 42; }\n"
			    "{ command exec 9<\"$p\"; } 2>/dev/null || { echo 'open failed'; exit 46; }\n"
			    "held=$p; inside /proc/self/fd/9 || { echo ESCAPE; exit 42; }\n"
			    "[ \"$p\" = \"$held\" ] || { echo REPLACED; exit 44; }\n"
			    "}\n";

char *daytona_quoted(const char *word)
{
	struct buf out = BUF_INIT(BUF_UNBOUNDED);

	shell_quote(&out, word);
	return buf_steal(&out);
}

void daytona_script_begin(struct buf *out, const struct daytona_sync *sync)
{
	cleanup_free char *cwd = daytona_quoted(sync->cwd);

	buf_printf(out, "cwd=%s\n%s", cwd, words);
}

void daytona_script_line(struct buf *out, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	cleanup_free char *line = xvasprintf(format, ap);
	va_end(ap);
	buf_append_str(out, line);
	buf_append_char(out, '\n');
}

/* As a here-document: it may be longer than an argument may be, and the image's shell, of whatever kind, does not read it. */
static char *wrap(const struct buf *script)
{
	cleanup_free char *uuid = random_uuid();
	struct buf out = BUF_INIT(BUF_UNBOUNDED);

	buf_printf(&out, "sh <<'PAPERCLIP-%s'\n", uuid);
	buf_append(&out, script->data, script->len);
	buf_printf(&out, "PAPERCLIP-%s\n", uuid);
	return buf_steal(&out);
}

int daytona_script_run(const struct daytona_sync *sync, struct buf *script, const char *label, const char *guard_label,
		       struct err *err)
{
	cleanup_daytona_run struct daytona_run run = {0};
	cleanup_free char *text = wrap(script);
	size_t len = 0;

	if (daytona_run_command(sync->op, sync->c, sync->sandbox, text, NULL, sync->seconds, &run, err) < 0)
		return -1;
	if (run.timed_out)
		return err_set(err, ERR_REMOTE, "Daytona %s command timed out: %s", label, run.timeout_text);
	if (run.exit_code == 0)
		return 0;
	const char *output = js_trim(run.text, run.len, &len);
	bool is_guard = run.exit_code >= 40 && run.exit_code <= 42;
	return err_set(err, ERR_REMOTE, "Daytona %s command failed (exit %d): %.*s", is_guard ? guard_label : label,
		       run.exit_code, len < 4096 ? (int)len : 4096, output);
}

void daytona_sync_remove(const struct daytona_sync *sync, const struct strv *paths)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);
	cleanup_daytona_run struct daytona_run run = {0};
	struct fiber_scope scope;

	if (paths->count == 0)
		return;
	if (paths->count == 1) {
		daytona_remove_file(sync->op, sync->c, sync->sandbox, paths->items[0]);
		return;
	}
	for (size_t i = 0; i < paths->count; i++) {
		buf_append_str(&script, "rm -f ");
		shell_quote(&script, paths->items[i]);
		buf_append_char(&script, '\n');
	}
	shield_enter(&scope, REMOVE_MS);
	(void)daytona_run_command(sync->op, sync->c, sync->sandbox, script.data, NULL, REMOVE_MS / 1000, &run, NULL);
	scope_leave(&scope);
}
