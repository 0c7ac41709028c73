/*
 * docker: sandboxes as containers of an engine that speaks Docker's Engine API: Docker itself, or Podman's compatible service (wire: docker).
 *
 *	config.c     the config, its errors, its normal form
 *	security.c   mounts and what must not be mounted
 *	api.c        one request: version, errors
 *	image.c      looking for an image, pulling it
 *	container.c  one container: made, started, looked at, removed
 *	exec.c       one command in a container, by the exec API
 *	script.c     scripts of ours, and input without a half-close
 *	stream.c     its output as it comes
 *	kill.c       ending all that a command has started
 *	lease.c      acquire, resume, release, destroy, realize
 *	execute.c    environmentExecute
 *	probe.c      step by step, with words for each
 *	setup.c      templates: commit and deletion
 *	reap.c       what dead workers have left
 *
 * A container is made under the name paperclip-new-<uuid> and gets its lease's name, paperclip-<uuid>, as the last step before the lease
 * is answered. So one that never got into the host's hands can be told from one that did, whoever looks, and whenever.
 */
#ifndef DOCKER_DOCKER_H
#define DOCKER_DOCKER_H

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "fiber.h"
#include "http.h"
#include "lease_table.h"
#include "output.h"
#include "provider.h"

#define DOCKER_TIMEOUT_DEFAULT_MS 300000
#define DOCKER_CALL_MS 30000     /* of a request that does one thing */
#define DOCKER_LABEL "io.paperclip.sandbox"
#define DOCKER_LABEL_WORKER "io.paperclip.worker"
#define DOCKER_LABEL_LEASE "io.paperclip.lease"
#define DOCKER_LABEL_ENVIRONMENT "io.paperclip.environment"
#define DOCKER_LABEL_COMPANY "io.paperclip.company"
#define DOCKER_LABEL_EXPIRES "io.paperclip.expires"
#define DOCKER_LABEL_TEMPLATE "io.paperclip.template"

/* --- config.c --- */

enum docker_pull { DOCKER_PULL_MISSING, DOCKER_PULL_ALWAYS, DOCKER_PULL_NEVER };

/* Strings and JSON are owned; NULL: not set. */
struct docker_config {
	struct http_options http; /* with the socket's path or the client certificate */
	char *base_url;           /* "http://localhost" for a socket */
	char *place;              /* for people: "unix:///run/docker.sock", "https://host:2376" */
	char *image;
	enum docker_pull pull;
	char *registry_username, *registry_password;
	char *user, *workdir, *network, *runtime;
	double memory_mb, cpus, pids_limit; /* 0: no limit */
	json_t *mounts; /* array of {source, target, writable}, complete */
	json_t *env, *labels; /* objects of strings */
	json_t *cap_drop, *cap_add; /* arrays of strings */
	bool read_only_root, no_new_privileges, allow_engine_socket;
	double timeout_ms, idle_timeout_ms; /* idle: 0: never */
	bool reuse_lease;
};

/* Collects what is wrong; what is read is usable only if nothing is. Pure. */
void docker_config_parse(const json_t *config, struct docker_config *ret, struct strv *errors);
void docker_config_deinit(struct docker_config *c);
#define cleanup_docker_config cleanup(docker_config_deinit)
json_t *docker_config_normalized(const struct docker_config *c, const json_t *config);
/* For a call of the engine. The credentials are held as secrets of the op. -1, ERR_INVALID: the first error of validation. */
int docker_config_read(struct op *op, const json_t *config, struct docker_config *ret, struct err *err);
bool docker_config_is_local(const struct docker_config *c);
/* True for what may stand in a request's path as an image: a name with registry, tag or digest, or an id. */
bool docker_image_name_is_valid(const char *image);

/* --- security.c --- */

/* Reads `mounts`; errors as in validation. New reference. */
json_t *docker_mounts_read(const json_t *config, struct strv *errors);
/* Before a container is made: sources are there (the engine may be this machine's), and none gives an engine's socket away. -1, ERR_INVALID. */
int docker_mounts_check(const struct docker_config *c, struct err *err);

/* --- api.c --- */

/* An engine as it was last asked. */
struct docker_engine {
	struct list link;
	char *place;      /* owned */
	char version[16]; /* of the API; "": not asked yet */
	bool is_podman;
	unsigned starting;   /* commands that are being started */
	struct list waiting; /* to start one */
};

struct docker_state {
	struct list engines;
	struct lease_table leases;
	char *owner; /* owned; this worker, as in the label */
};

struct docker_call {
	const char *method;
	const char *path;       /* below the version, with its slash */
	const json_t *json;     /* body, or NULL */
	const struct http_header *headers;
	int64_t deadline_ms;    /* 0: DOCKER_CALL_MS */
	enum http_repeat repeat;
	bool long_lived;
	size_t answer_max;
	int (*on_body)(void *arg, const char *bytes, size_t n, struct err *err);
	void *arg;
};

struct docker_answer {
	struct http_response http;
	json_t *json;  /* owned; NULL: none */
	bool sent;     /* the engine may have carried the request out */
};

void docker_answer_deinit(struct docker_answer *a);
#define cleanup_docker_answer cleanup(docker_answer_deinit)

/* The engine of this config, its version negotiated. Waits. Borrowed from the state. */
int docker_engine_find(struct op *op, const struct docker_config *c, struct docker_engine **ret, struct err *err);
/* "https://host:2376/v1.41/path". Owned. */
char *docker_url(const struct docker_config *c, const struct docker_engine *engine, const char *path);
/*
 * Waits. 0: 2xx or 304. A refusal is ERR_REMOTE, ERR_CONFLICT, ERR_AUTH or, where the engine itself says that the thing of the path is not
 * there, ERR_NOT_FOUND, with the engine's words. *ret must be deinited in either case.
 */
int docker_perform(struct op *op, const struct docker_config *c, const struct docker_call *call, struct docker_answer *ret, struct err *err);
/* Sets what a refusal says. Returns -1. */
int docker_set_refusal(const struct docker_config *c, const struct http_response *http, const json_t *json, struct err *err);
/* The engine's words, or NULL. */
const char *docker_message(const json_t *json);
/* What a failed connection is, with the usual causes. Takes `cause`. Returns -1. */
int docker_set_unreachable(const struct docker_config *c, struct err *cause, struct err *err);

/* --- image.c --- */

/* The image is there after that, pulled if the policy says so; *ret_id: its id, owned. Waits. */
int docker_image_ensure(struct op *op, const struct docker_config *c, const char *image, char **ret_id, struct err *err);

/* --- container.c --- */

enum docker_status { DOCKER_RUNNING, DOCKER_PAUSED, DOCKER_STOPPED, DOCKER_ENDING };

struct docker_container {
	char *id, *name, *image_id; /* owned */
	enum docker_status status;
	char *status_text;          /* owned; the engine's word */
	int exit_code;
	char *runtime;              /* owned; "" unknown */
	char *remote_cwd;           /* owned; its working directory */
	json_t *labels;             /* owned object */
};

void docker_container_deinit(struct docker_container *container);
#define cleanup_docker_container cleanup(docker_container_deinit)

#define DOCKER_NEW_PREFIX "paperclip-new-" /* names of containers that are not handed out yet */
#define DOCKER_EXIT_IDLE 10    /* the keeper's: nobody has used the container for idleTimeoutMs */
#define DOCKER_EXIT_EXPIRED 11 /* … its time is over */

struct docker_purpose {
	const struct request_base *base;
	const char *image;
	int64_t expires_ms; /* Unix time; -1: none */
	bool keep_running;  /* no idle timeout */
};

int64_t docker_now_ms(void);
/* True if the container's expiry has passed. */
bool docker_time_is_over(const json_t *labels);
/* True for the names that leases have: nothing else goes into a path. */
bool docker_lease_id_is_valid(const char *lease_id);
/* Makes and starts one named paperclip-new-<uuid>. On failure nothing is left, or it is logged. *ret_uuid: owned. Waits, as all of these. */
int docker_container_create(struct op *op, const struct docker_config *c, const struct docker_purpose *purpose, struct docker_container *ret,
			    char **ret_uuid, struct err *err);
/* Gives it the lease's name, which it is answered by from now on. */
int docker_container_hand_out(struct op *op, const struct docker_config *c, struct docker_container *container, const char *uuid,
			      struct err *err);
/* -1, ERR_NOT_FOUND: proven not to be there, or not ours. */
int docker_container_inspect(struct op *op, const struct docker_config *c, const char *name, struct docker_container *ret, struct err *err);
int docker_container_start(struct op *op, const struct docker_config *c, const char *name, struct err *err);
/* Sets what is to be said of a new container that does not run. Returns -1. */
int docker_container_set_ended(const struct docker_container *container, const char *image, struct err *err);
/* Running afterwards, whatever it was. -1, ERR_NOT_FOUND: it is being removed, and then gone. */
int docker_container_ensure_running(struct op *op, const struct docker_config *c, struct docker_container *container, struct err *err);
int docker_container_stop(struct op *op, const struct docker_config *c, const char *name, struct err *err);
int docker_container_kill(struct op *op, const struct docker_config *c, const char *name, struct err *err);
/* One that is not there is success. */
int docker_container_remove(struct op *op, const struct docker_config *c, const char *name, struct err *err);
/* As cleaning up after something else that failed: shielded; what remains is logged. */
void docker_container_discard(struct op *op, const struct docker_config *c, const char *name);

/* --- exec.c --- */

struct docker_command {
	const char *container;
	char *const *argv;
	const json_t *env;     /* object of strings, or NULL */
	const char *cwd;       /* NULL: the container's */
	const char *user;      /* NULL: the container's */
	struct input *input;   /* NULL: none */
	int64_t timeout_ms;    /* from its start; <= 0: none */
	bool is_killer;        /* ends others: when its own time is over, nothing ends it */
	/* Takes its output; waits as it likes. */
	int (*on_output)(void *arg, enum output_stream stream, const char *bytes, size_t n, struct err *err);
	void *arg;
};

struct docker_ended {
	bool timed_out;
	int exit_code; /* if it has not timed out */
};

/*
 * Runs it to its end (waits). When its time is over, or the fiber is cancelled, all that it has started is ended before the return. -1,
 * ERR_NOT_FOUND: there is no such container; ERR_CONFLICT: it does not run.
 */
int docker_exec_plain(struct op *op, const struct docker_config *c, const struct docker_command *command, struct docker_ended *ret,
		      struct err *err);

/* --- script.c --- */

/* The same, also where the connection cannot show the input's end. */
int docker_exec(struct op *op, const struct docker_config *c, const struct docker_command *command, struct docker_ended *ret, struct err *err);
/* A shell script of ours. */
struct docker_script {
	const char *container;
	const char *user;        /* NULL: the container's */
	const char *text;
	const char *const *args; /* $1 …, up to NULL */
	int64_t ms;              /* it may take so long */
	bool is_killer;
};
/* Runs it in /; its stdout (at most 64 KiB) to *out. Waits. */
int docker_exec_script(struct op *op, const struct docker_config *c, const struct docker_script *script, struct buf *out,
		       struct docker_ended *ret, struct err *err);

/* --- kill.c --- */

#define DOCKER_MARK "PSW_EXEC"

/*
 * Ends all that bears the mark, and what descends from it, as the command's user. Where that cannot be done the container is killed.
 * *ret_found (may be NULL): something ran. Waits, shielded, for a few seconds at most. -1: it may still run.
 */
int docker_kill_marked(struct op *op, const struct docker_config *c, const char *container, const char *user, const char *mark,
		       bool *ret_found, struct err *err);

/* --- stream.c --- */

struct docker_stream;

struct docker_stream *docker_stream_create(const struct docker_command *command);
void docker_stream_destroy(struct docker_stream *s);
int docker_stream_feed(struct docker_stream *s, const char *bytes, size_t n, struct err *err);
/* It has ended: gives what was held back. -1, ERR_PROTOCOL: in the middle of a frame. */
int docker_stream_finish(struct docker_stream *s, struct err *err);

/* --- lease.c --- */

struct docker_lease {
	struct lease_entry entry;
	bool known; /* it was seen to be ours */
};

int docker_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err);
int docker_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err);
int docker_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int docker_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int docker_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err);
/* A container made, started, with its workspace; under its first name. */
struct docker_ready {
	struct docker_container container;
	char *uuid;        /* owned */
	const char *shell; /* static */
};
void docker_ready_deinit(struct docker_ready *r);
#define cleanup_docker_ready cleanup(docker_ready_deinit)
int docker_make_ready(struct op *op, const struct docker_config *c, const struct docker_purpose *purpose, struct docker_ready *ret,
		      struct err *err);
/* -1, ERR_NOT_FOUND: this worker has ended the lease, or there is none. The lease is known to be a container of ours after that. */
int docker_lease_check(struct op *op, const struct docker_config *c, const struct request_base *base, const char *lease_id, struct err *err);
/* The container is gone: the next call asks the engine. */
void docker_lease_forget(struct op *op, const struct docker_config *c, const struct request_base *base, const char *lease_id);

/* --- execute.c, probe.c --- */

int docker_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err);
int docker_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err);

/* --- setup.c --- */

int docker_start_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int docker_get_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int docker_capture_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int docker_cancel_setup(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
int docker_delete_template(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);

/* --- reap.c --- */

int docker_reap(struct op *op, const struct reap_params *p, struct reap_report *ret, struct err *err);

#endif
