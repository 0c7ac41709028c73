/* wire: modal, Operations, Exec of a command; Metadata headers, Router token. */
#include "modal.h"

#include "base/str.h"
#include "protocol/url.h"
#include "secret.h"

#include <string.h>

#define TASK_POLLS_MAX 600
#define TASK_POLL_MS 500
#define GOOD_FOR_MS 30000 /* a token with so long to live is refused for another reason */

const struct modal_backoff modal_router_backoff = {.retries = 10, .first_ms = 10, .max_ms = 5120};

static void drop_access(struct modal_lease *lease)
{
	secret_release(lease->secret);
	str_wipe_free(lease->jwt);
	lease->secret = NULL;
	lease->jwt = NULL;
}

void modal_lease_doubt(struct modal_lease *lease)
{
	drop_access(lease);
	free(lease->task_id);
	free(lease->router_url);
	free(lease->router);
	lease->task_id = lease->router_url = lease->router = NULL;
	lease->known = false;
}

void modal_lease_deinit(void *data)
{
	struct modal_lease *lease = data;

	modal_lease_doubt(lease);
	free(lease->id);
}

/* --- the task --- */

static int set_completed(const char *id, const Modal__GenericResult *result, struct err *err)
{
	if (result->status == 1 || !str_nonempty(result->exception))
		return err_set(err, ERR_NOT_FOUND, "Sandbox %s has already completed", id);
	return err_set(err, ERR_NOT_FOUND, "Sandbox %s has already completed with result: exception:\"%s\"", id,
		       result->exception);
}

static int get_task(struct modal_session *s, struct modal_lease *lease, struct err *err)
{
	Modal__SandboxGetTaskIdRequest request = MODAL__SANDBOX_GET_TASK_ID_REQUEST__INIT;
	struct modal_rpc rpc = {
		.name = "SandboxGetTaskId", .request = &request.base, .answer = &modal__sandbox_get_task_id_response__descriptor};

	request.sandbox_id = lease->id;
	for (int i = 0; i < TASK_POLLS_MAX; i++) {
		cleanup_message Modal__SandboxGetTaskIdResponse *answer = NULL;

		if (modal_sandbox_call(s, lease, lease->id, &rpc, &answer, NULL, err) < 0)
			return -1;
		if (answer->task_result)
			return set_completed(lease->id, answer->task_result, err);
		if (str_nonempty(answer->task_id)) {
			lease->task_id = xstrdup(answer->task_id);
			return 0;
		}
		if (fiber_sleep(TASK_POLL_MS, err) < 0)
			return -1;
	}
	return err_set(err, ERR_REMOTE, "Timed out waiting for task ID for Sandbox %s", lease->id);
}

/* --- the router and its token --- */

/* What is called for the router's URL: its host and port alone; owned. NULL: ERR_PROTOCOL. */
static char *router_server(const struct modal_session *s, const char *text, struct err *err)
{
	cleanup_url struct url url = {0};

	if (!str_starts_with(text, "https:")) {
		err_set(err, ERR_PROTOCOL, "Task router URL must be https, got: %s", text);
		return NULL;
	}
	if (url_parse(text, &url, NULL) < 0 || !url.host) {
		err_set(err, ERR_PROTOCOL, "Modal answered with a task router that has no valid address");
		return NULL;
	}
	return xasprintf("%s://%s:%d", s->config.server_is_local ? "http" : "https", url.host, url_effective_port(&url));
}

static int take_access(struct modal_session *s, struct modal_lease *lease,
		       const Modal__TaskGetCommandRouterAccessResponse *answer, struct err *err)
{
	const char *url = answer->url ? answer->url : "";

	if (lease->router_url && strcmp(lease->router_url, url) != 0)
		return err_set(err, ERR_PROTOCOL, "Task router URL changed during session");
	char *server = router_server(s, url, err);

	if (!server)
		return -1;
	drop_access(lease);
	free(lease->router);
	free(lease->router_url);
	lease->router = server;
	lease->router_url = xstrdup(url);
	lease->jwt = xstrdup(answer->jwt ? answer->jwt : "");
	lease->secret = secret_hold(lease->jwt);
	lease->jwt_expires_unix_ms = modal_jwt_expiry(lease->jwt);
	lease->access++;
	return 0;
}

static int get_access(struct modal_session *s, struct modal_lease *lease, struct err *err)
{
	Modal__TaskGetCommandRouterAccessRequest request = MODAL__TASK_GET_COMMAND_ROUTER_ACCESS_REQUEST__INIT;
	cleanup_message Modal__TaskGetCommandRouterAccessResponse *answer = NULL;
	struct modal_rpc rpc = {
		.name = "TaskGetCommandRouterAccess",
		.request = &request.base,
		.answer = &modal__task_get_command_router_access_response__descriptor,
	};
	struct modal_fault fault;
	cleanup_err struct err e = ERR_INIT;
	cleanup_free char *task_id = xstrdup(lease->task_id); /* which may be forgotten meanwhile */

	request.task_id = task_id;
	if (modal_control(s, &rpc, NULL, &answer, &fault, &e) == 0)
		return take_access(s, lease, answer, err);
	if (fault.status == GRPC_FAILED_PRECONDITION)
		return err_set(err, ERR_CONFLICT, "Command router access is not available for this sandbox");
	/* Of the task. Whether the sandbox is there is another question. */
	if (err_is(&e, ERR_NOT_FOUND))
		e.kind = ERR_REMOTE;
	return err_move(err, &e);
}

static int connect_inside(struct modal_session *s, struct modal_lease *lease, struct err *err)
{
	if (!lease->task_id && get_task(s, lease, err) < 0)
		return -1;
	return lease->jwt ? 0 : get_access(s, lease, err);
}

int modal_router_connect(struct modal_session *s, struct modal_lease *lease, struct err *err)
{
	while (!lease->task_id || !lease->jwt) {
		cleanup_err struct err e = ERR_INIT;
		int rc = modal_gate_enter(&lease->gate, err);

		if (rc == 0)
			continue;
		if (rc < 0)
			return -1;
		rc = connect_inside(s, lease, &e);
		modal_gate_leave(&lease->gate, rc < 0 ? &e : NULL);
		if (rc < 0)
			return err_move(err, &e);
	}
	return 0;
}

int modal_lease_reach(struct modal_session *s, struct modal_lease *lease, bool *ret_gone, struct err *err)
{
	struct modal_state *state = op_state(s->op);
	cleanup_err struct err e = ERR_INIT;
	bool gone = false;

	if (ret_gone)
		*ret_gone = false;
	if (!lease->known && modal_sandbox_look(s, lease, lease->id, &gone, err) < 0)
		return -1;
	if (gone) {
		err_set(&e, ERR_NOT_FOUND, "Sandbox %s has already completed", lease->id);
	} else {
		lease->known = true;
		if (modal_router_connect(s, lease, &e) == 0) {
			if (!lease->entry.ended)
				lease_table_keep(&state->leases, lease);
			return 0;
		}
	}
	if (!err_is(&e, ERR_NOT_FOUND))
		return err_move(err, &e);
	modal_lease_doubt(lease);
	if (!ret_gone)
		return err_set(err, ERR_REMOTE, "%s", err_text(&e));
	*ret_gone = true;
	return 0;
}

/* The token was refused: another one, unless somebody has fetched it meanwhile. */
static int renew(struct modal_session *s, struct modal_lease *lease, unsigned access, struct err *err)
{
	while (lease->access == access) {
		cleanup_err struct err e = ERR_INIT;
		int rc = modal_gate_enter(&lease->gate, err);

		if (rc == 0)
			continue;
		if (rc < 0)
			return -1;
		rc = lease->access == access && lease->task_id ? get_access(s, lease, &e) : 0;
		modal_gate_leave(&lease->gate, rc < 0 ? &e : NULL);
		if (rc < 0)
			return err_move(err, &e);
		if (!lease->task_id)
			break;
	}
	return 0;
}

/* --- calls --- */

int modal_router_call(struct modal_session *s, struct modal_lease *lease, const struct modal_rpc *rpc, struct modal_retry *retry,
		      void *ret, struct modal_fault *fault, struct err *err)
{
	*fault = (struct modal_fault){.retry_after_ms = -1};
	if (modal_router_connect(s, lease, err) < 0)
		return -1;
	/* Others may renew them while this call is under way. */
	cleanup_free char *server = xstrdup(lease->router);
	char *jwt = xstrdup(lease->jwt);

	retry->access = lease->access;
	int rc = modal_router_attempt(s, server, jwt, rpc, ret, fault, err);

	str_wipe_free(jwt);
	return rc;
}

static int pause_before_next(int64_t pause, struct err *failure, struct err *err)
{
	cleanup_err struct err wait = ERR_INIT;

	if (fiber_sleep(pause, &wait) < 0)
		return err_move(err, err_is(&wait, ERR_CANCELLED) ? &wait : failure);
	err_clear(failure);
	return 0;
}

int modal_router_pause(struct modal_session *s, struct modal_lease *lease, struct modal_retry *retry,
		       const struct modal_backoff *backoff, const struct modal_fault *fault, struct err *failure, struct err *err)
{
	bool refused = fault->status == GRPC_UNAUTHENTICATED, refused_before = retry->refused;

	retry->refused = refused;
	if (refused && !refused_before) {
		bool expires_late = lease->jwt_expires_unix_ms > modal_unix_now_ms() + GOOD_FOR_MS;

		err_clear(failure);
		return expires_late ? 0 : renew(s, lease, retry->access, err);
	}
	if (fault->retry_after_ms >= 0 && retry->throttled++ < MODAL_THROTTLES_MAX)
		return pause_before_next(fault->retry_after_ms, failure, err);
	if (!modal_is_passing(fault->status) || retry->count >= backoff->retries)
		return err_move(err, failure);
	retry->count++;
	retry->pause_ms = retry->pause_ms ? retry->pause_ms * 2 : backoff->first_ms;
	if (retry->pause_ms > backoff->max_ms)
		retry->pause_ms = backoff->max_ms;
	return pause_before_next(retry->pause_ms, failure, err);
}

int modal_router_perform(struct modal_session *s, struct modal_lease *lease, const struct modal_rpc *rpc, void *ret,
			 struct modal_fault *fault, struct err *err)
{
	const struct modal_backoff *backoff = rpc->backoff ? rpc->backoff : &modal_router_backoff;
	struct modal_retry retry = {0};

	for (;;) {
		cleanup_err struct err e = ERR_INIT;

		if (modal_router_call(s, lease, rpc, &retry, ret, fault, &e) == 0)
			return 0;
		if (modal_router_pause(s, lease, &retry, backoff, fault, &e, err) < 0)
			return -1;
	}
}
