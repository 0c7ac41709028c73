/*
 * e2b: sandboxes of E2B, and of services that speak its protocol: Novita (wire: e2b). One client, two drivers.
 *
 * Two HTTP services: the API, which makes, resumes, pauses and kills sandboxes, and envd, a daemon inside each sandbox, which runs
 * commands (Connect RPC) and takes files. A sandbox costs money until it is killed or its lifetime ends. Each one is made with a random
 * value in its metadata, so that it can be found and killed even if the answer to its creation never came.
 *
 *	client.c         where a service is, and as whom we speak to it
 *	config.c         the config of the driver e2b
 *	api.c            one request to the API, and what an answer that is no success means
 *	sandbox.c        a sandbox in the API: create, connect, lifetime, pause, kill
 *	rpc.c            errors of envd in words and in kind
 *	envd.c           short calls of envd: files, signals
 *	event.c          events of a running process, as they are on the wire
 *	stream.c         one stream of events
 *	command.c        one command to its end: limits, cut streams
 *	tree.c           what a command has started, and its end
 *	lease.c          what both drivers' leases have in common
 *	execute.c        what both drivers' executes have in common
 *	e2b.c            the driver e2b
 *	novita_config.c, novita_execute.c, novita.c: the driver novita
 */
#ifndef E2B_E2B_H
#define E2B_E2B_H

#include "base/buf.h"
#include "base/mem.h"
#include "base/random.h"
#include "fiber.h"
#include "http.h"
#include "lease_table.h"
#include "output.h"
#include "provider.h"

/* --- client.c --- */

/* What tells the services apart. */
struct e2b_service {
	const char *name;     /* "E2B" */
	const char *provider; /* driver key, and "provider" in metadata */
	const char *domain;   /* the usual one */
	const char *key_variable, *domain_variable, *api_url_variable, *sandbox_url_variable;
	const char *bearer_variable; /* of a second token; NULL: none */
	const char *key_missing;     /* error text */
	const char *create_path, *connect_path;
	const char *create_key; /* of the metadata: the random value that a sandbox is found by */
	const char *pause_body; /* NULL: none */
	bool shared_hosts;      /* some domains have one envd host for all sandboxes */
	bool client_in_id;      /* on the service's own old domains an id is <sandboxID>-<clientID> */
};

extern const struct e2b_service e2b_service;
extern const struct e2b_service novita_service;

/* Strings are owned; NULL where there are none. */
struct e2b_client {
	const struct e2b_service *service;
	char *api_key;
	char *bearer;
	char *api_url; /* without slashes at its end */
	char *domain;
	char *sandbox_url;  /* for every sandbox */
	int64_t request_ms; /* limit of a request, and of the silence before a stream's first event */
	struct http_options http;
};

/* The keys that say where the service is: apiUrl, domain, sandboxUrl. Owned strings of the config, or NULL. */
struct e2b_endpoints {
	char *api_url, *domain, *sandbox_url;
};

void e2b_endpoints_parse(const json_t *config, struct e2b_endpoints *ret);
void e2b_endpoints_deinit(struct e2b_endpoints *e);
#define cleanup_e2b_endpoints cleanup(e2b_endpoints_deinit)
/* A host name with an optional port, that stands in a URL as it is. */
bool e2b_is_domain(const char *text);
void e2b_endpoints_validate(const struct e2b_endpoints *e, struct strv *errors);

/*
 * For a call to the service: what the config leaves out comes from the environment or is the service's own; the key is held as a secret of
 * the op. api_key: of the config, or NULL. -1, ERR_AUTH: no key; ERR_INVALID: network options.
 */
int e2b_client_init(struct op *op, const struct e2b_service *service, const json_t *config, const char *api_key,
		    int64_t request_ms, struct e2b_client *ret, struct err *err);
/* Takes NULL and zeroed values. */
void e2b_client_deinit(struct e2b_client *c);
#define cleanup_e2b_client cleanup(e2b_client_deinit)
/* The variable of the worker's environment, trimmed; NULL: unset or blank. Owned. */
char *e2b_environment_text(const char *name);
/* The service's key is there, in the config or in the environment. */
bool e2b_has_key(const struct e2b_service *service, const char *api_key);

/* --- api.c --- */

struct e2b_call {
	const char *method;
	const char *path;   /* each %s: the id, percent-encoded */
	const char *id;     /* NULL: the path has none */
	const char *query;  /* with its ?; NULL: none */
	const json_t *json; /* the body; NULL: none, or body */
	const char *body;
	int64_t deadline_ms; /* of the whole call; 0: the client's */
	struct http_retry retry;
};

struct e2b_answer {
	struct http_response http;
	json_t *json; /* owned; NULL: no JSON */
	int status;   /* 0: there was no answer */
	int code;     /* what the service's own error says; 0: it is not the service's */
	bool sent;    /* it may have been carried out */
};

void e2b_answer_deinit(struct e2b_answer *a);
#define cleanup_e2b_answer cleanup(e2b_answer_deinit)
/* Waits. Success is 2xx. *ret is zeroed before and must be deinited in either case. -1, ERR_NOT_FOUND: only if the service says so. */
int e2b_api(struct op *op, const struct e2b_client *c, const struct e2b_call *call, struct e2b_answer *ret, struct err *err);
/*
 * The request's own end is no fault of the service: true for a cancelled fiber, a passed deadline of the op, a request that is wrong.
 */
bool e2b_is_our_end(const struct err *err);
/* "fetch failed: …", or the text for a passed deadline, of an error of http.h. Returns -1. */
int e2b_set_fetch_error(struct err *err, struct err *from, const char *prefix);
/* The answer's message: its JSON's, else its bytes, else the usual words for the status. Owned. */
char *e2b_message_of(const struct http_response *http, const json_t *json);

/* --- sandbox.c --- */

struct e2b_sandbox {
	char *id; /* owned, like all of these */
	char *domain;
	char *token; /* of envd; NULL: none */
	char *envd;  /* base URL */
	int version; /* of envd, 1000000 * major + 1000 * minor + patch; -1: not known */
};

void e2b_sandbox_deinit(struct e2b_sandbox *s);
#define cleanup_e2b_sandbox cleanup(e2b_sandbox_deinit)
#define E2B_VERSION(major, minor, patch) ((major)*1000000 + (minor)*1000 + (patch))

enum e2b_condition { E2B_RUNNING, E2B_PAUSED, E2B_GONE };

/* ceil(ms / 1000); not beyond expires_unix_ms (-1: no such end), and at least 1 then. */
double e2b_lifetime_s(double ms, int64_t expires_unix_ms);
/* The same for a lease that is there: its expiresAt is the end. */
double e2b_lease_lifetime_s(double ms, const struct lease_ref *lease);

/* body: the request's, to whose metadata the random value is added. Whatever fails, no sandbox is left (or the log says which). Waits. */
int e2b_sandbox_create(struct op *op, const struct e2b_client *c, json_t *body, struct e2b_sandbox *ret, struct err *err);
/* Resumes it if it is paused. -1, ERR_NOT_FOUND: proven. Waits, as all of these do. */
int e2b_sandbox_connect(struct op *op, const struct e2b_client *c, const char *id, double seconds, struct e2b_sandbox *ret,
			struct err *err);
/* deadline_ms 0: the client's. */
int e2b_sandbox_set_timeout(struct op *op, const struct e2b_client *c, const char *id, double seconds, int64_t deadline_ms,
			    struct err *err);
/* Of the old domains of Novita, where ids hold the client's. */
bool e2b_is_old_domain(const char *domain);
int e2b_sandbox_look(struct op *op, const struct e2b_client *c, const char *id, enum e2b_condition *ret, struct err *err);
/* One that is paused already is success. */
int e2b_sandbox_pause(struct op *op, const struct e2b_client *c, const char *id, struct err *err);
/* Tries for up to ms, come what may (shielded). A sandbox that is not there is success. */
int e2b_sandbox_kill(struct op *op, const struct e2b_client *c, const char *id, int64_t ms, struct err *err);
/* As cleaning up after something else that failed: what remains is logged. */
void e2b_sandbox_discard(struct op *op, const struct e2b_client *c, const char *id);

/* --- rpc.c --- */

enum e2b_fault {
	E2B_REFUSED, /* it will be the same the next time */
	E2B_ABSENT,  /* there may be no sandbox, or no envd in it */
	E2B_LOST,    /* the connection was cut, or something in between failed */
	E2B_LATE,    /* the command's limit has passed */
	E2B_MISSING, /* there is no such process */
};

struct e2b_failure {
	enum e2b_fault fault;
	bool sent;  /* it may have been carried out */
	bool begun; /* of a stream: the start event came */
	bool ended; /* the service has killed the command itself */
};

#define E2B_SANDBOX_TIMEOUT                                                                                                      \
	"This error is likely due to sandbox timeout. You can modify the sandbox timeout by passing 'timeoutMs' when starting "  \
	"the sandbox or "                                                                                                        \
	"calling '.setTimeout' on the sandbox with the desired timeout."

enum e2b_phase { E2B_BEFORE_START, E2B_STREAMING, E2B_UNARY };

/* code: Connect's name, or NULL. Returns -1. */
int e2b_rpc_error(const char *code, const char *message, enum e2b_phase phase, struct e2b_failure *ret, struct err *err);
/* Of an answer with this status that is not Connect's. */
int e2b_rpc_status_error(int status, enum e2b_phase phase, struct e2b_failure *ret, struct err *err);
/* The text of a command that ran out of time by our clock. */
extern const char e2b_timeout_text[];
/* The sandbox died under a running command. */
extern const char e2b_died_text[];

/* --- envd.c --- */

#define E2B_ENVD_HEADERS 8
/* Headers of a request to envd, up to one with name NULL; the strings are the sandbox's. extra: at most four, ended likewise. */
void e2b_envd_headers(struct http_header list[E2B_ENVD_HEADERS + 1], const struct e2b_sandbox *s,
		      const struct http_header *extra);

/* A unary call. *ret: the answer, new reference. Waits, as all of these do. */
int e2b_envd_call(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *path, const json_t *body,
		  int64_t ms, json_t **ret, struct e2b_failure *ret_failure, struct err *err);
int e2b_envd_upload(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *path,
		    struct http_piece content, struct err *err);
/* Never fails and never takes long; not even a cancelled fiber leaves the file. */
void e2b_envd_remove(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *path);
int e2b_envd_kill(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, int64_t pid, int64_t ms,
		  struct err *err);

/* --- event.c --- */

struct e2b_event {
	enum { E2B_EVENT_OTHER, E2B_EVENT_START, E2B_EVENT_DATA, E2B_EVENT_END } kind;
	int64_t pid;
	struct buf out, err; /* of data: owned bytes */
	int exit_code;       /* of end */
	bool exited;
	char *status; /* owned; NULL: none */
	char *error;  /* owned; NULL: none */
};

/* Takes a zeroed value. */
void e2b_event_deinit(struct e2b_event *e);
/* -1, ERR_PROTOCOL. */
int e2b_event_read(const char *text, size_t len, struct e2b_event *ret, struct err *err);
/* "SIGKILL" for "signal: killed (core dumped)"; NULL: it was no signal, or an unknown one. Static. */
const char *e2b_signal_name(const char *status);

/* --- stream.c, command.c --- */

struct e2b_command {
	const char *script; /* of bash -l -c */
	const char *cwd;    /* NULL: not given */
	double limit_ms;    /* not above 0: none */
	bool harmless;      /* may be run again: nothing is done about one that was lost */
	/* Takes output. Waits. */
	int (*on_output)(void *arg, enum output_stream stream, const void *bytes, size_t n, struct err *err);
	void *arg;
};

/* How a command ended. */
struct e2b_end {
	bool timed_out;
	char *timeout_text; /* owned */
	int exit_code;
	const char *signal; /* static; NULL: none */
	char *error;        /* owned: what went wrong in the service's words ("exit status 1"); NULL: nothing */
	unsigned gaps;      /* how often the stream was cut: what was printed meanwhile is lost */
};

void e2b_end_deinit(struct e2b_end *end);
#define cleanup_e2b_end cleanup(e2b_end_deinit)

/* A command while it runs. */
struct e2b_run {
	struct list link; /* in the state's runs */
	struct op *op;
	const struct e2b_client *client;
	const struct e2b_sandbox *sandbox;
	const struct e2b_command *command;
	struct e2b_end *end;
	int64_t limit_at; /* by the loop's clock; INT64_MAX: none */
	int64_t pid;      /* 0: not known yet */
	bool ended;
	bool looked;   /* for what it has started */
	char *started; /* owned: "pid:start time" of each, before the limit passes */
};

/* What a stream came to: 0 the command has ended, or -1 with *ret_failure. */
int e2b_stream(struct e2b_run *run, bool attach, struct e2b_failure *ret_failure, struct err *err);

/*
 * Waits for the command's end, through cut streams. A limit that passes is a result. Cancelled or given up, the command is ended before
 * the return. *ret_failure: of -1.
 */
int e2b_command_run(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const struct e2b_command *command,
		    struct e2b_end *ret, struct e2b_failure *ret_failure, struct err *err);
/* A harmless command that has to succeed, repeated if the connection fails. *ret: what it printed, trimmed, owned; NULL: nobody asks. */
int e2b_command_check(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *script, const char *cwd,
		      double limit_ms, char **ret, struct e2b_failure *ret_failure, struct err *err);

/*
 * After a step behind connect has failed: the service says itself that the sandbox is gone. Whatever else it is, the sandbox stays. Waits.
 */
bool e2b_sandbox_is_gone(struct op *op, const struct e2b_client *c, const char *id, const struct e2b_failure *failure,
			 const struct err *err);

/* --- tree.c --- */

/* Looks what the command has started so far. Never fails. */
void e2b_tree_look(struct e2b_run *run);
/* After the service has killed the command itself: ends what it had started. Never fails, takes at most ms. */
void e2b_tree_end_rest(struct e2b_run *run, int64_t ms);
/* Ends the command with all that it has started, cancelled or not; one whose pid is not known is looked for. Never fails, takes at most ms. */
void e2b_tree_end(struct e2b_run *run, int64_t ms);

/* --- lease.c --- */

struct e2b_lease {
	struct lease_entry entry;
	char *token; /* owned: of envd, as it was last told */
};

/* One of each driver, in one worker. */
struct e2b_state {
	struct lease_table leases;
	struct list runs; /* of struct e2b_run */
};

void *e2b_state_create(struct worker *worker);
void e2b_state_destroy(void *state);

/* A lease begins, or goes on. */
void e2b_lease_keep(struct op *op, const struct e2b_client *c, const struct request_base *base, const struct e2b_sandbox *s);
/* It has ended: commands are refused until it is resumed. */
void e2b_lease_end(struct op *op, const struct e2b_client *c, const struct request_base *base, const char *id);
bool e2b_lease_has_ended(struct op *op, const struct e2b_client *c, const struct request_base *base, const char *id);
/* Connects, with what is known of the lease. */
int e2b_lease_connect(struct op *op, const struct e2b_client *c, const struct request_base *base, const char *id, double seconds,
		      struct e2b_sandbox *ret, struct err *err);

/*
 * The lease ends. *ret: what the host gets to know; it wants proof only where it asked for the end of active work. -1: the sandbox could not be
 * killed. A pause that fails is followed by a kill. what: "lease release".
 */
int e2b_lease_pause_or_kill(struct op *op, const struct e2b_client *c, const struct lease_params *p, enum lease_end *ret,
			    struct err *err);
int e2b_lease_kill(struct op *op, const struct e2b_client *c, const struct lease_params *p, const char *what, enum lease_end *ret,
		   struct err *err);
/* The directory that commands run in: of the lease's metadata or of the request. Owned. */
char *e2b_workspace_path(const struct realize_params *p, const char *fallback);
/* mkdir -p in the sandbox. */
int e2b_make_directory(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const char *path, const char *cwd,
		       double limit_ms, struct e2b_failure *ret_failure, struct err *err);
/* A diagnostic of a probe. */
void e2b_tell(json_t *diagnostics, const char *severity, const char *code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* The step that failed, and what a person can do about it. */
void e2b_tell_failure(json_t *diagnostics, const struct e2b_client *c, const char *code, const struct err *err);

/* --- execute.c --- */

/* What both drivers' executes have in common. */
struct e2b_execute {
	const char *stdin_path; /* NULL: no stdin */
	bool removes_stdin;     /* the script itself does, if it runs to its end */
	const char *script;
	const char *cwd; /* NULL: not given */
	double limit_ms;
};

/*
 * Uploads stdin, runs the command with its output to the host's, removes stdin. A timeout's text is on stderr then. Fills all of *ret but
 * what a driver has of its own; without the exit code of a timeout.
 */
int e2b_execute_command(struct op *op, const struct e2b_client *c, const struct e2b_sandbox *s, const struct execute_params *p,
			const struct e2b_execute *x, struct execute_result *ret, struct err *err);
/* params.timeoutMs ?? config.timeoutMs */
double e2b_execute_limit_ms(const struct execute_params *p, double config_ms);
/* Exit code 1 with a text on stderr: the command did not run. Returns 0. */
int e2b_execute_refuse(struct op *op, const char *text, struct execute_result *ret);
/* <prefix><uuid>, owned; NULL: no stdin. */
char *e2b_stdin_path(const struct execute_params *p, const char *prefix);

/* --- the drivers --- */

struct e2b_config {
	char *api_key; /* owned, like the others; of the config */
	char *template_id;
	bool template_blank; /* a string without text, which is an error */
	double timeout_ms;
	double request_ms; /* NaN: not set */
	bool reuse_lease;
	struct e2b_endpoints endpoints;
};

void e2b_config_parse(const json_t *config, struct e2b_config *ret);
void e2b_config_deinit(struct e2b_config *c);
#define cleanup_e2b_config cleanup(e2b_config_deinit)
int e2b_validate_config(const json_t *config, struct validation *ret, struct err *err);
/* As e2b_client_init. */
int e2b_config_client(struct op *op, const struct e2b_config *c, const json_t *config, struct e2b_client *ret, struct err *err);

struct novita_config {
	char *api_key; /* owned, like the others; of the config */
	char *template_id;
	char *requested_cwd;
	double timeout_ms, request_ms;
	int secure; /* -1: not set */
	bool auto_pause, reuse_lease;
	struct e2b_endpoints endpoints;
};

void novita_config_parse(const json_t *config, struct novita_config *ret);
void novita_config_deinit(struct novita_config *c);
#define cleanup_novita_config cleanup(novita_config_deinit)
int novita_validate_config(const json_t *config, struct validation *ret, struct err *err);
/* As e2b_client_init. */
int novita_config_client(struct op *op, const struct novita_config *c, const json_t *config, struct e2b_client *ret,
			 struct err *err);
int novita_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err);

#endif
