/* What the leases of both drivers have in common (wire: e2b, The driver). */
#include "e2b.h"

#include "log.h"
#include "protocol/js_value.h"
#include "protocol/shell_quote.h"

#include <string.h>

#define KILL_MS 20000
#define RELEASE_KILL_MS 6000 /* the host waits */

/* --- memory --- */

static void lease_deinit(void *lease)
{
	str_wipe_free(((struct e2b_lease *)lease)->token);
}

void *e2b_state_create(struct worker *worker)
{
	struct e2b_state *state = xcalloc(1, sizeof(*state));

	(void)worker;
	lease_table_init(&state->leases, sizeof(struct e2b_lease), lease_deinit);
	list_init(&state->runs);
	return state;
}

void e2b_state_destroy(void *state)
{
	if (!state)
		return;
	lease_table_deinit(&((struct e2b_state *)state)->leases);
	free(state);
}

static char *key_of(const struct e2b_client *c, const struct request_base *base, const char *id)
{
	return lease_key(base, id, (const char *const[]){c->api_url, c->api_key, NULL});
}

void e2b_lease_keep(struct op *op, const struct e2b_client *c, const struct request_base *base, const struct e2b_sandbox *s)
{
	struct e2b_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, s->id);
	struct e2b_lease *lease = lease_table_pin(&state->leases, key);

	str_wipe_free(lease->token);
	lease->token = s->token ? xstrdup(s->token) : NULL;
	lease_table_keep(&state->leases, lease);
	lease_table_unpin(&state->leases, lease);
}

void e2b_lease_end(struct op *op, const struct e2b_client *c, const struct request_base *base, const char *id)
{
	struct e2b_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, id);
	struct e2b_lease *lease = lease_table_pin(&state->leases, key);

	lease_table_end(&state->leases, lease);
	lease_table_unpin(&state->leases, lease);
}

bool e2b_lease_has_ended(struct op *op, const struct e2b_client *c, const struct request_base *base, const char *id)
{
	struct e2b_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, id);
	const struct e2b_lease *lease = lease_table_find(&state->leases, key);

	return lease && lease->entry.ended;
}

int e2b_lease_connect(struct op *op, const struct e2b_client *c, const struct request_base *base, const char *id, double seconds,
		      struct e2b_sandbox *ret, struct err *err)
{
	struct e2b_state *state = op_state(op);
	cleanup_free char *key = key_of(c, base, id);

	if (e2b_sandbox_connect(op, c, id, seconds, ret, err) < 0)
		return -1;
	const struct e2b_lease *lease = lease_table_find(&state->leases, key);
	if (ret->token || !lease || !lease->token)
		return 0;
	ret->token = xstrdup(lease->token);
	op_hold_secret(op, ret->token);
	return 0;
}

/* --- the end --- */

/* The host wants proof only where it asked for the end of active work; else the answer is null. */
static enum lease_end proof(const struct lease_params *p, enum lease_end end)
{
	return p->cancel_active_work ? end : LEASE_UNPROVEN;
}

int e2b_lease_kill(struct op *op, const struct e2b_client *c, const struct lease_params *p, const char *what, enum lease_end *ret,
		   struct err *err)
{
	e2b_lease_end(op, c, &p->base, p->provider_lease_id);
	if (e2b_sandbox_kill(op, c, p->provider_lease_id, RELEASE_KILL_MS, err) < 0) {
		op_log(op, LOG_LEVEL_ERROR, NULL, "Failed to kill %s sandbox during %s: %s", c->service->name, what,
		       err_text(err));
		return -1;
	}
	*ret = proof(p, LEASE_DESTROYED);
	return 0;
}

int e2b_lease_pause_or_kill(struct op *op, const struct e2b_client *c, const struct lease_params *p, enum lease_end *ret,
			    struct err *err)
{
	const char *id = p->provider_lease_id;
	cleanup_err struct err e = ERR_INIT;

	e2b_lease_end(op, c, &p->base, id);
	int rc = e2b_sandbox_pause(op, c, id, &e);
	if (rc == 0 || err_is(&e, ERR_NOT_FOUND)) {
		*ret = proof(p, rc == 0 ? LEASE_STOPPED : LEASE_DESTROYED);
		return 0;
	}
	op_log(op, LOG_LEVEL_WARN, NULL, "Failed to pause %s sandbox during lease release: %s. Attempting kill instead.",
	       c->service->name, err_text(&e));
	if (e2b_sandbox_kill(op, c, id, KILL_MS, err) < 0) {
		op_log(op, LOG_LEVEL_ERROR, NULL, "Failed to kill %s sandbox during lease release fallback cleanup: %s",
		       c->service->name, err_text(err));
		return -1;
	}
	*ret = proof(p, LEASE_DESTROYED);
	return 0;
}

/* --- directories --- */

char *e2b_workspace_path(const struct realize_params *p, const char *fallback)
{
	char *path = js_trimmed(json_object_get(p->lease.metadata, "remoteCwd"));

	if (path)
		return path;
	return xstrdup(p->remote_path ? p->remote_path : p->local_path ? p->local_path : fallback);
}

int e2b_make_directory(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *path, const char *cwd,
		       double limit_ms, struct e2b_failure *ret_failure, struct err *err)
{
	cleanup_buf struct buf script = BUF_INIT(BUF_UNBOUNDED);

	buf_append_str(&script, "mkdir -p ");
	shell_quote(&script, path);
	return e2b_command_check(op, c, s, script.data, cwd, limit_ms, NULL, ret_failure, err);
}

/* --- what a probe says --- */

void e2b_tell(json_t *diagnostics, const char *severity, const char *code, const char *format, ...)
{
	va_list ap;

	if (!diagnostics)
		return;
	va_start(ap, format);
	cleanup_free char *message = xvasprintf(format, ap);
	va_end(ap);
	json_array_append_new(diagnostics, json_pack("{s:s, s:s, s:s}", "severity", severity, "message", message, "code", code));
}

/* NULL: there is nothing to say that the text does not. */
static const char *advice_for(const struct e2b_client *c, const struct err *err)
{
	if (err_is(err, ERR_AUTH))
		return "Is the API key right, and is it one of this service? See apiKey, and apiUrl or domain for services of "
		       "your own.";
	if (err_is(err, ERR_NOT_FOUND))
		return "Does the template exist in this account? See template.";
	if (err_is(err, ERR_BUSY))
		return "The account's limit of sandboxes or the service's capacity is used up: end other sandboxes, or try again "
		       "later.";
	if (!err_is(err, ERR_TRANSPORT))
		return NULL;
	return c->http.proxy_url
		       ? "The service is not reached: see proxyUrl, apiUrl and domain, and caFile if its certificate is your own."
		       : "The service is not reached: does this machine need a proxy (proxyUrl), or is it another service "
			 "(apiUrl, domain)?";
}

void e2b_tell_failure(json_t *diagnostics, const struct e2b_client *c, const char *code, const struct err *err)
{
	const char *text = err_text(err), *advice = advice_for(c, err);
	bool is_sentence = *text && strchr(".?!", text[strlen(text) - 1]);

	e2b_tell(diagnostics, "error", code, "%s%s%s", text, !advice ? "" : is_sentence ? " " : ". ", advice ? advice : "");
}
