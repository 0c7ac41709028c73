/* wire: modal, environmentProbe. */
#include "modal.h"

#include "base/utf8.h"

#include "protocol/js_value.h"
#include "protocol/json_write.h"

#include <math.h>
#include <string.h>

#define COMMAND "printf paperclip-probe"
#define EXPECTED "paperclip-probe"
#define COMMAND_MS 60000
#define OUTPUT_MAX 65536

struct probe {
	struct modal_session s;
	struct modal_sandbox sandbox;
	struct modal_lease *lease;
	struct buf output; /* the start of what it printed */
	int code;
	json_t *diagnostics;
};

static void note(struct probe *probe, const char *severity, const char *code, const char *text)
{
	json_t *entry = json_pack("{s:s, s:s, s:s}", "severity", severity, "message", text, "code", code);

	if (entry)
		json_array_append_new(probe->diagnostics, entry);
}

static void on_step(void *arg, const char *code, const char *text)
{
	note(arg, "info", code, text);
}

static int on_output(void *arg, enum output_stream stream, const char *bytes, size_t n, struct err *err)
{
	struct probe *probe = arg;

	if (stream == OUTPUT_STDOUT && probe->output.len < OUTPUT_MAX)
		buf_append(&probe->output, bytes, n < OUTPUT_MAX - probe->output.len ? n : OUTPUT_MAX - probe->output.len);
	return 0;
}

static int run_command(struct probe *probe, struct err *err)
{
	cleanup_modal_exit struct modal_exit exit = {0};
	struct modal_command command = {
		.script = COMMAND, .patience_ms = COMMAND_MS, .must_be_there = true, .on_output = on_output, .arg = probe};

	if (modal_exec(&probe->s, probe->lease, &command, &exit, err) < 0)
		return -1;
	if (exit.timed_out)
		return err_set(err, ERR_REMOTE, "Deadline exceeded while waiting for exec %s", exit.exec_id);
	probe->code = exit.code;
	return 0;
}

static int use_sandbox(struct probe *probe, struct err *err)
{
	probe->lease = modal_lease_pin(&probe->s, probe->sandbox.id);
	probe->lease->made_here = probe->lease->known = true;
	if (modal_make_workspace(&probe->s, probe->lease, probe->s.config.workdir, NULL, err) < 0)
		return -1;
	note(probe, "info", "modal.workspace", "The workspace's directory is made.");
	if (run_command(probe, err) < 0)
		return -1;
	note(probe, "info", "modal.command", "A command has run.");
	return 0;
}

static int try_all(struct probe *probe, struct err *err)
{
	struct modal_purpose purpose = {.requested_expires_unix_ms = -1, .on_step = on_step, .arg = probe};

	if (modal_sandbox_create(&probe->s, &purpose, &probe->sandbox, err) < 0)
		return -1;
	int rc = use_sandbox(probe, err);

	modal_sandbox_discard(&probe->s, probe->sandbox.id);
	/* It was never anybody's lease. */
	if (probe->lease) {
		struct modal_state *state = op_state(probe->s.op);

		modal_lease_doubt(probe->lease);
		lease_table_end(&state->leases, probe->lease);
		modal_lease_unpin(&probe->s, probe->lease);
	}
	return rc;
}

/* --- reports --- */

static void report_good(const struct probe *probe, struct probe_report *ret)
{
	const struct modal_config *c = &probe->s.config;

	ret->ok = true;
	ret->summary = xasprintf("Connected to Modal sandbox in app %s.", c->app_name);
	ret->metadata = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:b, s:s}", "provider", "modal", "sandboxId",
				  probe->sandbox.id, "appName", c->app_name, "image", c->image, "workdir", c->workdir,
				  "sandboxTimeoutMs", js_number_json(c->sandbox_timeout_ms), "idleTimeoutMs",
				  isnan(c->idle_timeout_ms) ? json_null() : js_number_json(c->idle_timeout_ms), "reuseLease",
				  c->reuse_lease, "remoteCwd", c->workdir);
}

static void report_bad_command(struct probe *probe, const char *text, size_t len, struct probe_report *ret)
{
	const struct modal_config *c = &probe->s.config;
	cleanup_buf struct buf quoted = BUF_INIT(BUF_UNBOUNDED);

	json_write_string(&quoted, text, len);
	ret->summary = xasprintf("Modal sandbox probe failed: exit %d, stdout=%s", probe->code, quoted.data);
	ret->metadata = json_pack("{s:s, s:s, s:s, s:s}", "provider", "modal", "sandboxId", probe->sandbox.id, "appName",
				  c->app_name, "image", c->image);
	note(probe, "error", "modal.command", ret->summary);
}

static void report_output(struct probe *probe, struct probe_report *ret)
{
	struct utf8_repair repair = {0};
	cleanup_buf struct buf text = BUF_INIT(BUF_UNBOUNDED);
	size_t len;

	utf8_repair_append(&repair, probe->output.data ? probe->output.data : "", probe->output.len, &text);
	utf8_repair_finish(&repair, &text);
	const char *all = text.data ? text.data : "", *trimmed = js_trim(all, text.len, &len);

	if (probe->code == 0 && len == strlen(EXPECTED) && memcmp(trimmed, EXPECTED, len) == 0)
		report_good(probe, ret);
	else
		report_bad_command(probe, all, text.len, ret);
}

static void report_error(struct probe *probe, const struct err *e, struct probe_report *ret)
{
	const struct modal_config *c = &probe->s.config;

	ret->summary = xstrdup("Modal sandbox probe failed.");
	ret->metadata = json_pack("{s:s, s:s, s:s, s:b, s:s}", "provider", "modal", "appName", c->app_name, "image", c->image,
				  "reuseLease", c->reuse_lease, "error", err_text(e));
	note(probe, "error", "modal.failed", err_text(e));
}

int modal_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err)
{
	struct probe probe = {.output = BUF_INIT(OUTPUT_MAX), .diagnostics = json_array()};
	cleanup_err struct err e = ERR_INIT;
	int rc = modal_session_open(&probe.s, op, &p->base, err);

	if (rc == 0 && try_all(&probe, &e) == 0)
		report_output(&probe, ret);
	else if (rc == 0 && (err_is(&e, ERR_CANCELLED) || err_is(&e, ERR_TIMEOUT)))
		rc = err_move(err, &e);
	else if (rc == 0)
		report_error(&probe, &e, ret);
	if (rc == 0)
		ret->diagnostics = json_incref(probe.diagnostics);
	json_decref(probe.diagnostics);
	buf_deinit(&probe.output);
	modal_sandbox_deinit(&probe.sandbox);
	modal_session_close(&probe.s);
	return rc;
}
