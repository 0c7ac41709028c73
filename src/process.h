/*
 * process: commands as child processes, with streamed stdin, stdout and stderr, run by an init (src/init/).
 *
 * An init is a tiny static program of ours that starts commands on request and owns their process trees. Two uses:
 *  - the worker's own init (worker_init()): child subreaper of this worker; whatever was started through it dies with the
 *    worker, even if the worker is killed;
 *  - pid 1 of a sandbox: started through a launcher (bubblewrap) and reached over the socket that it inherited.
 * The same protocol serves both (src/init/wire.h). Each command gets a supervisor inside the init that can end its whole
 * tree: also processes that left the group or the session.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include "base/err.h"
#include "input.h"
#include "output.h"

#include <stdint.h>
#include <sys/types.h>

struct init;
struct worker;

struct init_options {
	/*
	 * Launcher's argument vector, e.g. {"bwrap", …, "--proc", "/proc", "--unshare-pid", "--as-pid-1", "--", NULL}, looked up
	 * in the worker's PATH: the init's own path and arguments are appended. The path is /proc/self/fd/N, the descriptor
	 * is inherited: so the launcher needs no file of ours in the sandbox, but it must mount /proc (that of the sandbox's
	 * pid namespace) and leave descriptors alone, as bubblewrap does. NULL: the init is started directly.
	 */
	char *const *launcher;
	char *const *envp; /* of the launcher; NULL: empty */
	/*
	 * Called in the child between vfork and exec, in the worker's own memory: async-signal-safe things only (rlimits, joining
	 * a cgroup, clearing close-on-exec). Returns 0, or -1 with errno, which fails the start. May be NULL.
	 */
	int (*child_setup)(void *arg);
	void *child_setup_arg;
};

/*
 * Starts an init and waits until it answers (waits). On failure *err has what the launcher printed on stderr, or sys_errno says
 * why it could not be executed. From the first call on this process ignores SIGPIPE, unless it has a handler, and its limit of
 * descriptors is the hard one; neither is passed on to the child.
 */
int init_start(const struct init_options *options, struct init **ret, struct err *err);
/*
 * Kills everything that the init started, and the init; waits until all of it is gone (at most ~2 s). NULL is fine. A
 * process_run that is still under way in another fiber fails with ERR_TRANSPORT.
 */
void init_stop(struct init *init);
/* As init_stop, without waiting: from outside fibers. The loop finishes it. */
void init_kill(struct init *init);
bool init_is_alive(const struct init *init);
/* The worker's own init; started at first use (waits). Borrowed. */
int worker_init(struct worker *worker, struct init **ret, struct err *err);

/* Takes bytes of the command as output_write does, or as output_put if it may not wait. */
typedef int process_output_fn(void *arg, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err);

struct process_spec {
	const char *file;             /* looked up in search_path unless it has a '/' */
	char *const *argv;            /* with argv[0] */
	char *const *envp;            /* the whole environment */
	const char *search_path;      /* of the look-up; NULL or "": nothing is found but paths with '/' */
	const char *cwd;              /* NULL: the init's own */
	struct input *input;          /* NULL: /dev/null */
	struct output *output;        /* where its bytes go; NULL: they are dropped, or taken by on_output */
	process_output_fn *on_output; /* NULL: there is none */
	void *on_output_arg;
	int64_t timeout_ms; /* <= 0: none but the fiber's deadline */
	int64_t grace_ms;   /* between SIGTERM and SIGKILL */
	/*
	 * After the command itself has ended, its background children may hold the pipes. < 0: wait for them. >= 0: wait this
	 * long, then answer; their later output is read and dropped, so that they live on.
	 */
	int64_t linger_ms;
};

enum process_outcome {
	PROCESS_EXITED,     /* exit_code */
	PROCESS_SIGNALLED,  /* term_signal */
	PROCESS_NOT_STARTED /* start_errno, start_step */
};

enum process_step { PROCESS_STEP_CHDIR, PROCESS_STEP_EXEC, PROCESS_STEP_FORK };

struct process_result {
	enum process_outcome outcome;
	int exit_code;
	int term_signal;
	int start_errno;
	enum process_step start_step;
	/*
	 * timeout_ms or the fiber's deadline passed; outcome is what ended it then. PROCESS_NOT_STARTED with start_errno 0: the
	 * deadline passed while the command waited in line for descriptors (process_limit.h).
	 */
	bool timed_out;
};

/*
 * Runs the command to its end (waits). On timeout: SIGTERM to the tree, grace_ms, SIGKILL; what was printed is kept and 0 is
 * returned with timed_out. On cancellation: the same, then -1 with ERR_CANCELLED. -1 with ERR_TRANSPORT: the init died, or
 * the command killed its supervisor. A command that does not read its stdin is no error.
 *
 * The command leads a session of its own, with signals as a fresh process has them and no descriptor above 2. A program that the
 * kernel cannot execute (ENOEXEC: a script without #!) is an error, not a shell script.
 */
int process_run(struct init *init, const struct process_spec *spec, struct process_result *ret, struct err *err);

/* "SIGTERM" for 15; NULL for 0, a real-time signal or an unknown number. */
const char *process_signal_name(int number);

#endif
