/*
 * wire: fake-plugin, Interactive setup and templates. A session has no directory and no process: it shows how the host treats one.
 *
 * No answer holds an address, a key or a ref in its metadata: what a real provider would have to hide is "redacted" here, too.
 */
#include "fake.h"

#include "base/buf.h"
#include "base/mem.h"

#include <string.h>

struct fake_session {
	struct list link;
	/* All owned. NULL: the host named none. */
	char *company;
	char *id; /* the providerLeaseId */
	char *environment_id;
	char *session_id;
	char *source_template_ref;
	char *captured_template_ref;
	char *expires_at;
	json_t *image; /* owned, of the config that it was started with */
	const char *status;
};

struct fake_template {
	struct list link;
	char *company; /* owned or NULL */
	char *ref;     /* owned */
};

static const char status_waiting[] = "waiting_for_user";

static char *strdup_or_null(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

static void session_destroy(struct fake_session *s)
{
	list_remove(&s->link);
	free(s->company);
	free(s->id);
	free(s->environment_id);
	free(s->session_id);
	free(s->source_template_ref);
	free(s->captured_template_ref);
	free(s->expires_at);
	json_decref(s->image);
	free(s);
}

static struct fake_session *session_find(struct op *op, const struct setup_params *p, const char *id)
{
	struct fake_state *state = op_state(op);

	list_for_each(item, &state->sessions) {
		struct fake_session *s = container_of(item, struct fake_session, link);
		if (str_eq(s->id, id) && str_eq(s->company, p->base.company_id))
			return s;
	}
	return NULL;
}

static struct fake_template *template_find(struct op *op, const struct setup_params *p, const char *ref)
{
	struct fake_state *state = op_state(op);

	list_for_each(item, &state->templates) {
		struct fake_template *t = container_of(item, struct fake_template, link);
		if (str_eq(t->ref, ref) && str_eq(t->company, p->base.company_id))
			return t;
	}
	return NULL;
}

/* encodeURIComponent with "_" for "%": "Env 1/ä%" -> "Env_201_2F_C3_A4_25". */
static void append_ref(struct buf *out, const char *text)
{
	for (const char *c = text; *c; c++) {
		if ((*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || strchr("-_.!~*'()", *c))
			buf_append_char(out, *c);
		else
			buf_printf(out, "_%02X", (unsigned char)*c);
	}
}

static char *join_refs(const char *prefix, const char *environment_id, char separator, const char *session_id)
{
	cleanup_buf struct buf out = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(&out, prefix);
	append_ref(&out, environment_id);
	buf_append_char(&out, separator);
	append_ref(&out, session_id);
	return buf_steal(&out);
}

static json_t *connection_summary(void)
{
	return json_pack("{s:s, s:s, s:b, s:b, s:b, s:{s:b}}", "type", "ssh", "username", "sandbox", "hostRedacted", 1,
			 "portRedacted", 1, "commandRedacted", 1, "metadata", "placeholderOnly", 1);
}

static json_t *connection_payload(const struct fake_session *s)
{
	return json_pack("{s:s, s:s, s:s?, s:{s:b}}", "type", "ssh", "command",
			 "ssh sandbox@[fake-setup-host-redacted] -p [fake-port-redacted]", "expiresAt", s->expires_at, "metadata",
			 "placeholderOnly", 1);
}

static json_t *session_answer(const struct fake_session *s, bool with_payload)
{
	bool waiting = strcmp(s->status, status_waiting) == 0;
	json_t *metadata = json_pack("{s:s, s:O, s:b, s:s, s:b, s:b}", "provider", FAKE_PROVIDER_NAME, "image", s->image,
				     "sourceTemplateRefRedacted", str_nonempty(s->source_template_ref), "setupSessionId",
				     s->session_id, "redactedConnectionOnly", 1, "capturedTemplateRefRedacted",
				     str_nonempty(s->captured_template_ref));

	return json_pack("{s:s, s:s, s:o, s:o, s:s?, s:o}", "providerLeaseId", s->id, "status", s->status, "connectionSummary",
			 waiting ? connection_summary() : json_null(), "connectionPayload",
			 waiting && with_payload ? connection_payload(s) : json_null(), "expiresAt", s->expires_at, "metadata",
			 metadata);
}

static struct fake_session *session_create(struct op *op, const struct setup_params *p, char *id)
{
	struct fake_state *state = op_state(op);
	struct fake_session *s = xmalloc(sizeof *s);
	cleanup_config struct fake_config config = {0};

	fake_config_parse(p->base.config, &config);
	*s = (struct fake_session){
		.company = strdup_or_null(p->base.company_id),
		.id = id,
		.environment_id = xstrdup(p->base.environment_id),
		.session_id = xstrdup(p->session_id),
		.source_template_ref = strdup_or_null(p->source_template_ref),
		.expires_at = strdup_or_null(p->expires_at),
		.image = json_incref(config.image),
		.status = status_waiting,
	};
	list_append(&state->sessions, &s->link);
	return s;
}

int fake_start_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	if (!p->base.environment_id || !p->session_id)
		return err_set(err, ERR_INVALID, "%s is missing: a setup session is named after its environment and session",
			       p->base.environment_id ? "sessionId" : "environmentId");
	cleanup_free char *id = join_refs("fake-plugin-setup://", p->base.environment_id, '/', p->session_id);
	struct fake_session *s = session_find(op, p, id);
	if (!s)
		s = session_create(op, p, steal(&id));
	*ret = session_answer(s, /* with_payload= */ true);
	return 0;
}

int fake_get_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	struct fake_session *s = session_find(op, p, p->provider_lease_id);

	if (s)
		*ret = session_answer(s, p->include_connection_payload);
	else
		*ret = json_pack("{s:s?, s:s, s:n, s:n, s:{s:s, s:b}}", "providerLeaseId", p->provider_lease_id, "status",
				 "missing", "connectionSummary", "connectionPayload", "metadata", "provider", FAKE_PROVIDER_NAME,
				 "found", 0);
	return 0;
}

static void template_remember(struct op *op, const struct setup_params *p, const char *ref)
{
	struct fake_state *state = op_state(op);

	if (template_find(op, p, ref))
		return;
	struct fake_template *t = xmalloc(sizeof *t);
	*t = (struct fake_template){.company = strdup_or_null(p->base.company_id), .ref = xstrdup(ref)};
	list_append(&state->templates, &t->link);
}

static json_t *template_answer(const struct fake_session *s, const struct setup_params *p)
{
	const char *source = p->source_template_ref ? p->source_template_ref : s->source_template_ref;
	cleanup_config struct fake_config config = {0};

	fake_config_parse(p->base.config, &config);
	return json_pack("{s:s, s:s, s:{s:s, s:O, s:b, s:b, s:s, s:b}}", "templateRef", s->captured_template_ref, "templateKind",
			 "snapshot", "metadata", "provider", FAKE_PROVIDER_NAME, "image", config.image,
			 "sourceTemplateRefRedacted", str_nonempty(source), "previousTemplateRefRedacted",
			 str_nonempty(p->previous_template_ref), "setupSessionId", s->session_id, "promoted", 1);
}

int fake_capture_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	struct fake_session *s = session_find(op, p, p->provider_lease_id);

	if (!s)
		return err_set(err, ERR_NOT_FOUND, "Fake setup session not found.");
	if (strcmp(s->status, status_waiting) != 0 && strcmp(s->status, "promoted") != 0)
		return err_set(err, ERR_CONFLICT, "Fake setup session cannot be captured from status %s.", s->status);
	if (fake_lease_remove(op_state(op), p->base.company_id, s->id, err) < 0)
		return -1;
	s->status = "promoted";
	free(s->captured_template_ref);
	s->captured_template_ref = join_refs("fake-template:", s->environment_id, ':', s->session_id);
	template_remember(op, p, s->captured_template_ref);
	*ret = template_answer(s, p);
	return 0;
}

static const char *cancel_status(const char *reason)
{
	if (str_eq(reason, "timed_out"))
		return "timed_out";
	if (str_eq(reason, "failed"))
		return "failed";
	return "cancelled";
}

int fake_cancel_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	struct fake_session *s = session_find(op, p, p->provider_lease_id);
	const char *status = cancel_status(p->reason);

	if (s) {
		if (fake_lease_remove(op_state(op), p->base.company_id, s->id, err) < 0)
			return -1;
		s->status = status;
	}
	*ret = json_pack("{s:s, s:{s:s, s:b}}", "status", status, "metadata", "provider", FAKE_PROVIDER_NAME, "found", s != NULL);
	return 0;
}

/* A deleted template stays known: the answer is the same when it is deleted again. */
int fake_delete_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err)
{
	bool known = template_find(op, p, p->template_ref);

	*ret = json_pack("{s:b, s:{s:s, s:s?, s:s}}", "deleted", known, "metadata", "provider", FAKE_PROVIDER_NAME, "templateRef",
			 p->template_ref, "templateKind", p->template_kind ? p->template_kind : "snapshot");
	return 0;
}

void fake_setup_forget_all(struct fake_state *state)
{
	list_for_each(item, &state->sessions)
		session_destroy(container_of(item, struct fake_session, link));
	list_for_each(item, &state->templates) {
		struct fake_template *t = container_of(item, struct fake_template, link);
		list_remove(&t->link);
		free(t->company);
		free(t->ref);
		free(t);
	}
}
