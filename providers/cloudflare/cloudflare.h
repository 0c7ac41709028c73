/*
 * cloudflare: sandboxes of Cloudflare, through the bridge that the operator deploys there (wire: cloudflare).
 *
 * The bridge is a small HTTP service: one request a call, one JSON answer, and an event stream for commands. It knows no retries and no
 * keys of idempotency, and a request for a sandbox that has ended silently starts an empty one under its name. So no request is sent
 * twice, and none is sent for a lease that this worker has ended.
 *
 *	config.c   the config, its errors, its normal form
 *	bridge.c   one request, and what an answer that is no success means
 *	lease.c    acquire, resume, release, destroy, realize
 *	probe.c    the same way once, with words for each step of it
 *	execute.c  one command: its request, its limits, its result
 *	stream.c   its output while it runs
 */
#ifndef CLOUDFLARE_CLOUDFLARE_H
#define CLOUDFLARE_CLOUDFLARE_H

#include "base/buf.h"
#include "base/mem.h"
#include "http.h"
#include "lease_table.h"
#include "provider.h"

/* --- config.c --- */

/* Strings are owned. */
struct cloudflare_config {
	char *base_url; /* "": none, like the token */
	char *token;
	bool reuse_lease;
	bool keep_alive;
	bool normalize_id;
	bool default_session; /* sessionStrategy "default", else "named" */
	char *sleep_after;
	char *requested_cwd;
	char *session_id;
	char *preview_hostname; /* NULL: none */
	double timeout_ms;
	double request_timeout_ms;
	struct http_options http;
};

void cloudflare_config_parse(const json_t *config, struct cloudflare_config *ret);
void cloudflare_config_deinit(struct cloudflare_config *c);
#define cleanup_cloudflare_config cleanup(cloudflare_config_deinit)
/* config: the one that was parsed. */
void cloudflare_config_validate(const struct cloudflare_config *c, const json_t *config, struct validation *ret);
json_t *cloudflare_config_normalized(const struct cloudflare_config *c, const json_t *config);
/* For a call of the bridge. The token is held as a secret of the op. -1, ERR_INVALID or ERR_AUTH, with the texts of validation. */
int cloudflare_config_read(struct op *op, const json_t *config, struct cloudflare_config *ret, struct err *err);
/* "named" or "default". Static. */
const char *cloudflare_session_strategy(const struct cloudflare_config *c);

/* --- bridge.c --- */

#define CLOUDFLARE_ANSWER_MAX ((size_t)256 << 20)

struct cloudflare_call {
	const char *method;
	const char *path; /* below the bridge's own, with its slash */
	const struct request_base *base;
	const char *issue_id; /* NULL or "": no header */
	const char *run_id;
	const char *body; /* JSON; NULL: none */
	size_t body_len;
	double timeout_ms;        /* of the whole answer */
	double header_timeout_ms; /* of its beginning; 0: none */
	bool may_be_empty;        /* a success without a body is one */
	bool repeatable;          /* may be sent again if a kept connection turns out to be dead */
	bool runs_command;        /* the answer comes when a command has ended */
	/* For event streams (http.h); NULL: the answer is collected. */
	int (*on_answer)(void *arg, const struct http_response *response, enum http_take *ret, struct err *err);
	int (*on_body)(void *arg, const char *bytes, size_t n, struct err *err);
	void *arg;
};

struct cloudflare_answer {
	int status; /* 0: there was none */
	bool sent;  /* the bridge may have carried the request out */
	bool is_json;
	bool timed_out; /* the call's own time was over, or the request's */
	json_t *json;   /* owned; an object, or NULL */
};

void cloudflare_answer_deinit(struct cloudflare_answer *a);
#define cleanup_cloudflare_answer cleanup(cloudflare_answer_deinit)
/*
 * Waits. 0: 2xx with a JSON object, or, where the call allows it, an empty body or an event stream, with *ret's json NULL. *ret is
 * zeroed before and must be deinited in either case. Time that is over is ERR_REMOTE, or ERR_TIMEOUT if it was the request's.
 */
int cloudflare_perform(struct op *op, const struct cloudflare_config *c, const struct cloudflare_call *call,
		       struct cloudflare_answer *ret, struct err *err);
/* The same with a JSON body; call->body is ignored. */
int cloudflare_perform_json(struct op *op, const struct cloudflare_config *c, const struct cloudflare_call *call,
			    const json_t *body, struct cloudflare_answer *ret, struct err *err);
/* True if the bridge says so: the lease has ended (wire: 404 and 409, whatever their body). */
bool cloudflare_is_lost(const struct cloudflare_answer *a);
/* True if the Content-Type speaks of JSON. */
bool cloudflare_speaks_json(const struct http_response *response);
/* What an answer that should have been something else is. Returns -1. */
int cloudflare_set_malformed(struct err *err, const char *what);

/* --- lease.c --- */

struct cloudflare_state {
	struct lease_table leases; /* those that have ended */
};

int cloudflare_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err);
int cloudflare_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err);
int cloudflare_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int cloudflare_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int cloudflare_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err);
/* -1, ERR_NOT_FOUND: this worker has released or destroyed the lease. */
int cloudflare_lease_check(struct op *op, const struct cloudflare_config *c, const struct request_base *base,
			   const char *lease_id, struct err *err);

/* --- probe.c --- */

int cloudflare_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err);

/* --- execute.c --- */

int cloudflare_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err);
/* Takes the result that the bridge gives, output and all; what is not ours to know is left in object. -1, ERR_PROTOCOL: it is none. */
int cloudflare_take_result(struct op *op, json_t *object, struct execute_result *ret, struct err *err);

/* --- stream.c --- */

/* A command whose output comes as events. */
struct cloudflare_stream;

/* op: whose output it is; result: filled when it comes; both borrowed. */
struct cloudflare_stream *cloudflare_stream_create(struct op *op, struct execute_result *result);
void cloudflare_stream_destroy(struct cloudflare_stream *s);
/* For struct cloudflare_call, with the stream as arg. */
int cloudflare_stream_on_answer(void *stream, const struct http_response *response, enum http_take *ret, struct err *err);
int cloudflare_stream_on_body(void *stream, const char *bytes, size_t n, struct err *err);
/* The answer has ended. -1: without the command's result. */
int cloudflare_stream_finish(struct cloudflare_stream *s, struct err *err);

#endif
