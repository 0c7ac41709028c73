/*
 * local: sandboxes on this machine, made by bubblewrap. No account, no service.
 *
 * A lease is a directory on the host (its home, /tmp and workspace, and what we know of it) and, while it is used, a small init in
 * namespaces of its own that starts the commands. The directory outlives the init, the worker and the machine's reboot; the
 * processes end with the init, and the init with the worker.
 *
 *	config.c, config_json.c  what the user may set: read, checked, normalised
 *	state.c    where leases lie on the disk, whose they are, and sweeping what dead workers left
 *	record.c   one lease's directory: made, locked, read, saved, removed
 *	etc.c      the few files of /etc that a sandbox sees
 *	sandbox.c  bubblewrap's argument vector
 *	host.c     what this machine offers, and what to do where it does not
 *	mount_points.c  places for them in what commands may write to
 *	cgroup.c   control groups, where the machine gives us any
 *	limits.c   which limit is enforced by what
 *	start.c    from a lease to a running sandbox
 *	session.c  live leases: who uses them, their end
 *	lease.c    acquire, resume, release, destroy, realize
 *	execute.c  one command
 *	probe.c    what works on this machine and what is missing
 *	provider.c the vtable
 */
#ifndef LOCAL_H
#define LOCAL_H

#include "base/err.h"
#include "base/list.h"
#include "base/str.h"
#include "fiber.h"
#include "process.h"
#include "provider.h"

#include <sys/types.h>

#define LOCAL_PROVIDER_NAME "local"
#define LOCAL_LEASE_SCHEME "local://"

/* The user that commands are, whoever the worker is: one uid is mapped into the sandbox, and it is called so there. */
#define SANDBOX_UID 1000
#define SANDBOX_GID 1000
#define SANDBOX_USER "agent"
#define SANDBOX_HOME "/home/agent"

/* --- config.c --- */

struct local_bind {
	char *source; /* owned, absolute, on the host */
	char *target; /* owned, absolute, in the sandbox */
	bool writable;
};

/* Zeroed limits are "no limit". Paths are absolute and have no "..", "//" or trailing "/". */
struct local_config {
	char *rootfs;  /* owned; NULL: the host's own system directories */
	char *workdir; /* owned */
	bool host_network;
	struct local_bind *binds; /* owned */
	size_t bind_count;
	json_t *env; /* owned object of strings */
	int64_t memory_mb;
	int64_t max_processes;
	int64_t cpu_seconds;
	double cpus;
	int64_t timeout_ms;
	bool reuse_lease;
	char *state_dir; /* owned; NULL: the default */
	bool login_shell;
	bool archive_on_release; /* the host's own flag */
};

/* Reads what the host or a person gave. What is wrong is told to errors, in the order of the documented keys, and takes its default. */
void local_config_read(const json_t *config, struct local_config *ret, struct strv *errors);
/* As above for calls that cannot go on with a wrong config: the first error is err. */
int local_config_require(const json_t *config, struct local_config *ret, struct err *err);
void local_config_deinit(struct local_config *c);
/* The documented keys, those without a value left out. New reference. */
json_t *local_config_normalized(const struct local_config *c);
/* The keys that decide what the sandbox looks like: what a lease remembers. New reference; reads back by local_config_read. */
json_t *local_config_shape(const struct local_config *c);
/* The user has shared a path of the host as, or above, this path of the sandbox. */
bool local_config_shares(const struct local_config *c, const char *path);
/* path is dir or lies in it. Both normalised. */
bool local_path_is_in(const char *path, const char *dir);
/* [A-Za-z_][A-Za-z0-9_]* */
bool local_env_key_is_valid(const char *key);
/* "/a//b/./c/" -> "/a/b/c"; NULL if it is not absolute or has "..". Owned. */
char *local_path_normalize(const char *path);

/* Towards zero, of a finite number; without libm. */
static inline double number_truncate(double number)
{
	return number > -9e15 && number < 9e15 ? (double)(int64_t)number : number;
}

#define cleanup_config cleanup(local_config_deinit)

/* --- state.c --- */

struct cgroup_site;

/* The directory under which leases lie, made if it is missing and checked to be ours alone. configured: config.stateDir or NULL. Owned. */
int local_state_dir(const char *configured, char **ret, struct err *err);
/* The same, without making or checking it: what a person would be shown. Owned. */
char *local_state_dir_path(const char *configured);
/*
 * Removes (waits) what nobody uses any more: expired leases, those of dead workers that are not kept for reuse, unfinished removals.
 * What is in use, here or in another worker, is left alone.
 */
void local_state_sweep(const char *state_dir, const struct cgroup_site *site);

/* --- record.c --- */

#define LEASE_ID_LEN 32

/* One lease on the disk. dir_fd holds the lock that says that a living worker uses it. */
struct lease_record {
	char id[LEASE_ID_LEN + 1];
	char *state_dir;   /* owned */
	char *dir;         /* owned */
	int dir_fd;        /* -1: not open */
	char *company;     /* owned or NULL */
	char *environment; /* owned or NULL */
	json_t *shape;     /* owned: local_config_shape() of when it was made */
	bool reusable;
	bool archived;      /* stopped for inspection: nobody will resume it */
	bool broken;        /* there is a directory, but what it should know of itself cannot be read */
	int64_t expires_ms; /* Unix; -1: never */
};

#define LEASE_RECORD_INIT ((struct lease_record){.dir_fd = -1, .expires_ms = -1})

/* The part of "local://<id>" that names the directory; NULL if it is none of ours. Borrowed. */
const char *lease_id_parse(const char *provider_lease_id);
/* Unix milliseconds. */
int64_t local_now_ms(void);

/* Reads what is known of a lease, without taking it. ret->broken: nothing. ERR_NOT_FOUND, ERR_SYSTEM. */
int lease_record_peek(const char *state_dir, const char *id, struct lease_record *ret, struct err *err);
/* Makes the directory and what is in it, from company, environment, shape, reusable and expires_ms. Nothing is left on failure. */
int lease_record_create(const char *state_dir, struct lease_record *r, struct err *err);
/*
 * ERR_NOT_FOUND: proven not to be there, or past saving; in the latter case ret has the locked directory, to be removed (broken).
 * ERR_CONFLICT: another worker uses it.
 */
int lease_record_open(const char *state_dir, const char *id, struct lease_record *ret, struct err *err);
int lease_record_save(const struct lease_record *r, struct err *err);
/* Notes that it is in use now. */
void lease_record_touch(const struct lease_record *r);
/* Removes it: at once out of the way, then file by file (waits). Idempotent. */
int lease_record_remove(struct lease_record *r, struct err *err);
void lease_record_deinit(struct lease_record *r);
/* Nobody will come back to it, if no other worker uses it. */
bool lease_record_is_stale(const struct lease_record *r);

/* --- etc.c --- */

/* A part of bubblewrap's arguments, and the descriptors that they speak of (owned, close-on-exec). */
struct etc_view {
	struct strv arguments;
	int *fds;
	size_t fd_count;
};

/*
 * What a sandbox's /etc shows. system_root: where the host's /etc is looked for ("" but in tests). With a rootfs, which has a /etc of
 * its own, only the files that have to differ.
 */
int local_etc_view(const char *system_root, const char *rootfs, const char *hostname, struct etc_view *ret, struct err *err);
void etc_view_deinit(struct etc_view *view);

/* --- sandbox.c --- */

struct sandbox_spec {
	const struct local_config *config;
	const char *bwrap;     /* its path */
	const char *lease_dir; /* on the host: home, tmp, workspace */
	const char *hostname;
	const struct etc_view *etc;
	const char *system_root; /* "" but in tests */
	bool as_root;            /* the worker's user is root */
	int info_fd;             /* bwrap tells the init's pid there; -1: nobody asks */
};

/* bwrap's arguments up to the "--". ERR_INVALID: a path of the config is not there. */
int sandbox_arguments(const struct sandbox_spec *spec, struct strv *ret, struct err *err);
/* Makes what the arguments mount on, where commands may have been before. ERR_CONFLICT: they have left a link there. */
int local_mount_points_make(const struct local_config *config, const char *lease_dir, struct err *err);
/* Commands start in a directory of the lease that exists as long as the sandbox: a mount point. */
bool sandbox_workdir_is_private(const struct local_config *config);
/* "bash" or "sh". */
const char *sandbox_shell(const struct local_config *config, const char *system_root);
/* The program in PATH or where it mostly is; NULL: not there. Owned. */
char *sandbox_find_bwrap(void);
/* Why namespaces may be refused on this machine and how to get them, one sentence; NULL: nothing known. proc_sys: "/proc/sys". Owned. */
char *sandbox_explain_refusal(const char *proc_sys, bool as_root);

/* --- cgroup.c --- */

enum cgroup_kind { CGROUP_NONE, CGROUP_V1, CGROUP_V2 };
enum { CGROUP_MEMORY, CGROUP_PIDS, CGROUP_CPU, CGROUP_CONTROLLERS };

/* Where groups for leases can be made. With v2 the three paths are the same. */
struct cgroup_site {
	enum cgroup_kind kind;
	char *paths[CGROUP_CONTROLLERS]; /* owned; NULL: this controller is not available */
};

/*
 * Looks for a place where this process may make groups. self_cgroup and mountinfo: texts of /proc/self/cgroup and
 * /proc/self/mountinfo. prefix: put before each mount point ("" but in tests).
 */
void cgroup_site_find(const char *self_cgroup, const char *mountinfo, const char *prefix, struct cgroup_site *ret);
void cgroup_site_deinit(struct cgroup_site *site);
const char *cgroup_kind_name(enum cgroup_kind kind);

struct cgroup {
	char *dirs[CGROUP_CONTROLLERS]; /* owned; NULL: not used */
	int join_fds[CGROUP_CONTROLLERS];
};

#define CGROUP_INIT ((struct cgroup){.join_fds = {-1, -1, -1}})

/* Makes the group of the lease with the limits of the config for which the site has a controller. Nothing is left on failure. */
int cgroup_create(const struct cgroup_site *site, const char *id, const struct local_config *config, struct cgroup *ret,
		  struct err *err);
/* The calling process joins. Async-signal-safe. 0 or -1 with errno. */
int cgroup_join(const struct cgroup *cgroup);
/* Kills what is in it, removes it (waits) and frees what it owns. */
void cgroup_remove(struct cgroup *cgroup);
/* Removes (waits) the groups that a dead worker left for the lease. */
void cgroup_remove_left(const struct cgroup_site *site, const char *id);

/* --- limits.c --- */

enum limit_means { LIMIT_NOT_ASKED, LIMIT_CGROUP, LIMIT_RLIMIT, LIMIT_UNENFORCED };

/* How each limit of a config is enforced on this machine. */
struct limits_plan {
	enum limit_means memory, processes, cpus, cpu_seconds;
};

void limits_plan(const struct local_config *config, const struct cgroup_site *site, bool as_root, struct limits_plan *ret);
/* The rlimits of the plan, for the process (the init) and all that it will start. */
int limits_apply(const struct limits_plan *plan, const struct local_config *config, pid_t pid, struct err *err);
/* Sentences for what is asked but cannot be had here. */
void limits_describe_gaps(const struct limits_plan *plan, struct strv *ret);

/* --- start.c --- */

struct local_state;
struct local_lease;

#define SANDBOX_START_MS 20000 /* a sandbox that is not there by then never will be */

/* Starts the lease's sandbox (waits); it has none, and nobody else starts one. Nothing is left on failure. */
int local_sandbox_start(struct local_state *state, struct local_lease *lease, struct err *err);
/* Ends all its processes (waits). Harmless if there are none. */
void local_sandbox_stop(struct local_lease *lease);

/* --- session.c --- */

struct local_state {
	struct list leases; /* of local_lease that are in use or may be at once */
	struct cgroup_site site;
	bool site_found;
	struct strv state_dirs; /* seen by this worker */
	/* keeper.c */
	struct fiber *keeper, *sweeper; /* NULL: not running */
	struct event keeper_wake, fiber_ended;
	int64_t swept_ms; /* on the loop's clock */
	bool stopping;
};

/* Why a lease that somebody still holds is not to be used any more. */
enum lease_gone { LEASE_PRESENT, LEASE_ENDED, LEASE_EXPIRED };

/* A lease that this worker has locked. */
struct local_lease {
	struct list link;
	struct lease_record record;
	struct local_config config; /* read from the record's shape */
	struct init *init;          /* NULL or dead: no sandbox now */
	struct cgroup cgroup;
	enum lease_gone gone;
	unsigned pins;
	bool busy; /* somebody starts or ends it */
	struct list waits;
};

const struct cgroup_site *local_cgroup_site(struct local_state *state);

/* Makes a new lease, pinned and without a sandbox yet. expires_ms -1: never. */
int local_lease_create(struct local_state *state, const struct request_base *base, const struct local_config *config,
		       int64_t expires_ms, struct local_lease **ret, struct err *err);
/*
 * Finds the lease in memory or on the disk and pins it. ERR_NOT_FOUND: proven not to be there for this company, or expired. Text:
 * "Local sandbox lease <id> no longer exists."
 */
int local_lease_pin(struct local_state *state, const struct request_base *base, const char *provider_lease_id,
		    struct local_lease **ret, struct err *err);
void local_lease_unpin(struct local_lease *lease);
/* Sees to it that the sandbox runs (waits). *ret_was_running may be NULL. */
int local_lease_start(struct local_state *state, struct local_lease *lease, bool *ret_was_running, struct err *err);
/* Takes over another shape: the running sandbox, if it has another one, is ended (waits). */
int local_lease_reshape(struct local_lease *lease, const struct local_config *config, struct err *err);
/*
 * Ends all processes, and removes the directory unless keep is set (waits). Afterwards the lease is unknown to this worker; the
 * pin stays the caller's. It goes to its end even if the fiber is cancelled, except for the removal of big trees, which then goes on in
 * the background.
 */
int local_lease_end(struct local_lease *lease, bool keep, enum lease_gone why, struct err *err);
/* ERR_NOT_FOUND: it has been ended, or has expired. Returns -1. */
int local_lease_gone_error(const struct local_lease *lease, struct err *err);
/* "local://<id>", owned. */
char *local_lease_name(const struct local_lease *lease);
/* The sandbox's host name. Owned. */
char *local_lease_hostname(const char *id);
/* Removes a directory that is a lease's by its name only (waits). What is not there, or is fine, is left alone. */
int local_lease_remove_broken(const char *state_dir, const char *provider_lease_id, struct err *err);

/* --- keeper.c --- */

/* Expired leases and forgotten directories are taken care of from now on. Before the first use of a state directory. */
void local_keeper_start(struct local_state *state, const char *state_dir);
/* Something has changed that it should look at: a lease with an end. */
void local_keeper_wake(struct local_state *state);
/* Waits for its end. */
void local_keeper_stop(struct local_state *state);

/* --- lease.c --- */

int local_acquire_lease(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err);
int local_resume_lease(struct op *op, const struct lease_params *p, struct lease_result *ret, struct err *err);
int local_release_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int local_destroy_lease(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err);
int local_realize_workspace(struct op *op, const struct realize_params *p, struct realize_result *ret, struct err *err);

/* --- execute.c --- */

int local_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err);
/* Runs a program of the sandbox, without output; 0 only if it ends with exit code 0 (waits). */
int local_run_quietly(struct local_lease *lease, char *const *argv, struct err *err);

/* --- probe.c --- */

int local_probe(struct op *op, const struct probe_params *p, struct probe_report *ret, struct err *err);

#endif
