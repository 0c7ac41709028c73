/*
 * modal: sandboxes of Modal's service (wire: modal).
 *
 * Two gRPC services: the control plane, which makes and ends sandboxes and keeps files in them, and the command router of each running
 * sandbox, which runs commands. A sandbox costs money until its lifetime ends or somebody terminates it. Each one is made under an
 * idempotency key of ours: if the answer never comes, the same call is made again, and what it names is terminated.
 *
 *	config.c   the config, its errors, its normal form
 *	session.c  what one operation works with: config, account
 *	rpc.c      one call: its metadata, its repetitions, its error
 *	token.c    the session token of an account
 *	gate.c     one fetches what several wait for
 *	image.c    app and image
 *	sandbox.c  a sandbox in the control plane: create, tags, look, terminate
 *	router.c   the way into a sandbox: task, router, token, kept for each lease
 *	exec.c     one command in a sandbox
 *	files.c    a file in a sandbox
 *	lease.c    acquire, resume, release, destroy, realize
 *	probe.c    probe, step by step
 *	execute.c  one command of the host
 */
#ifndef MODAL_MODAL_H
#define MODAL_MODAL_H

#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/random.h"
#include "fiber.h"
#include "grpc.h"
#include "lease_table.h"
#include "output.h"
#include "protocol/modal.pb-c.h"
#include "provider.h"

/* --- config.c --- */

/* Strings are owned and NULL where there are none. */
struct modal_config {
	char *app_name; /* "": none */
	char *image;
	char *token_id;
	char *token_secret;
	char *environment;
	char *workdir;
	char *server_url;          /* of the config */
	char *server;              /* scheme, host, port: what is called; after modal_config_read */
	bool server_is_local;      /* its routers speak without TLS */
	double sandbox_timeout_ms; /* whole numbers */
	double idle_timeout_ms;    /* NaN: none */
	double exec_timeout_ms;
	bool block_network;
	bool reuse_lease;
	struct strv cidrs;
	struct http_options http;
};

void modal_config_parse(const json_t *config, struct modal_config *ret);
/* Takes NULL and zeroed values. */
void modal_config_deinit(struct modal_config *c);
#define cleanup_modal_config cleanup(modal_config_deinit)
/* config: the one that was parsed. Adds the texts to errors. */
void modal_config_validate(const struct modal_config *c, const json_t *config, struct strv *errors);
json_t *modal_config_normalized(const struct modal_config *c, const json_t *config);
/* For calls to the service. -1: ERR_AUTH, tokens are missing; ERR_INVALID, the server's URL or the network options. */
int modal_config_read(const json_t *config, struct modal_config *ret, struct err *err);
/* Before anything is made. -1, ERR_INVALID. */
int modal_config_check_create(const struct modal_config *c, struct err *err);

/* --- gate.c --- */

/* Zeroed is open. */
struct modal_gate {
	bool busy;
	struct list waits;
};

/*
 * Waits while somebody is inside. 1: we are inside now, and must leave; 0: somebody was, and succeeded: look again; -1: he failed, and this
 * is why (or our own wait was ended).
 */
int modal_gate_enter(struct modal_gate *gate, struct err *err);
/* failure: for those who wait; NULL: none. One of our own (cancelled, deadline) makes the next of them try. */
void modal_gate_leave(struct modal_gate *gate, const struct err *failure);

/* --- token.c --- */

/* One account of one company: its session token. */
struct modal_account {
	struct lease_entry entry;
	char *token;             /* owned; NULL: none */
	struct secret *secret;   /* holds it */
	int64_t refresh_unix_ms; /* from then on a new one is fetched first */
	int64_t expires_unix_ms;
	struct modal_gate gate;
};

struct modal_session;

void modal_account_deinit(void *account);
/* *ret: a copy, to be freed by str_wipe_free. *ret_fresh: it was fetched just now. Waits. status: of a failed call; may be NULL. */
int modal_token_get(struct modal_session *s, char **ret, bool *ret_fresh, enum grpc_status *status, struct err *err);
/* The service does not take it any more. */
void modal_token_drop(struct modal_account *account, const char *token);
/* The end of a JWT's life in Unix milliseconds; -1: it does not say. */
int64_t modal_jwt_expiry(const char *jwt);
int64_t modal_unix_now_ms(void);

/* --- session.c --- */

struct modal_state {
	struct lease_table accounts;
	struct lease_table leases;
};

/* What one operation works with. */
struct modal_session {
	struct op *op;
	const struct request_base *base;
	struct modal_config config;
	struct modal_account *account; /* pinned */
};

/* -1: as modal_config_read. In either case the session must be closed. */
int modal_session_open(struct modal_session *s, struct op *op, const struct request_base *base, struct err *err);
void modal_session_close(struct modal_session *s);
#define cleanup_modal_session cleanup(modal_session_close)
struct modal_lease;
/* The lease of that id, pinned. */
struct modal_lease *modal_lease_pin(struct modal_session *s, const char *lease_id);
void modal_lease_unpin(struct modal_session *s, struct modal_lease *lease);

/* --- rpc.c --- */

struct modal_backoff {
	unsigned retries;
	int64_t first_ms, max_ms;
};

struct modal_rpc {
	const char *name;
	const ProtobufCMessage *request;
	const ProtobufCMessageDescriptor *answer; /* of one message, or of each in a stream */
	int64_t timeout_ms;                       /* of one attempt; 0: the usual one; -1: none */
	const struct modal_backoff *backoff;      /* NULL: the usual one */
	bool long_lived;
	/* Of a stream: 0 to go on, 1: enough, -1. May wait. */
	int (*on_message)(void *arg, const ProtobufCMessage *message, struct err *err);
	void *arg;
};

/* What is known of a call that failed. */
struct modal_fault {
	enum grpc_status status; /* GRPC_OK: nothing of the service's; see the err */
	bool sent;               /* it may have been carried out, by this attempt or one before */
	bool told;               /* the status is the service's own word */
	int64_t retry_after_ms;  /* what the service asks for; -1: nothing */
};

#define MODAL_THROTTLES_MAX 1000 /* so often a call is repeated because the service asks for it */

/* DEADLINE_EXCEEDED, UNAVAILABLE, CANCELLED, INTERNAL, UNKNOWN. */
bool modal_is_passing(enum grpc_status status);
/* The service says that it has done nothing. */
bool modal_is_refusal(const struct modal_fault *fault);
/*
 * A call of the control plane. *ret: the answer (a pointer to a message's pointer), to be freed by modal_message_free; NULL for streams. A
 * stream is one attempt. key: the idempotency key of all attempts; NULL: a new one. fault may be NULL. Waits.
 */
int modal_control(struct modal_session *s, const struct modal_rpc *rpc, const char *key, void *ret, struct modal_fault *fault,
		  struct err *err);
/* The first call of all, without a token. */
int modal_control_untold(struct modal_session *s, const struct modal_rpc *rpc, void *ret, struct modal_fault *fault,
			 struct err *err);
/* One attempt at a command router. */
int modal_router_attempt(struct modal_session *s, const char *server, const char *jwt, const struct modal_rpc *rpc, void *ret,
			 struct modal_fault *fault, struct err *err);
void modal_message_free_p(void *message);
#define cleanup_message cleanup(modal_message_free_p)

/* --- image.c --- */

struct modal_purpose;

/* *ret: the app's id, owned. It is made if it is missing. Waits. */
int modal_app_get(struct modal_session *s, const struct modal_purpose *purpose, char **ret, struct err *err);
/* *ret: the image's id, owned. Waits until it is built. */
int modal_image_get(struct modal_session *s, const struct modal_purpose *purpose, const char *app_id, char **ret,
		    struct err *err);
/* A field that must be there. -1, ERR_PROTOCOL. */
int modal_need_id(const char *value, const char *rpc, struct err *err);
/* What it is the result of has ended. NULL: it has not. */
bool modal_result_is_over(const Modal__GenericResult *result);

/* --- sandbox.c --- */

/* A sandbox and when it ends. */
struct modal_sandbox {
	char *id; /* owned */
	int64_t expires_unix_ms;
};

struct modal_purpose {
	const char *run_id; /* NULL: none */
	bool reuse;
	int64_t requested_expires_unix_ms;                              /* -1: none */
	void (*on_step)(void *arg, const char *code, const char *text); /* a step was taken; may be NULL */
	void *arg;
};

/* A step was taken: for those who watch. */
void modal_tell(const struct modal_purpose *purpose, const char *code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Waits. Whatever fails, no sandbox is left, or the log says which. */
int modal_sandbox_create(struct modal_session *s, const struct modal_purpose *purpose, struct modal_sandbox *ret,
			 struct err *err);
void modal_sandbox_deinit(struct modal_sandbox *sandbox);
/* *ret_gone: not known to the service, or ended. */
int modal_sandbox_look(struct modal_session *s, const struct modal_lease *lease, const char *id, bool *ret_gone, struct err *err);
/* Tries for up to ms, come what may (shielded). One that is not there is success. lease: may be NULL for a sandbox of our own making. */
int modal_sandbox_terminate(struct modal_session *s, const struct modal_lease *lease, const char *id, int64_t ms,
			    struct err *err);
/* As cleaning up after something else that failed: what remains is logged. */
void modal_sandbox_discard(struct modal_session *s, const char *id);
/* A call of the control plane about a sandbox, by the name that its generation has. */
int modal_sandbox_call(struct modal_session *s, const struct modal_lease *lease, const char *id, struct modal_rpc *rpc, void *ret,
		       struct modal_fault *fault, struct err *err);

/* --- router.c --- */

/* The way into the sandbox of one lease. */
struct modal_lease {
	struct lease_entry entry;
	char *id;                    /* owned */
	bool made_here;              /* by SandboxCreate: of the first generation, whatever its id looks like */
	bool known;                  /* it was there when we last looked */
	char *task_id;               /* owned; NULL: not known */
	char *router_url;            /* owned; as the service gave it */
	char *router;                /* owned; what is called */
	char *jwt;                   /* owned */
	struct secret *secret;       /* holds it */
	int64_t jwt_expires_unix_ms; /* -1: unknown */
	unsigned access;             /* counts the tokens */
	int64_t expires_unix_ms;     /* of the sandbox; 0: unknown */
	struct modal_gate gate;
};

void modal_lease_deinit(void *lease);
/* Task and router are known after that. Waits. -1, ERR_NOT_FOUND: the sandbox has ended. */
int modal_router_connect(struct modal_session *s, struct modal_lease *lease, struct err *err);
/*
 * As that, of a sandbox that is looked for first unless it is known to be there. *ret_gone: it is not. ret_gone NULL: that is an error
 * (ERR_REMOTE) which says why.
 */
int modal_lease_reach(struct modal_session *s, struct modal_lease *lease, bool *ret_gone, struct err *err);
/* What is known of it may not be true any more: it is asked for again. */
void modal_lease_doubt(struct modal_lease *lease);

/* How often a call of the router was repeated. Zeroed is the start. */
struct modal_retry {
	unsigned count;
	unsigned throttled; /* and so often because the service asked for it */
	int64_t pause_ms;
	bool refused; /* the last attempt was UNAUTHENTICATED */
	unsigned access;
};

extern const struct modal_backoff modal_router_backoff;
/* One attempt. */
int modal_router_call(struct modal_session *s, struct modal_lease *lease, const struct modal_rpc *rpc, struct modal_retry *retry,
		      void *ret, struct modal_fault *fault, struct err *err);
/* It failed so: 0 after the pause before the next attempt, or -1 with failure moved to err. Waits. */
int modal_router_pause(struct modal_session *s, struct modal_lease *lease, struct modal_retry *retry,
		       const struct modal_backoff *backoff, const struct modal_fault *fault, struct err *failure,
		       struct err *err);
/* All attempts. */
int modal_router_perform(struct modal_session *s, struct modal_lease *lease, const struct modal_rpc *rpc, void *ret,
			 struct modal_fault *fault, struct err *err);

/* --- exec.c --- */

struct modal_command {
	const char *script;  /* of sh -lc */
	int64_t timeout_ms;  /* which the service keeps; 0: none */
	int64_t patience_ms; /* of a command without one */
	bool must_be_there;  /* a sandbox that has ended is an error, not `gone` */
	bool can_be_killed;  /* it carries a mark by which it is found and ended when nobody waits for it any more */
	/* Takes output; NULL: nobody reads it. May wait. */
	int (*on_output)(void *arg, enum output_stream stream, const char *bytes, size_t n, struct err *err);
	void *arg;
};

struct modal_exit {
	bool gone; /* the sandbox has ended, nothing was run */
	bool timed_out;
	int code;
	char *exec_id; /* owned */
};

void modal_exit_deinit(struct modal_exit *exit);
#define cleanup_modal_exit cleanup(modal_exit_deinit)
/* Waits. Of a command that was given up (cancelled, deadline), what runs is ended. */
int modal_exec(struct modal_session *s, struct modal_lease *lease, const struct modal_command *command, struct modal_exit *ret,
	       struct err *err);
/* Starts it and waits for nothing; never fails, and takes ms at most, also in a cancelled fiber. */
void modal_exec_detached(struct modal_session *s, struct modal_lease *lease, const char *script, int64_t ms);
/* -1, ERR_INVALID: the script is longer than the service takes. */
int modal_script_check(const char *script, struct err *err);
/* Makes the directory. ret_gone: as in modal_lease_reach. Waits. */
int modal_make_workspace(struct modal_session *s, struct modal_lease *lease, const char *path, bool *ret_gone, struct err *err);

/* --- files.c --- */

/* Writes a new file. Waits. */
int modal_write_file(struct modal_session *s, struct modal_lease *lease, const char *path, const char *bytes, size_t n,
		     struct err *err);

/* --- lease.c, probe.c, execute.c --- */

int modal_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err);
int modal_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err);
int modal_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err);
int modal_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int modal_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int modal_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err);
int modal_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err);

#endif
