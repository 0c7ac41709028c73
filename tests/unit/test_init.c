/*
 * An init's own life: launchers, sandboxes, and what is left when somebody dies. Started with "--worker <directory>" this program
 * is a worker that a test kills.
 */
#include "process_fixture.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/wait.h>

#define NOBODY 65534

typedef void plain_body_fn(void);

static void run_plain_body(void *arg)
{
	(*(plain_body_fn **)arg)();
}

/* As with_init, for tests that start their inits themselves. */
static void in_fiber(plain_body_fn *body)
{
	run_in_loop(do_nothing, NULL);
	int fds = open_fd_count();

	run_in_loop(run_plain_body, &body);
	CHECK_INT(open_fd_count(), fds);
}

#define FIBER_TEST(name)                                                                                                         \
	static void name##_body(void);                                                                                           \
	TEST(name)                                                                                                               \
	{                                                                                                                        \
		in_fiber(name##_body);                                                                                           \
	}                                                                                                                        \
	static void name##_body(void)

static char *own_path(void)
{
	return realpath("/proc/self/exe", NULL);
}

/* --- launchers --- */

/* Starts with a shell script as the launcher, which gets the init's path and arguments as $@. */
static int start_by_script(const char *script, struct init **ret, struct err *err)
{
	cleanup_free char *copy = xstrdup(script);
	char sh[] = "sh", c[] = "-c", name[] = "launcher", path[] = "PATH=" PATH;
	struct init_options options = {
		.launcher = (char *const[]){sh, c, copy, name, NULL},
		.envp = (char *const[]){path, NULL},
	};

	*ret = NULL;
	return init_start(&options, ret, err);
}

FIBER_TEST(launcher_runs_the_init_by_its_path)
{
	cleanup_err struct err err = ERR_INIT;
	struct init *init;

	CHECK_INT(start_by_script("exec \"$@\"", &init, &err), 0);
	CHECK_STR(err_text(&err), "no error");
	if (init) {
		CHECK(init_is_alive(init));
		check_shell(init, "echo hello; exit 3", 3, "hello\n", "");
	}
	init_stop(init);
}

FIBER_TEST(launcher_may_stay_and_wait_for_the_init)
{
	cleanup_err struct err err = ERR_INIT;
	struct init *init;

	CHECK_INT(start_by_script("echo chatter >&2; \"$@\"; exit 1", &init, &err), 0);
	if (init)
		check_shell(init, "echo hello", 0, "hello\n", "");
	init_stop(init);
}

FIBER_TEST(missing_launcher_is_an_error_with_its_errno)
{
	cleanup_err struct err err = ERR_INIT;
	char name[] = "no-such-launcher-anywhere";
	struct init_options options = {.launcher = (char *const[]){name, NULL}};
	struct init *init = NULL;

	CHECK_INT(init_start(&options, &init, &err), -1);
	CHECK_INT(err.kind, ERR_SYSTEM);
	CHECK_INT(err.sys_errno, ENOENT);
	CHECK_STR(err_text(&err), "start no-such-launcher-anywhere: No such file or directory");
	CHECK(init == NULL);
}

FIBER_TEST(launcher_that_fails_is_quoted)
{
	cleanup_err struct err err = ERR_INIT;
	struct init *init;

	CHECK_INT(start_by_script("echo 'launcher: no user namespaces here' >&2; exit 3", &init, &err), -1);
	CHECK_INT(err.kind, ERR_SYSTEM);
	CHECK_STR(err_text(&err), "launcher: no user namespaces here");
}

FIBER_TEST(launcher_that_fails_without_a_word_has_its_end_told)
{
	struct err err = ERR_INIT;
	struct init *init;

	CHECK_INT(start_by_script("exit 3", &init, &err), -1);
	CHECK_STR(err_text(&err), "sh ended with exit code 3 before it was ready");
	err_clear(&err);
	CHECK_INT(start_by_script("kill -9 $$", &init, &err), -1);
	CHECK_STR(err_text(&err), "sh was killed by signal 9");
	err_clear(&err);
}

FIBER_TEST(launcher_that_prints_without_end_does_not_hang)
{
	cleanup_err struct err err = ERR_INIT;
	struct init *init;

	CHECK_INT(start_by_script("head -c 1000000 /dev/zero | tr '\\0' x >&2 2>/dev/null; exit 1", &init, &err), -1);
	CHECK_INT(strspn(err_text(&err), "x"), 8192);
}

FIBER_TEST(launcher_that_hangs_is_killed_at_the_deadline)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/pid", dir);
	cleanup_free char *script = xasprintf("echo $$ >'%s.new' && mv '%s.new' '%s' && exec sleep 1000", file, file, file);

	/* Longer on a busy machine, where it takes a while until the launcher has come so far. */
	for (int64_t ms = 150; access(file, F_OK) < 0 && ms < LONG_MS; ms *= 4) {
		cleanup_err struct err err = ERR_INIT;
		struct fiber_scope scope;
		struct init *init;

		deadline_enter(&scope, ms);
		CHECK_INT(start_by_script(script, &init, &err), -1);
		scope_leave(&scope);
		CHECK_INT(err.kind, ERR_TIMEOUT);
	}
	CHECK(wait_until_gone(wait_for_pid(file)));
	remove_scratch(dir);
}

static int set_umask(void *arg)
{
	umask(*(const mode_t *)arg);
	return 0;
}

FIBER_TEST(child_setup_shapes_the_init_and_its_commands)
{
	cleanup_err struct err err = ERR_INIT;
	mode_t mask = 0135;
	struct init_options options = {.child_setup = set_umask, .child_setup_arg = &mask};
	struct init *init = NULL;

	CHECK_INT(init_start(&options, &init, &err), 0);
	CHECK_STR(err_text(&err), "no error");
	if (init)
		check_shell(init, "umask", 0, "0135\n", "");
	init_stop(init);
}

static int refuse(void *arg)
{
	(void)arg;
	errno = EDQUOT;
	return -1;
}

FIBER_TEST(child_setup_that_fails_fails_the_start)
{
	cleanup_err struct err err = ERR_INIT;
	struct init_options options = {.child_setup = refuse};
	struct init *init = NULL;

	CHECK_INT(init_start(&options, &init, &err), -1);
	CHECK_INT(err.sys_errno, EDQUOT);
}

FIBER_TEST(launcher_has_the_environment_that_was_given_and_no_terminal)
{
	cleanup_err struct err err = ERR_INIT;
	struct init *init;

	CHECK_INT(start_by_script("[ -z \"$HOME\" ] && [ \"$(ps -o sid= $$ | tr -d ' ')\" = $$ ] && exec \"$@\"", &init, &err),
		  0);
	CHECK_STR(err_text(&err), "no error");
	init_stop(init);
}

/* --- the end --- */

static pid_t start_daemon(struct init *init, const char *dir)
{
	cleanup_free char *file = xasprintf("%s/pid", dir);
	struct job job;

	job_init(&job);
	job.spec.cwd = dir;
	job_run_shell(&job, init, START_DAEMON);
	CHECK_EXITED(&job, 0);
	job_deinit(&job);
	pid_t pid = wait_for_pid(file);

	CHECK(pid > 0 && !process_is_gone(pid));
	return pid;
}

FIBER_TEST(stopped_init_leaves_nothing)
{
	cleanup_free char *dir = make_scratch();
	struct init *init = start_init();

	if (init) {
		pid_t pid = start_daemon(init, dir);

		init_stop(init);
		CHECK(process_is_gone(pid));
	}
	init_stop(NULL);
	remove_scratch(dir);
}

struct running {
	struct init *init;
	struct job job;
};

static void run_sleep(void *arg)
{
	struct running *running = arg;

	job_init(&running->job);
	job_run_shell(&running->job, running->init, "sleep 1000");
}

FIBER_TEST(stop_under_a_running_command_fails_it)
{
	struct running running = {.init = start_init()};
	struct fiber_group group;

	if (!running.init)
		return;
	fiber_group_init(&group);
	fiber_group_start(&group, run_sleep, &running);
	fiber_sleep(50, NULL);
	init_stop(running.init);
	fiber_group_join(&group, NULL);
	CHECK_INT(running.job.rc, -1);
	CHECK_INT(running.job.err.kind, ERR_TRANSPORT);
	job_deinit(&running.job);
}

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle);
}

static void kill_in_callback(uv_timer_t *timer)
{
	init_kill(timer->data);
	uv_close((uv_handle_t *)timer, on_timer_closed);
}

FIBER_TEST(kill_from_a_callback_ends_all_without_a_fiber)
{
	cleanup_free char *dir = make_scratch();
	struct init *init = start_init();

	if (!init)
		return;
	pid_t pid = start_daemon(init, dir);
	uv_timer_t *timer = xcalloc(1, sizeof(*timer));

	uv_timer_init(scheduler_loop(), timer);
	timer->data = init;
	uv_timer_start(timer, kill_in_callback, 0, 0);
	CHECK(wait_until_gone(pid));
	remove_scratch(dir);
	/* The loop ends by itself, with nothing left: run_in_loop checks it. */
}

FIBER_TEST(dead_init_is_noticed_between_commands)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/pid", dir);
	struct init *init = start_init();
	struct job job;

	if (!init)
		return;
	job_init(&job);
	job.spec.cwd = dir;
	job_run_shell(&job, init, "sed 's/^.*) . //; s/ .*//' /proc/$PPID/stat >pid");
	CHECK_EXITED(&job, 0);
	job_deinit(&job);
	pid_t pid = wait_for_pid(file);

	CHECK(pid > 1 && kill(pid, SIGKILL) == 0);
	for (int i = 0; i < LONG_MS / 10 && init_is_alive(init); i++)
		fiber_sleep(10, NULL);
	CHECK(!init_is_alive(init));
	init_stop(init);
	remove_scratch(dir);
}

/* In the worker that is killed: a daemon, a running command, then waiting for the end. */
static void worker_body(void *arg)
{
	const char *dir = arg;
	struct init *init = start_init();

	start_daemon(init, dir);
	struct job job;

	job_init(&job);
	job.spec.cwd = dir;
	job_run_shell(&job, init, "echo $$ >running; echo $PPID >supervisor; exec sleep 1000");
	job_deinit(&job);
}

static pid_t read_pid(const char *dir, const char *name)
{
	cleanup_free char *path = xasprintf("%s/%s", dir, name);

	return wait_for_pid(path);
}

static void check_killed_worker_leaves_nothing(int signo)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *self = own_path();
	pid_t worker = fork();

	if (worker == 0) {
		char mode[] = "--worker";

		execv(self, (char *const[]){self, mode, dir, NULL});
		_exit(127);
	}
	pid_t pids[] = {read_pid(dir, "pid"), read_pid(dir, "running"), read_pid(dir, "supervisor")};

	CHECK(kill(worker, signo) == 0);
	CHECK(waitpid(worker, NULL, 0) == worker);
	for (size_t i = 0; i < sizeof(pids) / sizeof(pids[0]); i++)
		CHECK(pids[i] > 1 && wait_until_gone(pids[i]));
	remove_scratch(dir);
}

FIBER_TEST(killed_worker_leaves_nothing)
{
	check_killed_worker_leaves_nothing(SIGKILL);
}

FIBER_TEST(crashed_worker_leaves_nothing)
{
	check_killed_worker_leaves_nothing(SIGABRT);
}

/* --- in a sandbox --- */

static int become_nobody(void *arg)
{
	(void)arg;
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return -1;
	return 0;
}

static struct init *start_sandbox(char *const *options_of_bwrap, int (*setup)(void *arg), struct err *err)
{
	cleanup_strv struct strv argv = {0};
	struct init *init = NULL;

	strv_add_all(&argv, "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", NULL);
	for (; *options_of_bwrap; options_of_bwrap++)
		strv_add(&argv, *options_of_bwrap);
	strv_add_all(&argv, "--proc", "/proc", "--as-pid-1", "--die-with-parent", "--", NULL);
	struct init_options options = {.launcher = strv_list(&argv), .child_setup = setup};

	init_start(&options, &init, err);
	return init;
}

/* Whether bubblewrap works at all here, asked without an init; else skips the test with bubblewrap's words. */
static bool sandboxes_work(int (*setup)(void *arg))
{
	cleanup_err struct err err = ERR_INIT;
	char bwrap[] = "bwrap", user[] = "--unshare-user", pid[] = "--unshare-pid", bind[] = "--ro-bind", root[] = "/",
	     proc[] = "--proc", proc_path[] = "/proc", end[] = "--", say[] = "echo";
	struct init *init = NULL;
	/* echo is no init: it ends at once. What is left on stderr are bubblewrap's own words, if it failed. */
	struct init_options options = {
		.launcher = (char *const[]){bwrap, user, pid, bind, root, root, proc, proc_path, end, say, NULL},
		.child_setup = setup,
	};
	static char reason[300];

	init_start(&options, &init, &err);
	if (strcmp(err_text(&err), "bwrap ended with exit code 0 before it was ready") == 0)
		return true;
	snprintf(reason, sizeof(reason), "no sandboxes here: %s", err_text(&err));
	tap_skip(reason);
	return false;
}

static void check_sandbox(int (*setup)(void *arg))
{
	cleanup_err struct err err = ERR_INIT;
	char bind[] = "--ro-bind", root[] = "/", tmpfs[] = "--tmpfs", tmp[] = "/tmp", dev[] = "--dev", dev_path[] = "/dev";

	if (!sandboxes_work(setup))
		return;
	struct init *init = start_sandbox((char *const[]){bind, root, root, dev, dev_path, tmpfs, tmp, NULL}, setup, &err);

	CHECK_STR(err_text(&err), "no error");
	if (!init)
		return;
	check_shell(init, "cat /proc/1/comm; echo out; exit 3", 3, "sandbox-init\nout\n", "");
	/* What is in the background lives for the next command, which also finds its files. */
	check_shell(init, "cd /tmp; sleep 1000 </dev/null >/dev/null 2>&1 & echo $! >/tmp/pid", 0, "", "");
	check_shell(init, "kill -0 $(cat /tmp/pid) && echo alive", 0, "alive\n", "");
	/* A command can kill all that it sees but the init. */
	struct job job;

	job_init(&job);
	job_run_shell(&job, init, "kill -9 -1; sleep 1000");
	CHECK(job.rc == -1 || job.result.outcome == PROCESS_SIGNALLED);
	job_deinit(&job);
	check_shell(init, "while kill -0 $(cat /tmp/pid) 2>/dev/null; do sleep 0.01; done; echo gone", 0, "gone\n", "");
	check_shell(init, "kill -9 1; kill -TERM 1; echo survived", 0, "survived\n", "");
	CHECK(init_is_alive(init));
	/* A timeout ends the tree in here as well. */
	job_run_until_timeout(&job, init, NULL, 50, "setsid sleep 1001 & trap '' TERM; echo up; while :; do sleep 0.01; done");
	CHECK_INT(job.result.term_signal, SIGKILL);
	job_deinit(&job);
	check_shell(init, "grep -l '^sleep.1001' /proc/[0-9]*/cmdline 2>/dev/null | wc -l", 0, "0\n", "");
	init_stop(init);
}

FIBER_TEST(init_is_pid_1_of_a_sandbox)
{
	check_sandbox(NULL);
}

FIBER_TEST(ordinary_user_has_sandboxes_too)
{
	if (geteuid() != 0)
		tap_skip("this run is an ordinary user's: the test above was it");
	else
		check_sandbox(become_nobody);
}

FIBER_TEST(init_needs_no_file_in_the_sandbox)
{
	cleanup_err struct err err = ERR_INIT;
	char *const nothing[] = {NULL};

	if (!sandboxes_work(NULL))
		return;
	struct init *init = start_sandbox(nothing, NULL, &err);
	struct job job;
	char name[] = "anything";

	CHECK_STR(err_text(&err), "no error");
	if (!init)
		return;
	job_init(&job);
	job_run(&job, init, (char *const[]){name, NULL});
	CHECK_NOT_STARTED(&job, ENOENT, PROCESS_STEP_EXEC);
	job_deinit(&job);
	init_stop(init);
}

FIBER_TEST(sandbox_without_proc_of_its_own_is_refused)
{
	cleanup_err struct err err = ERR_INIT;
	char bwrap[] = "bwrap", user[] = "--unshare-user", pid[] = "--unshare-pid", bind[] = "--dev-bind", root[] = "/",
	     as[] = "--as-pid-1", end[] = "--";
	struct init_options options = {.launcher = (char *const[]){bwrap, user, pid, bind, root, root, as, end, NULL}};
	struct init *init = NULL;

	if (!sandboxes_work(NULL))
		return;
	CHECK_INT(init_start(&options, &init, &err), -1);
	CHECK_INT(err.kind, ERR_SYSTEM);
	CHECK(str_nonempty(err_text(&err)));
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--worker") == 0) {
		run_in_loop(worker_body, argv[2]);
		return 0;
	}
	return tap_main(argc, argv);
}
