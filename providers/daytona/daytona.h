/*
 * daytona: sandboxes of Daytona's service, or of one's own installation of it (wire: daytona).
 *
 * Two HTTP services: the API, which makes and ends sandboxes, and the toolbox of each sandbox, which runs commands and keeps files.
 * A sandbox costs money from its creation to its end, and the service has no idea of who needs it. Therefore each one is made under a
 * name of ours, so that it can be found and deleted even if the answer to its creation never came.
 *
 *	config.c   the config, its errors, its normal form
 *	api.c      one request, and what an answer that is no success means
 *	sandbox.c  a sandbox in the API: create, look, start, stop, delete, and waiting for its state
 *	toolbox.c  a sandbox from the inside: directories, one command, files
 *	handle.c   what is kept in memory of each lease between calls
 *	lease.c    probe, acquire, resume, release, destroy, realize
 *	sentinel.c the file by which a reused sandbox proves that it is the right one
 *	execute.c  one command of the host
 *	session.c  the same in a persistent shell, with its streams apart
 *	follow.c   the log of such a command while it runs
 *	sync*.c    files of the host into the sandbox and back
 *	setup.c    interactive setup over SSH, and templates, which are snapshots
 */
#ifndef DAYTONA_DAYTONA_H
#define DAYTONA_DAYTONA_H

#include "base/buf.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/utf8.h"
#include "fiber.h"
#include "http.h"
#include "lease_table.h"
#include "output.h"
#include "provider.h"

#define DAYTONA_TIMEOUT_DEFAULT_MS 300000
#define DAYTONA_TIMEOUT_MAX_MS 86400000

/* --- config.c --- */

enum { DAYTONA_CPU, DAYTONA_MEMORY, DAYTONA_DISK, DAYTONA_GPU, DAYTONA_RESOURCES };
enum { DAYTONA_STOP, DAYTONA_ARCHIVE, DAYTONA_DELETE, DAYTONA_INTERVALS };

extern const char *const daytona_resource_names[DAYTONA_RESOURCES];
extern const char *const daytona_interval_names[DAYTONA_INTERVALS];

/* Strings are owned and NULL where there are none. */
struct daytona_config {
	char *api_key; /* of the config; see daytona_config_resolve */
	char *api_url;
	char *target;
	char *snapshot;
	char *image;
	char *language;
	bool image_blank; /* a string without text, which is an error */
	bool snapshot_blank;
	double timeout_ms;
	double resources[DAYTONA_RESOURCES]; /* NaN: not set */
	double intervals[DAYTONA_INTERVALS]; /* minutes */
	bool reuse_lease;
	bool archive_on_release;
	bool use_sessions;
	bool use_log_stream;
	struct http_options http;
};

void daytona_config_parse(const json_t *config, struct daytona_config *ret);
void daytona_config_deinit(struct daytona_config *c);
#define cleanup_daytona_config cleanup(daytona_config_deinit)
/* config: the one that was parsed. Adds the texts to errors. */
void daytona_config_validate(const struct daytona_config *c, const json_t *config, struct strv *errors);
json_t *daytona_config_normalized(const struct daytona_config *c, const json_t *config);
/*
 * For a call to the service: what the config leaves out comes from the environment or is the service's own, the key is held as a secret
 * of the op. -1, ERR_AUTH: no key; ERR_INVALID: network options.
 */
int daytona_config_read(struct op *op, const json_t *config, struct daytona_config *ret, struct err *err);
/* Before a sandbox is made. -1, ERR_INVALID: resources without an image, an unknown language. */
int daytona_config_check_create(const struct daytona_config *c, struct err *err);
/* max(1, ceil(ms / 1000)). */
int64_t daytona_seconds(double ms);

/* --- api.c --- */

/* What failed. */
struct daytona_failure {
	int status;     /* 0: there was no answer */
	bool sent;      /* the service may have carried it out */
	bool timed_out; /* its deadline or ours, not the request's (wire: Errors) */
};

struct daytona_call {
	const char *method;
	const char *url;
	const json_t *json; /* the body; NULL: none, or `body` */
	struct http_body body;
	const char *content_type; /* of body */
	const char *accept;       /* NULL: application/json */
	int64_t deadline_ms;      /* of the whole call */
	enum http_repeat repeat;
	size_t answer_max; /* 0: http's */
	bool long_lived;
	/* As http_request has them. */
	int (*on_answer)(void *arg, const struct http_response *response, enum http_take *ret, struct err *err);
	int (*on_body)(void *arg, const char *bytes, size_t n, struct err *err);
	void *arg;
};

struct daytona_answer {
	struct http_response http;
	json_t *json; /* owned; NULL: the answer is no JSON object */
	struct daytona_failure failure;
};

/* The deadline of a request that the service answers at once, if nothing is wrong. */
int64_t daytona_call_ms(const struct daytona_config *c);
void daytona_answer_deinit(struct daytona_answer *a);
#define cleanup_daytona_answer cleanup(daytona_answer_deinit)
/* Waits. Success is 2xx. *ret is zeroed before and must be deinited in either case. */
int daytona_perform(struct op *op, const struct daytona_config *c, const struct daytona_call *call, struct daytona_answer *ret,
		    struct err *err);
/* What every request carries. items: for http_request and ws_request. */
struct daytona_headers {
	char *authorization; /* owned */
	struct http_header items[7];
};

/* accept NULL: application/json; content_type NULL: there is no body. */
void daytona_headers_init(struct daytona_headers *h, const struct daytona_config *c, const char *accept,
			  const char *content_type);
void daytona_headers_deinit(struct daytona_headers *h);
#define cleanup_daytona_headers cleanup(daytona_headers_deinit)
/* <base><path>, where each %s of the path is percent-encoded as one part. Owned. */
char *daytona_url(const char *base, const char *path, const char *const *parts);
#define DAYTONA_PARTS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* --- sandbox.c --- */

struct daytona_sandbox {
	char *id; /* owned, like all of these */
	char *name;
	char *state;
	char *target;       /* NULL: the service does not say */
	char *error_reason; /* as it is printed: "undefined" and "null" too */
	bool has_error_reason;
	bool recoverable;
	char *toolbox; /* base URL, with the id; NULL: not known yet */
};

void daytona_sandbox_deinit(struct daytona_sandbox *s);
#define cleanup_daytona_sandbox cleanup(daytona_sandbox_deinit)

struct daytona_purpose {
	const struct request_base *base;
	const char *run_id; /* NULL: none */
	bool is_setup;      /* a person is going to work in it */
	const char *setup_session_id;
};

/* Each waits. Whatever fails after the request was sent, no sandbox is left (or the log says which). */
int daytona_sandbox_create(struct op *op, const struct daytona_config *c, const struct daytona_purpose *purpose,
			   struct daytona_sandbox *ret, struct err *err);
/* -1, ERR_NOT_FOUND: only if the service says so. */
int daytona_sandbox_get(struct op *op, const struct daytona_config *c, const char *id, struct daytona_sandbox *s,
			struct err *err);
/* Starts or recovers it unless it is started. */
int daytona_sandbox_ensure_started(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, struct err *err);
int daytona_sandbox_stop(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, struct err *err);
int daytona_sandbox_archive(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, struct err *err);
/* Makes a snapshot of it under that name. */
int daytona_sandbox_capture(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *name,
			    int64_t ms, struct err *err);
/* Tries for up to ms, come what may (shielded). A sandbox that is not there is success. */
int daytona_sandbox_delete(struct op *op, const struct daytona_config *c, const char *id_or_name, int64_t ms, struct err *err);
/* As cleaning up after something else that failed: what remains is logged. */
void daytona_sandbox_discard(struct op *op, const struct daytona_config *c, const char *id);

/* --- toolbox.c --- */

/* What a command gave. */
struct daytona_run {
	bool timed_out;
	char *timeout_text; /* owned */
	int exit_code;
	json_t *answer;   /* owned */
	const char *text; /* borrowed from answer */
	size_t len;
};

void daytona_run_deinit(struct daytona_run *run);
#define cleanup_daytona_run cleanup(daytona_run_deinit)

/* Makes the workspace's directory: owned path. Waits, like all of these. */
int daytona_make_workspace(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, char **ret, struct err *err);
int daytona_make_folder(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *path,
			struct err *err);
/* "bash" or "sh"; sh too if it cannot be found out. Only a cancelled fiber fails. */
int daytona_find_shell(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char **ret,
		       struct err *err);
/* A deadline that passes, the service's or ours, is a result. If the sandbox was not started it is, and the command runs then. cwd NULL: the
 * service's own. */
int daytona_run_command(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *script,
			const char *cwd, int64_t seconds, struct daytona_run *ret, struct err *err);
int daytona_upload(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *path,
		   struct http_piece content, int64_t seconds, struct err *err);
/* -1, ERR_PROTOCOL: a successful answer that does not name the files. */
int daytona_check_upload(const struct daytona_answer *answer, struct err *err);
/* Never fails and never takes long; not even a cancelled fiber leaves the file. */
void daytona_remove_file(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *path);
/* The toolbox's base URL is known after that. */
int daytona_find_toolbox(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, struct err *err);

/* --- handle.c --- */

/* One lease, as it was last seen. */
struct daytona_handle {
	struct lease_entry entry;
	struct daytona_sandbox sandbox;
	bool looking;       /* somebody asks the service what it is */
	unsigned teardowns; /* under way */
	char *session;      /* owned; NULL: none */
	bool session_busy;  /* somebody opens one */
	struct list waits;  /* for the end of one of these */
};

struct daytona_state {
	struct lease_table leases;
};

void daytona_state_init(struct daytona_state *state);
void daytona_state_deinit(struct daytona_state *state);

/*
 * The lease's handle, looked at in the service if it is not known or old, and started; waits for a teardown that is under way. -1: it has
 * ended, or as daytona_sandbox_get.
 */
int daytona_handle_pin(struct op *op, const struct daytona_config *c, const struct request_base *base, const char *lease_id,
		       struct daytona_handle **ret, struct err *err);
void daytona_handle_unpin(struct op *op, struct daytona_handle *handle);
/* A lease begins (again): takes the sandbox over. */
void daytona_handle_put(struct op *op, const struct daytona_config *c, const struct request_base *base,
			struct daytona_sandbox *s);
/* The lease ends: from now on its calls wait, and are refused once the teardown is over. Pinned until daytona_handle_finish_end. */
struct daytona_handle *daytona_handle_begin_end(struct op *op, const struct daytona_config *c, const struct request_base *base,
						const char *lease_id);
void daytona_handle_finish_end(struct op *op, struct daytona_handle *handle);
/* Waits for teardowns of the lease that are under way. */
int daytona_handle_await_end(struct op *op, const struct daytona_config *c, const struct request_base *base, const char *lease_id,
			     struct err *err);
/* Waits for the next daytona_handle_wake. */
int daytona_handle_wait(struct daytona_handle *handle, struct err *err);
void daytona_handle_wake(struct daytona_handle *handle);

/* --- lease.c --- */

int daytona_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err);
int daytona_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err);
int daytona_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err);
int daytona_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int daytona_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int daytona_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err);

/* --- sentinel.c --- */

/* {path, token, result}: new reference. Waits. -1: it could not be written. */
int daytona_sentinel_write(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s,
			   const struct acquire_params *p, const char *cwd, json_t **ret, struct err *err);
/* *ret: {path, token, result}, new reference, of the lease's metadata. Waits. */
int daytona_sentinel_check(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const json_t *lease_metadata,
			   json_t **ret, struct err *err);
/* True if it says "matched". */
bool daytona_sentinel_matches(const json_t *sentinel);
/* Of compact JSON with sorted keys (wire: Lifecycle). Hexadecimal digits, owned. */
char *daytona_sentinel_token(const struct daytona_config *c, const struct acquire_params *p);

/* --- execute.c --- */

int daytona_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err);
/* push, fetch, pull, clone and the like: they may wait for credentials for ever. */
bool daytona_is_git_network_command(const char *command, char *const *args);
/* One line (wire: environmentExecute). */
void daytona_write_script(struct buf *out, const struct execute_params *p, const char *stdin_path);
/* One who ran out of time says so on stderr. */
void daytona_report_timeout(struct op *op, const struct execute_params *p, double timeout_ms, const char *text,
			    struct execute_result *ret);

/* --- session.c --- */

int daytona_session_run(struct op *op, const struct daytona_config *c, struct daytona_handle *handle,
			const struct execute_params *p, const char *script, double timeout_ms, struct execute_result *ret,
			struct err *err);
/* Never fails. Ends what runs in it. */
void daytona_session_delete(struct op *op, const struct daytona_config *c, struct daytona_sandbox *s, const char *session);

/* One look at a command; deadline: loop_now_ms() time. 0 with *ret_ended false, too, when it could not be seen this time. */
int daytona_command_look(struct op *op, const struct daytona_config *c, const char *url, int64_t deadline, bool *ret_ended,
			 int *ret_code, struct err *err);

/* --- follow.c --- */

#define DAYTONA_STREAMS 2

/* How much of a command's output was delivered. Zeroed: nothing. */
struct daytona_log {
	uint64_t delivered[DAYTONA_STREAMS]; /* bytes of text */
	uint64_t seen[DAYTONA_STREAMS];      /* the same, since the last restart */
	struct utf8_repair repair[DAYTONA_STREAMS];
	enum output_stream stream; /* of the line that is being read */
	char carried[2];           /* what may be the start of a label */
	size_t carried_len;
	int64_t touched_ms;
};

/* The raw log begins again; what was delivered stays so. */
void daytona_log_restart(struct daytona_log *log);
/* A piece of the raw log, cut anywhere. Waits for the host to take it, like the next two. */
int daytona_log_feed(struct op *op, struct daytona_log *log, const char *bytes, size_t n, struct err *err);
/* The raw log has ended. */
int daytona_log_finish(struct op *op, struct daytona_log *log, struct err *err);
/* The stream's whole text from its start. */
int daytona_log_put(struct op *op, struct daytona_log *log, enum output_stream stream, const char *text, size_t len,
		    struct err *err);
/*
 * Delivers the command's log live until the stream ends, in whatever way, the command has ended, or the deadline has passed. *ret_closed: it
 * ended as it should. -1: cancelled.
 */
int daytona_follow(struct op *op, const struct daytona_config *c, const char *command_url, int64_t deadline,
		   struct daytona_log *log, bool *ret_closed, struct err *err);

/* --- sync.c --- */

int daytona_sync_in(struct op *op, const struct sync_params *p, struct sync_report *ret, struct err *err);
int daytona_sync_out(struct op *op, const struct sync_params *p, struct sync_report *ret, struct err *err);

/* --- setup.c --- */

int daytona_start_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int daytona_get_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int daytona_capture_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int daytona_cancel_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int daytona_delete_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
/* The label as the name of a snapshot, owned; NULL: nothing of it is left. */
char *daytona_template_name(const char *label);

#endif
