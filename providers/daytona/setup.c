/* wire: daytona, Interactive setup and templates. */
#include "daytona.h"

#include "protocol/host_time.h"
#include "protocol/js_value.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define DELETE_MS 20000
#define MINUTES_DEFAULT 60
#define MINUTES_MAX 1440
#define NAME_MAX_LENGTH 96

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

static int64_t now_ms(void)
{
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static int minutes_of(const struct setup_params *p)
{
	double minutes = trunc(p->connection_expires_in_minutes);

	if (minutes == 0)
		return MINUTES_DEFAULT;
	return minutes < 1 ? 1 : minutes > MINUTES_MAX ? MINUTES_MAX : (int)minutes;
}

/* --- ssh access --- */

struct access {
	char *command; /* owned, like these */
	char *token;   /* NULL: none was given */
	char *expires_at;
};

static void access_deinit(struct access *a)
{
	str_wipe_free(a->command);
	str_wipe_free(a->token);
	free(a->expires_at);
}
#define cleanup_access cleanup(access_deinit)

static void access_read(const json_t *answer, int minutes, struct access *ret)
{
	const char *expires_at = json_string_value(json_object_get(answer, "expiresAt"));
	char fallback[ISO_TIME_BYTES];

	ret->token = js_trimmed(json_object_get(answer, "token"));
	ret->command = js_trimmed(json_object_get(answer, "command"));
	if (!ret->command)
		ret->command = js_trimmed(json_object_get(answer, "sshCommand"));
	if (!ret->command && ret->token)
		ret->command = xasprintf("ssh %s@ssh.app.daytona.io", ret->token);
	ret->expires_at = xstrdup(str_nonempty(expires_at) ? expires_at
							   : iso_time_format(now_ms() + minutes * 60000LL, fallback));
}

static int open_access(struct op *op, const struct daytona_config *c, const struct daytona_sandbox *s, int minutes,
		       struct access *ret, struct err *err)
{
	cleanup_free char *base = daytona_url(c->api_url, "/sandbox/%s/ssh-access", DAYTONA_PARTS(s->id));
	cleanup_free char *url = xasprintf("%s?expiresInMinutes=%d", base, minutes);
	cleanup_daytona_answer struct daytona_answer answer = {0};
	struct daytona_call call = {
		.method = "POST", .url = url, .deadline_ms = daytona_call_ms(c), .repeat = HTTP_REPEAT_REJECTED};

	if (daytona_perform(op, c, &call, &answer, err) < 0)
		return -1;
	access_read(answer.json, minutes, ret);
	return ret->command ? 0 : err_set(err, ERR_PROTOCOL, "Daytona SSH access did not return a token or SSH command.");
}

static json_t *access_summary(const struct access *a, int minutes)
{
	json_t *summary = json_pack("{s:s, s:s, s:b, s:b, s:b}", "type", "ssh", "username", "token", "hostRedacted", true,
				    "portRedacted", true, "commandRedacted", true);
	json_t *metadata = json_pack("{s:s}", "provider", "daytona");

	if (a) {
		json_object_set_new(summary, "expiresAt", json_string(a->expires_at));
		json_object_set_new(metadata, "expiresInMinutes", json_integer(minutes));
	}
	json_object_set_new(summary, "metadata", metadata);
	return summary;
}

static json_t *access_payload(const struct access *a)
{
	json_t *payload = json_pack("{s:s, s:s}", "type", "ssh", "command", a->command);

	if (a->token)
		json_object_set_new(payload, "token", json_string(a->token));
	json_object_set_new(payload, "expiresAt", json_string(a->expires_at));
	json_object_set_new(payload, "metadata", json_pack("{s:s, s:b}", "provider", "daytona", "sensitive", true));
	return payload;
}

/* --- setup sessions --- */

/* Setup starts from that template, whatever the config says. */
static int apply_source(struct daytona_config *c, const struct setup_params *p, struct err *err)
{
	const char *kind = p->source_template_kind ? p->source_template_kind : "snapshot";
	bool is_image = strcmp(kind, "image") == 0;

	if (!str_nonempty(p->source_template_ref))
		return 0;
	if (!is_image && strcmp(kind, "snapshot") != 0)
		return err_set(err, ERR_INVALID,
			       "Daytona interactive setup can start from image or snapshot templates only, not %s.", kind);
	free(c->image);
	free(c->snapshot);
	c->image = is_image ? xstrdup(p->source_template_ref) : NULL;
	c->snapshot = is_image ? NULL : xstrdup(p->source_template_ref);
	return 0;
}

static json_t *setup_metadata(const struct daytona_config *c, const struct daytona_sandbox *s, const struct setup_params *p,
			      const char *shell, const char *cwd)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:o, s:o, s:s, s:b}", "provider", "daytona", "sandboxId", s->id,
			 "sandboxState", s->state, "shellCommand", shell, "imageConfigured", c->image != NULL,
			 "snapshotConfigured", c->snapshot != NULL, "sourceTemplateRefRedacted",
			 str_nonempty(p->source_template_ref), "target", text_or_null(s->target), "timeoutMs",
			 js_number_json(c->timeout_ms), "remoteCwd", cwd, "connectionRedacted", true);
}

static int describe_setup(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const struct setup_params *p,
			  bool with_access, json_t **ret, struct err *err)
{
	cleanup_free char *cwd = NULL;
	cleanup_access struct access access = {0};
	const char *shell;
	int minutes = minutes_of(p);

	if (daytona_make_workspace(op, c, s, &cwd, err) < 0 || daytona_find_shell(op, c, s, &shell, err) < 0 ||
	    (with_access && open_access(op, c, s, minutes, &access, err) < 0))
		return -1;
	*ret = json_pack("{s:s, s:s, s:o, s:o, s:o}", "providerLeaseId", s->id, "status", "waiting_for_user", "connectionSummary",
			 access_summary(with_access ? &access : NULL, minutes), "connectionPayload",
			 with_access ? access_payload(&access) : json_null(), "metadata", setup_metadata(c, s, p, shell, cwd));
	if (p->session_id)
		json_object_set_new(*ret, "expiresAt", json_string(p->expires_at ? p->expires_at : access.expires_at));
	return 0;
}

int daytona_start_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	cleanup_daytona_sandbox struct daytona_sandbox s = {0};
	struct daytona_purpose purpose = {.base = &p->base, .is_setup = true, .setup_session_id = p->session_id};

	if (daytona_config_read(op, p->base.config, &c, err) < 0 || apply_source(&c, p, err) < 0 ||
	    daytona_sandbox_create(op, &c, &purpose, &s, err) < 0)
		return -1;
	if (describe_setup(op, &c, &s, p, /* with_access= */ true, ret, err) < 0) {
		daytona_sandbox_discard(op, &c, s.id);
		return -1;
	}
	return 0;
}

/* 0 with *ret_missing: there is no such sandbox. */
static int find_setup(struct op *op, const struct setup_params *p, struct daytona_config *c, struct daytona_sandbox *s,
		      bool *ret_missing, struct err *err)
{
	cleanup_err struct err e = ERR_INIT;

	*ret_missing = !str_nonempty(p->provider_lease_id);
	if (*ret_missing)
		return 0;
	if (daytona_config_read(op, p->base.config, c, err) < 0)
		return -1;
	if (daytona_sandbox_get(op, c, p->provider_lease_id, s, &e) == 0)
		return 0;
	*ret_missing = err_is(&e, ERR_NOT_FOUND);
	return *ret_missing ? 0 : err_move(err, &e);
}

int daytona_get_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	cleanup_daytona_sandbox struct daytona_sandbox s = {0};
	bool missing;

	if (find_setup(op, p, &c, &s, &missing, err) < 0)
		return -1;
	if (missing) {
		*ret = json_pack("{s:n, s:s, s:n, s:n, s:{s:s, s:b}}", "providerLeaseId", "status", "missing",
				 "connectionSummary", "connectionPayload", "metadata", "provider", "daytona", "missing", true);
		return 0;
	}
	if (daytona_sandbox_ensure_started(op, &c, &s, err) < 0)
		return -1;
	if (describe_setup(op, &c, &s, p, p->include_connection_payload, ret, err) < 0)
		return -1;
	json_object_del(*ret, "expiresAt");
	return 0;
}

int daytona_cancel_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	cleanup_daytona_sandbox struct daytona_sandbox s = {0};
	bool missing;

	if (find_setup(op, p, &c, &s, &missing, err) < 0)
		return -1;
	if (missing) {
		*ret = json_pack("{s:s, s:{s:s, s:b, s:o}}", "status", "missing", "metadata", "provider", "daytona", "missing",
				 true, "reason", text_or_null(p->reason));
		return 0;
	}
	struct daytona_handle *handle = daytona_handle_begin_end(op, &c, &p->base, s.id);
	free(steal(&handle->session));
	int rc = daytona_sandbox_delete(op, &c, s.id, DELETE_MS, err);
	daytona_handle_finish_end(op, handle);
	if (rc < 0)
		return -1;
	*ret = json_pack("{s:s, s:{s:s, s:s, s:o}}", "status", str_eq(p->reason, "timed_out") ? "timed_out" : "cancelled",
			 "metadata", "provider", "daytona", "sandboxId", s.id, "reason", text_or_null(p->reason));
	return 0;
}

/* --- templates --- */

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

char *daytona_template_name(const char *label)
{
	cleanup_buf struct buf name = BUF_INIT(BUF_UNBOUNDED);
	bool gap = false;

	for (; *label; label++) {
		char c = *label >= 'A' && *label <= 'Z' ? (char)(*label - 'A' + 'a') : *label;
		if (is_name_char(c))
			buf_append_char(&name, c);
		else if (!gap)
			buf_append_char(&name, '-');
		gap = !is_name_char(c);
	}
	size_t start = 0, end = name.len;
	while (start < end && name.data[start] == '-')
		start++;
	while (end > start && name.data[end - 1] == '-')
		end--;
	if (start == end)
		return NULL;
	return xstrndup(name.data + start, end - start < NAME_MAX_LENGTH ? end - start : NAME_MAX_LENGTH);
}

static char *template_name(const struct setup_params *p)
{
	cleanup_json json_t *label = p->template_label ? json_string(p->template_label) : NULL;
	cleanup_free char *trimmed = js_trimmed(label);
	char *name = trimmed ? daytona_template_name(trimmed) : NULL;
	unsigned random;

	if (name)
		return name;
	random_bytes(&random, sizeof random);
	cleanup_free char *fallback = xasprintf("paperclip-%s-%08x", p->base.environment_id ? p->base.environment_id : "",
						random);
	return daytona_template_name(fallback);
}

int daytona_capture_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};
	cleanup_daytona_sandbox struct daytona_sandbox s = {0};
	cleanup_free char *name = template_name(p);
	char captured_at[ISO_TIME_BYTES];

	if (!str_nonempty(p->provider_lease_id))
		return err_set(err, ERR_INVALID, "Cannot capture a Daytona template without a setup sandbox lease.");
	if (daytona_config_read(op, p->base.config, &c, err) < 0)
		return -1;
	double timeout_ms = p->timeout_ms > 0 ? trunc(p->timeout_ms) : c.timeout_ms;
	if (daytona_sandbox_get(op, &c, p->provider_lease_id, &s, err) < 0 ||
	    daytona_sandbox_capture(op, &c, &s, name, daytona_seconds(timeout_ms) * 1000, err) < 0)
		return -1;
	iso_time_format(now_ms(), captured_at);
	*ret = json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:b, s:b, s:o}}", "templateKind", "snapshot", "templateRef", name,
			 "metadata", "provider", "daytona", "sandboxId", s.id, "capturedAt", captured_at,
			 "sourceTemplateRefRedacted", str_nonempty(p->source_template_ref), "previousTemplateRefRedacted",
			 str_nonempty(p->previous_template_ref), "timeoutMs", js_number_json(timeout_ms));
	return 0;
}

/* Looked up by its name, deleted by its id. */
static int delete_snapshot(struct op *op, const struct daytona_config *c, const char *name, struct err *err)
{
	cleanup_free char *url = daytona_url(c->api_url, "/snapshots/%s", DAYTONA_PARTS(name));
	cleanup_daytona_answer struct daytona_answer found = {0};
	cleanup_daytona_answer struct daytona_answer deleted = {0};
	struct daytona_call call = {
		.method = "GET", .url = url, .deadline_ms = daytona_call_ms(c), .repeat = HTTP_REPEAT_IDEMPOTENT};

	if (daytona_perform(op, c, &call, &found, err) < 0)
		return -1;
	const char *id = json_string_value(json_object_get(found.json, "id"));
	if (!str_nonempty(id))
		return err_set(err, ERR_PROTOCOL, "Daytona answered without a snapshot.");
	cleanup_free char *id_url = daytona_url(c->api_url, "/snapshots/%s", DAYTONA_PARTS(id));
	call.method = "DELETE";
	call.url = id_url;
	call.repeat = HTTP_REPEAT_REJECTED;
	return daytona_perform(op, c, &call, &deleted, err);
}

int daytona_delete_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	cleanup_daytona_config struct daytona_config c = {0};

	if (p->template_kind && strcmp(p->template_kind, "snapshot") != 0)
		return err_set(err, ERR_INVALID, "Daytona can delete snapshot templates only, not %s.", p->template_kind);
	if (!str_nonempty(p->template_ref))
		return err_set(err, ERR_INVALID, "templateRef is missing: there is no template to delete");
	if (daytona_config_read(op, p->base.config, &c, err) < 0 || delete_snapshot(op, &c, p->template_ref, err) < 0)
		return -1;
	*ret = json_pack("{s:b, s:{s:s, s:s, s:b, s:o}}", "deleted", true, "metadata", "provider", "daytona", "templateKind",
			 "snapshot", "templateRefRedacted", true, "reason", text_or_null(p->reason));
	return 0;
}
