/*
 * The environment methods (host contract, "Environment methods"): params from JSON by table, the driver's operation, the result to JSON.
 */
#include "op_internal.h"

#include "base/mem.h"
#include "base/str.h"
#include "input.h"
#include "protocol/fields.h"
#include "protocol/json_write.h"

#include <string.h>

/* How long the cleaning up of a lease that the host will never know may take. */
#define UNDO_MS 10000
/* Release and destroy end a running execute within this time. */
#define END_EXECUTES_MS 8000

static const json_t *empty_object(void)
{
	static json_t *empty;

	if (!empty)
		empty = json_object();
	return empty;
}

int read_request_base(const struct op *op, struct request_base *ret, struct err *err)
{
	static const struct field table[] = {
		{"driverKey", FIELD_STRING, offsetof(struct request_base, driver_key), true},
		{"companyId", FIELD_STRING, offsetof(struct request_base, company_id), false},
		{"environmentId", FIELD_STRING, offsetof(struct request_base, environment_id), false},
		{"issueId", FIELD_STRING, offsetof(struct request_base, issue_id), false},
		{"config", FIELD_OBJECT, offsetof(struct request_base, config), false},
		{0},
	};

	if (fields_read(op->params, table, "params", ret, err) < 0)
		return -1;
	if (!ret->config)
		ret->config = empty_object();
	ret->issue_id_given = json_object_get(op->params, "issueId") != NULL;
	return 0;
}

int read_lease_ref(const struct op *op, struct lease_ref *ret, struct err *err)
{
	static const struct field table[] = {
		{"providerLeaseId", FIELD_STRING, offsetof(struct lease_ref, provider_lease_id), false},
		{"metadata", FIELD_OBJECT, offsetof(struct lease_ref, metadata), false},
		{"expiresAt", FIELD_STRING, offsetof(struct lease_ref, expires_at), false},
		{0},
	};
	const json_t *lease = json_object_get(op->params, "lease");

	if (!lease || json_is_null(lease))
		return 0;
	if (!json_is_object(lease))
		return err_set(err, ERR_INVALID, "params.lease must be an object");
	return fields_read(lease, table, "params.lease", ret, err);
}

static json_t *json_or_null(json_t *value)
{
	return value ? value : json_null();
}

static void set_unless_null(json_t *object, const char *key, json_t *value)
{
	if (value)
		json_object_set_new(object, key, value);
}

static json_t *string_list(const struct strv *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, json_string(list->items[i]));
	return array;
}

/* --- config and probe --- */

static int serve_validate_config(struct op *op, json_t **ret, struct err *err)
{
	const json_t *config = json_object_get(op->params, "config");
	struct validation v = {0};

	if (config && !json_is_object(config) && !json_is_null(config))
		return err_set(err, ERR_INVALID, "params.config must be an object");
	int rc = op->provider->validate_config(json_is_object(config) ? config : empty_object(), &v, err);

	if (rc == 0) {
		*ret = json_pack("{s:b}", "ok", v.errors.count == 0);
		if (v.errors.count)
			json_object_set_new(*ret, "errors", string_list(&v.errors));
		if (v.warnings.count)
			json_object_set_new(*ret, "warnings", string_list(&v.warnings));
		if (!v.errors.count)
			set_unless_null(*ret, "normalizedConfig", steal(&v.normalized));
	}
	validation_deinit(&v);
	return rc;
}

static int serve_probe(struct op *op, json_t **ret, struct err *err)
{
	struct probe_params p = {0};
	struct probe_report report = {0};

	if (read_request_base(op, &p.base, err) < 0)
		return -1;
	int rc = op->provider->probe(op, &p, &report, err);

	if (rc == 0) {
		*ret = json_pack("{s:b}", "ok", report.ok);
		if (report.summary)
			json_object_set_new(*ret, "summary", json_string(report.summary));
		set_unless_null(*ret, "diagnostics", steal(&report.diagnostics));
		set_unless_null(*ret, "metadata", steal(&report.metadata));
		json_object_update_missing(*ret, report.extra);
	}
	probe_report_deinit(&report);
	return rc;
}

/* --- leases --- */

static json_t *lease_to_json(struct lease_result *lease)
{
	json_t *result = json_object();

	json_object_set_new(result, "providerLeaseId",
			    json_or_null(lease->provider_lease_id ? json_string(lease->provider_lease_id) : NULL));
	set_unless_null(result, "metadata", steal(&lease->metadata));
	if (lease->expires_at)
		json_object_set_new(result, "expiresAt", json_string(lease->expires_at));
	json_object_update_missing(result, lease->extra);
	return result;
}

/* True if the answer would still find a host that waits for it; else err says why not. */
static int host_still_waits(const struct op *op, struct err *err)
{
	if (fiber_is_cancelled() || !channel_is_open(op->worker->channel))
		return err_set(err, ERR_CANCELLED, "cancelled");
	if (deadline_left_ms() == 0)
		return err_set(err, ERR_TIMEOUT, "the sandbox was ready too late");
	return 0;
}

/* No orphan: a sandbox that the host will never hear of is destroyed. */
static void undo_acquire(struct op *op, const struct acquire_params *p, const struct lease_result *lease)
{
	struct lease_params params = {
		.base = p->base, .provider_lease_id = lease->provider_lease_id, .lease_metadata = lease->metadata};
	enum lease_end end = LEASE_UNPROVEN;
	struct fiber_scope scope;
	cleanup_err struct err err = ERR_INIT;

	if (!op->provider->destroy_lease || !lease->provider_lease_id)
		return;
	shield_enter(&scope, UNDO_MS);
	if (op->provider->destroy_lease(op, &params, &end, &err) < 0)
		op_log(op, LOG_LEVEL_WARN, json_pack("{s:s}", "providerLeaseId", lease->provider_lease_id),
		       "A sandbox that was made for a cancelled request may be left: %s", err_text(&err));
	scope_leave(&scope);
}

static int serve_acquire(struct op *op, json_t **ret, struct err *err)
{
	static const struct field table[] = {
		{"runId", FIELD_STRING, offsetof(struct acquire_params, run_id), false},
		{"workspaceMode", FIELD_STRING, offsetof(struct acquire_params, workspace_mode), false},
		{"requestedCwd", FIELD_STRING, offsetof(struct acquire_params, requested_cwd), false},
		{"agentId", FIELD_STRING, offsetof(struct acquire_params, agent_id), false},
		{"executionWorkspaceId", FIELD_STRING, offsetof(struct acquire_params, execution_workspace_id), false},
		{"adapterType", FIELD_STRING, offsetof(struct acquire_params, adapter_type), false},
		{"requestedExpiresAt", FIELD_STRING, offsetof(struct acquire_params, requested_expires_at), false},
		{0},
	};
	struct acquire_params p = {.requested_expires_unix_ms = -1};
	struct lease_result lease = {0};

	if (read_request_base(op, &p.base, err) < 0 || fields_read(op->params, table, "params", &p, err) < 0)
		return -1;
	if (p.requested_expires_at && (p.requested_expires_unix_ms = iso_time_parse(p.requested_expires_at)) < 0)
		return err_set(err, ERR_INVALID, "params.requestedExpiresAt must be an ISO 8601 time");
	int rc = op->provider->acquire_lease(op, &p, &lease, err);

	if (rc == 0 && host_still_waits(op, err) < 0) {
		undo_acquire(op, &p, &lease);
		rc = -1;
	}
	if (rc == 0)
		*ret = lease_to_json(&lease);
	lease_result_deinit(&lease);
	return rc;
}

static int read_lease_params(const struct op *op, struct lease_params *ret, struct err *err)
{
	static const struct field table[] = {
		{"providerLeaseId", FIELD_STRING, offsetof(struct lease_params, provider_lease_id), false},
		{"leaseMetadata", FIELD_OBJECT, offsetof(struct lease_params, lease_metadata), false},
		{"cancelActiveWork", FIELD_FLAG, offsetof(struct lease_params, cancel_active_work), false},
		{0},
	};

	if (read_request_base(op, &ret->base, err) < 0)
		return -1;
	return fields_read(op->params, table, "params", ret, err);
}

static int serve_resume(struct op *op, json_t **ret, struct err *err)
{
	struct lease_params p = {0};
	struct lease_result lease = {0};

	if (read_lease_params(op, &p, err) < 0)
		return -1;
	int rc = op->provider->resume_lease(op, &p, &lease, err);

	if (rc == 0)
		*ret = lease_to_json(&lease);
	lease_result_deinit(&lease);
	return rc;
}

typedef int end_lease_fn(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);

/* Release and destroy do not queue behind a running command: they end it. */
static int end_lease(struct op *op, end_lease_fn *end_fn, const char *reason, json_t **ret, struct err *err)
{
	struct lease_params p = {0};
	enum lease_end end = LEASE_UNPROVEN;

	if (read_lease_params(op, &p, err) < 0)
		return -1;
	if (p.provider_lease_id) {
		cleanup_free char *key = op_lease_key(p.base.driver_key, p.base.company_id, p.base.environment_id,
						      p.provider_lease_id);
		struct fiber_scope scope;

		deadline_enter(&scope, END_EXECUTES_MS);
		int ended = op_end_executes(op, key, reason, err);

		scope_leave(&scope);
		if (ended < 0)
			return -1;
	}
	if (end_fn(op, &p, &end, err) < 0)
		return -1;
	if (end != LEASE_UNPROVEN && p.provider_lease_id)
		*ret = json_pack("{s:s, s:s}", "providerLeaseId", p.provider_lease_id, "state",
				 end == LEASE_STOPPED ? "stopped" : "destroyed");
	return 0;
}

static int serve_release(struct op *op, json_t **ret, struct err *err)
{
	return end_lease(op, op->provider->release_lease, "The command was ended: its sandbox lease was released.", ret, err);
}

static int serve_destroy(struct op *op, json_t **ret, struct err *err)
{
	return end_lease(op, op->provider->destroy_lease, "The command was ended: its sandbox lease was destroyed.", ret, err);
}

static int serve_realize(struct op *op, json_t **ret, struct err *err)
{
	static const struct field table[] = {
		{"localPath", FIELD_STRING, offsetof(struct realize_params, local_path), false},
		{"remotePath", FIELD_STRING, offsetof(struct realize_params, remote_path), false},
		{0},
	};
	struct realize_params p = {.workspace = json_object_get(op->params, "workspace")};
	struct realize_result result = {0};

	if (read_request_base(op, &p.base, err) < 0 || read_lease_ref(op, &p.lease, err) < 0)
		return -1;
	if (p.workspace && !json_is_null(p.workspace) && !json_is_object(p.workspace))
		return err_set(err, ERR_INVALID, "params.workspace must be an object");
	if (!json_is_object(p.workspace))
		p.workspace = empty_object();
	if (fields_read(p.workspace, table, "params.workspace", &p, err) < 0)
		return -1;
	int rc = op->provider->realize_workspace(op, &p, &result, err);

	if (rc == 0) {
		*ret = json_pack("{s:s}", "cwd", result.cwd);
		set_unless_null(*ret, "metadata", steal(&result.metadata));
	}
	realize_result_deinit(&result);
	return rc;
}

/* --- execute --- */

static int read_args(const json_t *array, struct strv *ret, struct err *err)
{
	const json_t *item;
	size_t i;

	json_array_foreach(array, i, item) {
		if (!json_is_string(item))
			return err_set(err, ERR_INVALID, "params.args[%zu] must be a string", i);
		if (strlen(json_string_value(item)) != json_string_length(item))
			return err_set(err, ERR_INVALID, "params.args[%zu] must be a string without null bytes", i);
		strv_add(ret, json_string_value(item));
	}
	return 0;
}

/* A name with a NUL would reach the command cut short, as another one. */
static int check_env_names(const json_t *env, struct err *err)
{
	/* Jansson's iteration takes no const value, though it changes nothing. */
	json_t *object = (json_t *)(uintptr_t)env;

	for (void *item = json_object_iter(object); item; item = json_object_iter_next(object, item))
		if (strlen(json_object_iter_key(item)) != json_object_iter_key_len(item))
			return err_set(err, ERR_INVALID, "params.env: a name must not hold a NUL");
	return 0;
}

static int read_execute(const struct op *op, struct execute_params *p, struct strv *args, struct input *input, struct err *err)
{
	static const struct field table[] = {
		{"command", FIELD_STRING, offsetof(struct execute_params, command), true},
		{"cwd", FIELD_STRING, offsetof(struct execute_params, cwd), false},
		{"env", FIELD_OBJECT, offsetof(struct execute_params, env), false},
		{"bypassSession", FIELD_FLAG, offsetof(struct execute_params, bypass_session), false},
		{0},
	};
	const json_t *list = json_object_get(op->params, "args"), *text = json_object_get(op->params, "stdin");
	const json_t *timeout = json_object_get(op->params, "timeoutMs");

	if (read_request_base(op, &p->base, err) < 0 || read_lease_ref(op, &p->lease, err) < 0 ||
	    fields_read(op->params, table, "params", p, err) < 0)
		return -1;
	if (list && !json_is_null(list) && !json_is_array(list))
		return err_set(err, ERR_INVALID, "params.args must be an array");
	if (read_args(list, args, err) < 0)
		return -1;
	p->args = strv_list(args);
	p->args_given = json_is_array(list);
	p->env_given = p->env != NULL;
	if (!p->env)
		p->env = empty_object();
	if (check_env_names(p->env, err) < 0)
		return -1;
	if (text && !json_is_null(text) && !json_is_string(text))
		return err_set(err, ERR_INVALID, "params.stdin must be a string");
	if (json_is_string(text)) {
		*input = INPUT_FROM_TEXT(json_string_value(text), json_string_length(text));
		p->stdin_data = input;
	}
	p->has_timeout = json_is_number(timeout);
	p->timeout_ms = json_number_value(timeout);
	return 0;
}

static void write_stream(struct op *op, struct message *m, enum output_stream stream, const char *key)
{
	buf_append_str(message_tail(m), key);
	output_give(op->output, stream, m);
	buf_append_str(message_tail(m), "\"");
}

static void write_extra(struct buf *line, json_t *extra)
{
	cleanup_json json_t *masked = secret_masked_json(extra);
	const char *key;
	json_t *value;

	json_object_foreach(masked, key, value) {
		buf_append_char(line, ',');
		json_write_string(line, key, strlen(key));
		buf_append_char(line, ':');
		json_write_value(line, value);
	}
}

/* The result's texts go out as they are, without a copy; so this answer is written by hand. */
static void answer_execute(struct op *op, struct execute_result *result)
{
	struct message *m = message_create();
	struct buf *line = message_tail(m);

	op_begin_result(op, line);
	if (result->has_exit_code)
		buf_printf(line, "{\"exitCode\":%d", result->exit_code);
	else
		buf_append_str(line, "{\"exitCode\":null");
	if (result->has_signal_key && result->signal_name)
		buf_printf(line, ",\"signal\":\"%s\"", result->signal_name);
	else if (result->has_signal_key)
		buf_append_str(line, ",\"signal\":null");
	buf_append_str(line, result->timed_out ? ",\"timedOut\":true" : ",\"timedOut\":false");
	output_describe_cuts(op->output, &result->metadata);
	write_stream(op, m, OUTPUT_STDOUT, ",\"stdout\":\"");
	write_stream(op, m, OUTPUT_STDERR, ",\"stderr\":\"");
	line = message_tail(m);
	if (result->metadata) {
		buf_append_str(line, ",\"metadata\":");
		cleanup_json json_t *masked = secret_masked_json(result->metadata);

		json_write_value(line, masked);
	}
	if (result->extra)
		write_extra(line, result->extra);
	buf_append_str(line, "}}\n");
	op_answer_message(op, m);
}

static int serve_execute(struct op *op, json_t **ret, struct err *err)
{
	struct execute_params p = {0};
	struct execute_result result = {0};
	struct input input;
	cleanup_strv struct strv args = {0};

	(void)ret;
	if (read_execute(op, &p, &args, &input, err) < 0)
		return -1;
	op->lease_key = op_lease_key(p.base.driver_key, p.base.company_id, p.base.environment_id, p.lease.provider_lease_id);
	op_open_output(op);
	int rc = op->provider->execute(op, &p, &result, err);

	output_finish(op->output);
	if (rc == 0)
		answer_execute(op, &result);
	execute_result_deinit(&result);
	return rc;
}

/* --- interactive setup and templates --- */

static int read_setup(const struct op *op, struct setup_params *p, struct err *err)
{
	static const struct field table[] = {
		{"sessionId", FIELD_STRING, offsetof(struct setup_params, session_id), false},
		{"providerLeaseId", FIELD_STRING, offsetof(struct setup_params, provider_lease_id), false},
		{"sourceTemplateRef", FIELD_STRING, offsetof(struct setup_params, source_template_ref), false},
		{"sourceTemplateKind", FIELD_STRING, offsetof(struct setup_params, source_template_kind), false},
		{"previousTemplateRef", FIELD_STRING, offsetof(struct setup_params, previous_template_ref), false},
		{"templateRef", FIELD_STRING, offsetof(struct setup_params, template_ref), false},
		{"templateKind", FIELD_STRING, offsetof(struct setup_params, template_kind), false},
		{"templateLabel", FIELD_STRING, offsetof(struct setup_params, template_label), false},
		{"expiresAt", FIELD_STRING, offsetof(struct setup_params, expires_at), false},
		{"reason", FIELD_STRING, offsetof(struct setup_params, reason), false},
		{"setupMetadata", FIELD_OBJECT, offsetof(struct setup_params, setup_metadata), false},
		{"includeConnectionPayload", FIELD_FLAG, offsetof(struct setup_params, include_connection_payload), false},
		{"timeoutMs", FIELD_NUMBER, offsetof(struct setup_params, timeout_ms), false},
		{"connectionExpiresInMinutes", FIELD_NUMBER, offsetof(struct setup_params, connection_expires_in_minutes), false},
		{0},
	};

	if (read_request_base(op, &p->base, err) < 0)
		return -1;
	return fields_read(op->params, table, "params", p, err);
}

typedef int setup_fn(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);

static int serve_setup(struct op *op, setup_fn *fn, json_t **ret, struct err *err)
{
	struct setup_params p = {0};

	return read_setup(op, &p, err) < 0 ? -1 : fn(op, &p, ret, err);
}

static int serve_start_setup(struct op *op, json_t **ret, struct err *err)
{
	return serve_setup(op, op->provider->start_setup, ret, err);
}

static int serve_get_setup(struct op *op, json_t **ret, struct err *err)
{
	return serve_setup(op, op->provider->get_setup, ret, err);
}

static int serve_capture_template(struct op *op, json_t **ret, struct err *err)
{
	return serve_setup(op, op->provider->capture_template, ret, err);
}

static int serve_cancel_setup(struct op *op, json_t **ret, struct err *err)
{
	return serve_setup(op, op->provider->cancel_setup, ret, err);
}

static int serve_delete_template(struct op *op, json_t **ret, struct err *err)
{
	return serve_setup(op, op->provider->delete_template, ret, err);
}

#define SLOT(member) offsetof(struct provider, member)

const struct method environment_methods[] = {
	{"environmentValidateConfig", HOST_TIMEOUT_DEFAULT, serve_validate_config, SLOT(validate_config), false},
	{"environmentProbe", HOST_TIMEOUT_PROBE, serve_probe, SLOT(probe), false},
	{"environmentAcquireLease", HOST_TIMEOUT_CONFIG, serve_acquire, SLOT(acquire_lease), false},
	{"environmentResumeLease", HOST_TIMEOUT_RESUME, serve_resume, SLOT(resume_lease), false},
	{"environmentReleaseLease", HOST_TIMEOUT_CONFIG, serve_release, SLOT(release_lease), true},
	{"environmentDestroyLease", HOST_TIMEOUT_CONFIG, serve_destroy, SLOT(destroy_lease), true},
	{"environmentRealizeWorkspace", HOST_TIMEOUT_CONFIG, serve_realize, SLOT(realize_workspace), false},
	{"environmentExecute", HOST_TIMEOUT_EXECUTE, serve_execute, SLOT(execute), false},
	{"environmentSyncIn", HOST_TIMEOUT_CONFIG, serve_sync_in, SLOT(sync_in), false},
	{"environmentSyncOut", HOST_TIMEOUT_CONFIG, serve_sync_out, SLOT(sync_out), false},
	{"environmentStartInteractiveSetup", HOST_TIMEOUT_SETUP, serve_start_setup, SLOT(start_setup), false},
	{"environmentGetInteractiveSetup", HOST_TIMEOUT_SETUP, serve_get_setup, SLOT(get_setup), false},
	{"environmentCaptureTemplate", HOST_TIMEOUT_EXECUTE, serve_capture_template, SLOT(capture_template), false},
	{"environmentCancelInteractiveSetup", HOST_TIMEOUT_SETUP, serve_cancel_setup, SLOT(cancel_setup), false},
	{"environmentDeleteTemplate", HOST_TIMEOUT_SETUP, serve_delete_template, SLOT(delete_template), false},
	{0},
};
