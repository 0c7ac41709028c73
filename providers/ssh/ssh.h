/*
 * ssh: a directory on a machine of one's own, reached by OpenSSH's client (wire: ssh).
 *
 * Commands share a few connections: a master logs in, and sessions go over it, each a short-lived ssh that speaks to the master's socket.
 * What is run over there is a constant shell text; everything variable goes through its standard input, so that arguments and environment
 * are in nobody's argv. Marks in the two streams tell a command's own output and end from what ssh, sshd and the login shell say.
 *
 *	config.c   the config, its errors, its normal form
 *	key.c      the text of a private key, put right
 *	files.c    the private directory, and files that are in memory only
 *	command.c  ssh's command line
 *	explain.c  what ssh's texts mean
 *	pool.c     connections: an account's masters, and who gets a place on them
 *	master.c   one connection: logging in, living, ending
 *	marks.c    the marks in the streams
 *	script.c   the shell text that runs over there
 *	session.c  one such text: run, followed, ended
 *	lease.c    acquire, resume, release, destroy, realize
 *	execute.c  one command of the host
 *	probe.c    what works and what does not, step by step
 *	reap.c     what nobody owns any more
 */
#ifndef SSH_SSH_H
#define SSH_SSH_H

#include "base/buf.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "fiber.h"
#include "lease_table.h"
#include "process.h"
#include "provider.h"

#define SSH_NAME "ssh"

/* --- config.c --- */

struct ssh_hop {
	char *user; /* owned */
	char *host; /* owned */
	int port;
};

/* Strings are owned; NULL: not set. */
struct ssh_config {
	char *host;
	char *username;
	char *workspace; /* without slashes at its end */
	char *private_key;
	char *passphrase;
	char *known_hosts;
	char *jump_hosts; /* as given, trimmed */
	struct ssh_hop *hops;
	size_t hop_count;
	double port; /* NaN, like all numbers: not one that is allowed */
	double timeout_ms;
	double max_sessions;
	double alive_seconds;
	double connect_seconds;
	bool strict;
	bool reuse_lease;
	bool login_shell;
};

void ssh_config_parse(const json_t *config, struct ssh_config *ret);
void ssh_config_deinit(struct ssh_config *c);
#define cleanup_ssh_config cleanup(ssh_config_deinit)
/* config: the one that was parsed. */
void ssh_config_validate(const struct ssh_config *c, const json_t *config, struct validation *ret);
json_t *ssh_config_normalized(const struct ssh_config *c);
/* For a call that connects. -1: ERR_INVALID the first error, or no key; ERR_CONFLICT: no host key to check against. */
int ssh_config_read(struct op *op, const json_t *config, struct ssh_config *ret, struct err *err);
/* "user@host:port", IPv6 in brackets. Owned. */
char *ssh_destination(const struct ssh_config *c);

/* --- key.c --- */

/* The key with the line ends that ssh wants. -1, ERR_INVALID: it is no private key. *ret is owned; wipe it. */
int ssh_key_mend(const char *text, char **ret, struct err *err);

/* --- files.c --- */

/* A text for ssh to read, by path. */
struct ssh_file {
	int fd;     /* owned; -1: the file is on disk */
	char *path; /* owned; NULL: there is none */
};

/* The directory of sockets; made when first needed. */
struct ssh_dir {
	char *path; /* owned */
	int lock_fd;
	unsigned last_name;
};

void ssh_dir_init(struct ssh_dir *dir);
/* -1, ERR_SYSTEM: there is no place for it. */
int ssh_dir_open(struct ssh_dir *dir, struct err *err);
/* Removes it. */
void ssh_dir_deinit(struct ssh_dir *dir);
/* A path in it that was not given before, short enough for a socket. Owned. */
char *ssh_dir_name(struct ssh_dir *dir);

/* mode: 0600, or 0700 for a script. In memory, or else in the directory. */
int ssh_file_create(struct ssh_dir *dir, const char *text, mode_t mode, struct ssh_file *ret, struct err *err);
void ssh_file_close(struct ssh_file *file);

/* --- command.c --- */

struct ssh_login {
	const char *identity;    /* path of the key; NULL: it is in the agent */
	const char *agent;       /* socket; NULL: none */
	const char *known_hosts; /* path */
};

/* Of the connection at that socket. It prints a line when it has logged in. */
void ssh_command_master(const struct ssh_config *c, const struct ssh_login *login, const char *socket, struct strv *ret);
/* A session over it that runs the shell text. */
void ssh_command_session(const struct ssh_config *c, const char *socket, const char *text, struct strv *ret);
/* The environment and PATH of these programs. */
void ssh_command_env(struct strv *ret);
const char *ssh_command_path(void);

/* A program of OpenSSH to its end. output: of both streams, at most its ceiling. *ret_code: 127 and above for what did not exit. */
int ssh_run_tool(struct worker *worker, char *const *argv, char *const *envp, const char *input, int64_t ms, struct buf *output,
		 int *ret_code, struct err *err);

/* --- explain.c --- */

/* What ssh said when it failed before anything ran over there; text may be "". ERR_CONFLICT: the host's key is not to be trusted. Returns -1. */
int ssh_explain(const struct ssh_config *c, const char *text, struct err *err);
/* The server dropped the connection before it asked who it is: another try may get through. */
bool ssh_text_is_crowded(const char *text);
/* The connection has no place for a session. */
bool ssh_text_is_refused_session(const char *text);
/* The session has never reached its master, which is not there any more. */
bool ssh_text_is_unopened_session(const char *text);
/* The text without banners and paths of ours, in one line. Owned. */
char *ssh_clean_text(const char *text);

/* --- pool.c --- */

enum ssh_master_state { SSH_MASTER_STARTING, SSH_MASTER_READY, SSH_MASTER_ENDED };

/* One connection. */
struct ssh_master {
	struct list link;
	struct ssh_account *account;
	char *socket; /* owned */
	enum ssh_master_state state;
	unsigned sessions; /* that have a place on it, or wait for it to be ready */
	bool leaving;      /* nobody new: it is to end */
	bool main_running; /* its fiber has not ended */
	int64_t idle_since_ms;
	struct fiber *fiber;
	struct event changed; /* for the fiber */
	struct err err;       /* why it has ended before it was ready */
	/* Only until it has logged in. */
	struct ssh_config config;
	struct ssh_file key;
	struct ssh_file known_hosts;
};

/* All connections to one machine with one set of credentials, of one company. */
struct ssh_account {
	struct list link;
	struct ssh_state *state;
	char *key;         /* owned */
	char *destination; /* owned */
	struct list masters;
	struct list waiters;
	unsigned starting;
	unsigned total_max; /* sessions that the server was seen to take on a connection; 0: it has refused none */
	bool profiles_told; /* that they cannot be used */
	struct ssh_file accepted; /* host keys that were taken on first sight; kept for the life of the worker */
};

struct ssh_state {
	struct worker *worker;
	struct ssh_dir dir;
	struct list accounts;
	struct lease_table leases;
	unsigned masters;  /* whose fibers run */
	unsigned sessions; /* that are not freed */
	struct event stopped;
	bool stopping;
	char *owner; /* owned; this worker, as in the files beside leases */
};

struct ssh_account *ssh_account_find(struct ssh_state *state, const struct request_base *base, const struct ssh_config *c);
void ssh_account_destroy(struct ssh_account *account);
/* Something has changed that others may wait for. */
void ssh_account_wake(struct ssh_account *account);
/* One of those that it has started, one way or another. */
void ssh_account_log_in_ended(struct ssh_account *account);

/*
 * A place for a session on a connection that is ready. control: of those kept for ending what others have started. Waits. -1: no connection
 * comes about, and why.
 */
int ssh_master_take(struct ssh_account *account, const struct ssh_config *c, bool control, struct ssh_master **ret, struct err *err);
void ssh_master_give(struct ssh_master *master);
/* It does not work any more. */
void ssh_master_drop(struct ssh_master *master);
/* It takes fewer sessions than was thought. */
void ssh_account_lower_limit(struct ssh_account *account, const struct ssh_master *master);

/* --- master.c --- */

/* Begins; *ret is in the account's list. -1: it could not even begin. */
int ssh_master_start(struct ssh_account *account, const struct ssh_config *c, struct ssh_master **ret, struct err *err);
void ssh_master_free(struct ssh_master *master);

/* --- marks.c --- */

#define SSH_NONCE_BYTES 33

enum ssh_mark { SSH_BEFORE, SSH_INSIDE, SSH_AFTER };

struct ssh_stream {
	enum ssh_mark at;
	struct buf held; /* what may become a mark */
	struct buf noise; /* the start of what came before the first mark */
};

struct ssh_marks {
	char nonce[SSH_NONCE_BYTES];
	struct ssh_stream streams[2];
	long pid;      /* of the shell over there; 0: not known */
	int code;      /* of the end mark */
	char word[16]; /* of the end mark */
	process_output_fn *put; /* NULL: the bytes are dropped */
	void *arg;
};

void ssh_marks_init(struct ssh_marks *m, const char *nonce, process_output_fn *put, void *arg);
void ssh_marks_deinit(struct ssh_marks *m);
/* Passes on what lies between the marks, and after them. -1: as put; all bytes were put all the same. */
int ssh_marks_feed(struct ssh_marks *m, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err);
/* No more is coming: what was held is no mark. */
void ssh_marks_finish(struct ssh_marks *m);
bool ssh_marks_have_begun(const struct ssh_marks *m);
/* On both streams. */
bool ssh_marks_have_ended(const struct ssh_marks *m);

/* --- script.c --- */

/* What the login shell over there is given: reads the script from its input up to the line with the nonce. Owned. */
char *ssh_script_loader(const char *nonce);
/* The beginning of each script: functions, first mark. */
void ssh_script_begin(struct buf *out, const char *nonce);
/* Its end: the line that the loader waits for. */
void ssh_script_end(struct buf *out, const char *nonce);

struct ssh_place {
	char *dir;    /* owned: the lease's directory */
	char *marker; /* owned: the file beside it that says that it is ours */
	char *name;   /* owned: last part of dir */
};

void ssh_place_deinit(struct ssh_place *p);
#define cleanup_ssh_place cleanup(ssh_place_deinit)

struct ssh_command_spec {
	const struct execute_params *params;
	const struct ssh_place *place;
	const char *cwd;
	bool login_shell;
	bool has_length;    /* of its input; else it ends with the session's */
	size_t input_bytes;
};

/*
 * Ends with code and word "lease" or "cwd" if there is no such directory; else as the command, with "signal" in the word if it was killed,
 * and "profile" if the user's profiles could not be used.
 */
void ssh_script_command(struct buf *out, const char *nonce, const struct ssh_command_spec *spec);
/* Kills what has name=value in its environment, and the process group (0: none). Ends with "alive" if something stays. */
void ssh_script_kill(struct buf *out, const char *name, const char *value, long group);
/* Ends with code 0 or not; what is wrong is on stderr. seconds: the lease's life; 0: no limit. May be run again. */
void ssh_script_acquire(struct buf *out, const struct ssh_config *c, const struct ssh_place *place, const char *owner, int64_t seconds);
/* Prints a line for each lease in the workspace: its name, its worker, "over" or "-". */
void ssh_script_list(struct buf *out, const struct ssh_config *c);
/* Ends with "gone" if it is not there, "foreign" if it is not ours. Prints the shell's name. */
void ssh_script_look(struct buf *out, const struct ssh_place *place);
/* As look. Ends what runs in the lease, and removes the directory if asked to; "alive" if something stays. */
void ssh_script_release(struct buf *out, const struct ssh_place *place, bool remove);

/* --- session.c --- */

struct ssh_task {
	void (*write_script)(struct buf *out, const char *nonce, const void *arg); /* without begin and end */
	const void *arg;
	struct input *input; /* what the command reads; NULL: nothing */
	process_output_fn *take;
	void *take_arg;
	int64_t timeout_ms; /* once it runs; 0: none */
	bool control;
	bool endable; /* processes with PSW_EXEC=<nonce> are to be killed if it does not end by itself */
};

struct ssh_reply {
	int code;
	char word[16];
	bool timed_out;
	bool begun; /* before it timed out */
};

/*
 * Runs the task over there. Waits. Before it has begun it may be tried again on another connection. -1: nothing ran, ERR_TRANSPORT: the
 * connection was lost on the way, ERR_CANCELLED. What still runs then was ended as far as it can be.
 */
int ssh_session_run(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct ssh_task *task,
		    struct ssh_reply *ret, struct err *err);

/* A script of ours: output and errors are kept, up to a ceiling. */
struct ssh_words {
	struct buf out, err_out;
	struct ssh_reply reply;
};

void ssh_words_deinit(struct ssh_words *w);
#define cleanup_ssh_words cleanup(ssh_words_deinit)
/* Waits; ms: its limit. *ret must be deinited in either case. */
int ssh_session_ask(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct buf *script, bool control,
		    int64_t ms, struct ssh_words *ret, struct err *err);

/* --- lease.c --- */

int ssh_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err);
int ssh_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err);
int ssh_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int ssh_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int ssh_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err);
/* Makes a directory for the place, or leaves nothing. seconds: as ssh_script_acquire. *ret_shell: "bash" or "sh", static. */
int ssh_lease_make(struct op *op, struct ssh_account *account, const struct ssh_config *c, int64_t seconds, struct ssh_place *ret,
		   const char **ret_shell, struct err *err);
/* Ends what runs in it and removes it, if asked to. *ret_gone: it was not there. */
int ssh_lease_end(struct op *op, struct ssh_account *account, const struct ssh_config *c, const struct ssh_place *place, bool remove,
		  bool *ret_gone, struct err *err);
/* -1, ERR_INVALID: the id is not of this config's machine, user or path. */
int ssh_lease_place(const struct ssh_config *c, const char *lease_id, struct ssh_place *ret, struct err *err);
/* The place of that name. -1: it is none of a lease. */
int ssh_lease_named(const struct ssh_config *c, const char *name, struct ssh_place *ret);
/* -1, ERR_NOT_FOUND: it was released or destroyed. */
int ssh_lease_check(struct op *op, const struct ssh_config *c, const struct request_base *base, const char *lease_id,
		    struct err *err);

/* --- execute.c --- */

int ssh_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err);

/* --- probe.c --- */

int ssh_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err);

/* --- reap.c --- */

int ssh_reap(struct op *op, const struct reap_params *p, struct reap_report *ret, struct err *err);

#endif
