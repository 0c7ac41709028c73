/*
 * provider: what a sandbox provider offers to the worker, and what it gets.
 *
 * One `struct provider` a driver key. Each operation takes typed, already validated parameters (all borrowed for the call)
 * and fills a typed result or an err. Operations run in a fiber and may wait, except where stated. On failure they leave
 * nothing behind: no sandbox, no process, no file. A NULL slot means "not implemented" (-32004 with the SDK's text).
 *
 * The core never tests a provider's name; if a provider needs a special case there, this table lacks a word.
 * Methods, parameters and results: the host's plugin-worker contract, "Environment methods".
 */
#ifndef PROVIDER_H
#define PROVIDER_H

#include "base/err.h"
#include "base/str.h"
#include "op.h"

#include <stdint.h>
#include <sys/types.h>

/* Common to all calls but validate_config. Strings may be NULL where the host left them out. */
struct request_base {
	const char *driver_key;
	const char *company_id;
	const char *environment_id;
	const char *issue_id;
	bool issue_id_given; /* perhaps as null */
	const json_t *config; /* a JSON object, never NULL; secrets are plain text here and only here */
};

struct probe_params {
	struct request_base base;
};

struct acquire_params {
	struct request_base base;
	const char *run_id;
	const char *workspace_mode;
	const char *requested_cwd;
	const char *agent_id;
	const char *execution_workspace_id;
	const char *adapter_type;
	const char *requested_expires_at;  /* as given, ISO 8601; NULL: none */
	int64_t requested_expires_unix_ms; /* parsed; -1: none */
};

/* resume, release, destroy */
struct lease_params {
	struct request_base base;
	const char *provider_lease_id; /* NULL: none was given */
	const json_t *lease_metadata;  /* object or NULL */
	bool cancel_active_work;
	bool is_named_by_person; /* on the command line, which keeps no metadata: the id is proof enough */
};

/* The `lease` member of realize, execute and sync. */
struct lease_ref {
	const char *provider_lease_id; /* NULL: none */
	const json_t *metadata;        /* object or NULL */
	const char *expires_at;
};

struct realize_params {
	struct request_base base;
	struct lease_ref lease;
	const json_t *workspace; /* object, never NULL; local_path and remote_path are its members */
	const char *local_path;
	const char *remote_path;
};

struct execute_params {
	struct request_base base;
	struct lease_ref lease;
	const char *command;
	char *const *args;   /* without the command; NULL-terminated, never NULL */
	bool args_given;     /* perhaps empty */
	const char *cwd;     /* NULL: not given */
	const json_t *env;   /* object, never NULL; no name holds a NUL; values as sent, mostly strings */
	bool env_given;      /* perhaps empty */
	struct input *stdin_data; /* NULL: none was given */
	bool has_timeout;    /* timeoutMs was a number */
	double timeout_ms;   /* as sent: may be 0, negative or fractional */
	bool bypass_session;
};

/* Native file sync (host contract, Native file sync). Paths are absolute, on the worker's machine for the side that is the host's. */
struct sync_file {
	bool is_directory;
	const char *source_path;
	const char *target_path;
	bool has_mode;
	mode_t mode;
	struct strv exclude; /* glob patterns; of directories */
	bool follow_symlinks;
};

struct sync_command {
	const char *command; /* shell text */
	const char *cwd;     /* NULL: the lease's working directory */
	double timeout_ms;   /* 0: not given */
};

struct sync_operation {
	const char *operation_id;
	struct sync_file *files;
	size_t file_count;
	struct sync_command *commands; /* after the files; sync_in only */
	size_t command_count;
};

struct sync_params {
	struct request_base base;
	struct lease_ref lease;
	struct sync_operation *operations; /* in this order; the first failure ends it */
	size_t count;
};

struct setup_params {
	struct request_base base;
	const char *session_id;         /* start */
	const char *provider_lease_id;  /* get, capture, cancel */
	const char *source_template_ref;
	const char *source_template_kind;
	const char *previous_template_ref;
	const char *template_ref;       /* delete */
	const char *template_kind;
	const char *template_label;
	const char *expires_at;
	const char *reason;
	const json_t *setup_metadata;
	bool include_connection_payload;
	double timeout_ms;              /* capture; 0: not given */
	double connection_expires_in_minutes; /* 0: not given */
};

/* `reap` of the command line. */
struct reap_params {
	struct request_base base; /* company and environment mean nothing */
	bool dry_run;             /* tells what would go */
	bool all;                 /* also what a host got from workers that have died since, and may come back for */
};

struct reap_report {
	struct strv lines;       /* what went, or would not, and why: one each */
	unsigned reaped, failed; /* with dry_run: what would go */
	unsigned left;           /* sandboxes of this driver that somebody owns, or may */
};

/* environmentValidateConfig: ok is "no errors". */
struct validation {
	struct strv errors;
	struct strv warnings;
	json_t *normalized; /* owned; NULL: left out */
};

struct probe_report {
	bool ok;
	char *summary;       /* owned */
	json_t *diagnostics; /* owned array of {severity, message, code?, details?}, or NULL */
	json_t *metadata;    /* owned, or NULL */
	json_t *extra;       /* owned object of further members for the answer, or NULL */
};

/* acquire and resume. provider_lease_id NULL (resume only): proven to be gone. */
struct lease_result {
	char *provider_lease_id; /* owned */
	char *expires_at;        /* owned, ISO 8601, or NULL */
	json_t *metadata;        /* owned, or NULL */
	json_t *extra;           /* owned object of further members for the answer, or NULL */
};

/* release and destroy: what the provider confirmed. LEASE_UNPROVEN answers null. */
enum lease_end { LEASE_UNPROVEN, LEASE_STOPPED, LEASE_DESTROYED };

struct realize_result {
	char *cwd;        /* owned, absolute */
	json_t *metadata; /* owned, or NULL */
};

/* The output is in op_output(op). Zeroed: exit code null and no signal key. */
struct execute_result {
	bool has_exit_code;
	int exit_code;
	bool has_signal_key; /* the answer has "signal" (null if signal_name is NULL) */
	const char *signal_name; /* static */
	bool timed_out;
	json_t *metadata; /* owned, or NULL */
	json_t *extra;    /* owned object of further members for the answer, or NULL */
};

/* What an operation of sync_in or sync_out moved. */
struct sync_report {
	uint64_t files;
	uint64_t bytes;
};

struct provider {
	const char *driver_key;
	/* JSON text of the manifest's environmentDrivers entry (providers/<name>/driver.json): the one source of its schema. */
	const char *declaration;
	/* No lease outlives the worker that made it, kept or not. */
	bool leases_end_with_worker;

	/*
	 * State of the provider in one worker: what op_state() gives. Made before the first request, in no fiber.
	 * stop: in a fiber, when all ops have ended: remove what must not outlive the worker; waits, must keep the deadline.
	 * destroy: the memory, in no fiber. All may be NULL.
	 */
	void *(*create)(struct worker *worker);
	void (*stop)(void *state);
	void (*destroy)(void *state);
	/* The host has initialised the worker: log lines that greet it. No waiting. May be NULL. */
	void (*greet)(void *state);
	/* Adds what a person wants to know to the object `details` of the health answer. No waiting. May be NULL. */
	void (*health)(void *state, json_t *details);

	/* Pure: no waiting. config is an object. */
	int (*validate_config)(const json_t *config, struct validation *ret, struct err *err);
	int (*probe)(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err);
	int (*acquire_lease)(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err);
	int (*resume_lease)(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err);
	/* The worker has ended the lease's executes before it calls these two. Idempotent; an unknown lease is success. */
	int (*release_lease)(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
	int (*destroy_lease)(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
	int (*realize_workspace)(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err);
	/*
	 * A deadline that passes while the command runs is a result with timed_out, not an error. When the op is cancelled, the
	 * command's whole tree is ended before the return.
	 */
	int (*execute)(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err);

	/*
	 * Files of this machine into the sandbox, and back. ret: p->count of them, zeroed. Both or none; a driver without them declares
	 * sandboxCapabilities.nativeSyncIn and nativeSyncOut false. A release or destroy cancels them, as it does executes.
	 */
	int (*sync_in)(struct op *op, const struct sync_params *p, struct sync_report *ret, struct err *err);
	int (*sync_out)(struct op *op, const struct sync_params *p, struct sync_report *ret, struct err *err);

	/* Interactive setup and templates: each returns the answer itself (new reference). */
	int (*start_setup)(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
	int (*get_setup)(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
	int (*capture_template)(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
	int (*cancel_setup)(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);
	int (*delete_template)(struct op *op, const struct setup_params *p, json_t **ret, struct err *err);

	/* Removes what workers that have died left behind, and what is past its time, when a person asks for it. */
	int (*reap)(struct op *op, const struct reap_params *p, struct reap_report *ret, struct err *err);
};

void validation_deinit(struct validation *v);
void probe_report_deinit(struct probe_report *r);
void lease_result_deinit(struct lease_result *r);
void realize_result_deinit(struct realize_result *r);
void execute_result_deinit(struct execute_result *r);
void reap_report_deinit(struct reap_report *r);

#endif
