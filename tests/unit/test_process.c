#include "process_fixture.h"

#include <sys/resource.h>

/* Runs one program without arguments and returns how that went. */
static struct process_result run_file(struct init *init, const char *file, const char *search_path, const char *cwd)
{
	cleanup_free char *argv0 = xstrdup(file);
	struct job job;

	job_init(&job);
	job.spec.search_path = search_path;
	job.spec.cwd = cwd;
	job_run(&job, init, (char *const[]){argv0, NULL});
	CHECK_INT(job.rc, 0);
	struct process_result result = job.result;

	job_deinit(&job);
	return result;
}

static void check_not_started(struct init *init, const char *file, const char *path, const char *cwd, int number, int step)
{
	struct process_result result = run_file(init, file, path, cwd);

	CHECK_INT(result.outcome, PROCESS_NOT_STARTED);
	CHECK_INT(result.start_errno, number);
	CHECK_INT(result.start_step, step);
}

/* --- how commands end --- */

PROCESS_TEST(exit_code_and_both_streams_come_back)
{
	check_shell(init, "echo out; echo err >&2; exit 3", 3, "out\n", "err\n");
	check_shell(init, ":", 0, "", "");
	check_shell(init, "exit 255", 255, "", "");
}

PROCESS_TEST(death_by_signal_is_told_with_its_number)
{
	static const int signals[] = {SIGKILL, SIGTERM, SIGUSR1, SIGHUP};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		cleanup_free char *script = xasprintf("echo before; kill -%d $$", signals[i]);
		struct job job;

		job_init(&job);
		job_run_shell(&job, init, script);
		CHECK_INT(job.rc, 0);
		CHECK_INT(job.result.outcome, PROCESS_SIGNALLED);
		CHECK_INT(job.result.term_signal, signals[i]);
		CHECK_STR(job_out(&job), "before\n");
		job_deinit(&job);
	}
}

TEST(signals_have_names)
{
	CHECK_STR(process_signal_name(SIGTERM), "SIGTERM");
	CHECK_STR(process_signal_name(SIGKILL), "SIGKILL");
	CHECK_STR(process_signal_name(SIGUSR1), "SIGUSR1");
	CHECK_STR(process_signal_name(SIGSYS), "SIGSYS");
	CHECK_STR(process_signal_name(0), NULL);
	CHECK_STR(process_signal_name(-1), NULL);
	CHECK_STR(process_signal_name(SIGRTMIN), NULL);
	CHECK_STR(process_signal_name(4711), NULL);
}

/* --- commands that cannot start --- */

PROCESS_TEST(command_that_is_not_there_is_not_started)
{
	check_not_started(init, "no-such-command-anywhere", PATH, NULL, ENOENT, PROCESS_STEP_EXEC);
	check_not_started(init, "/no/such/file", PATH, NULL, ENOENT, PROCESS_STEP_EXEC);
	check_not_started(init, "", PATH, NULL, ENOENT, PROCESS_STEP_EXEC);
	check_shell(init, "echo still works", 0, "still works\n", "");
}

PROCESS_TEST(file_without_execute_permission_and_directory_are_not_started)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *plain = put_file(dir, "plain", "#!/bin/sh\n", 0644);
	cleanup_free char *no_program = put_file(dir, "no-program", "just text\n", 0755);

	check_not_started(init, plain, PATH, NULL, EACCES, PROCESS_STEP_EXEC);
	check_not_started(init, "plain", dir, NULL, EACCES, PROCESS_STEP_EXEC);
	check_not_started(init, dir, PATH, NULL, EACCES, PROCESS_STEP_EXEC);
	check_not_started(init, no_program, PATH, NULL, ENOEXEC, PROCESS_STEP_EXEC);
	remove_scratch(dir);
}

PROCESS_TEST(directory_that_is_missing_or_a_file_fails_in_the_chdir_step)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = put_file(dir, "file", "", 0644);

	check_not_started(init, "true", PATH, "/no/such/directory", ENOENT, PROCESS_STEP_CHDIR);
	check_not_started(init, "true", PATH, file, ENOTDIR, PROCESS_STEP_CHDIR);
	check_not_started(init, "true", PATH, "", ENOENT, PROCESS_STEP_CHDIR);
	CHECK_INT(run_file(init, "true", PATH, dir).outcome, PROCESS_EXITED);
	remove_scratch(dir);
}

PROCESS_TEST(search_path_is_used_in_order_and_alone)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *no_entry = xasprintf("%s/none", dir);
	cleanup_free char *denied = put_file(dir, "env", "", 0644);
	cleanup_free char *tool = put_file(dir, "tool", "#!/bin/sh\nexit 7\n", 0755);
	cleanup_free char *path = xasprintf("%s:%s:/usr/bin:/bin", no_entry, dir);

	/* A denied file on the way is remembered, but what comes later counts. */
	CHECK_INT(run_file(init, "env", path, NULL).outcome, PROCESS_EXITED);
	CHECK_INT(run_file(init, "tool", path, NULL).exit_code, 7);
	check_not_started(init, "env", "", NULL, ENOENT, PROCESS_STEP_EXEC);
	check_not_started(init, "env", NULL, NULL, ENOENT, PROCESS_STEP_EXEC);
	/* An empty entry is the current directory. */
	CHECK_INT(run_file(init, "tool", "/bin::/usr/bin", dir).exit_code, 7);
	CHECK_INT(run_file(init, "tool", "/bin:", dir).exit_code, 7);
	check_not_started(init, "tool", "/bin:/usr/bin", dir, ENOENT, PROCESS_STEP_EXEC);
	/* A path with a slash is taken from the command's directory. */
	CHECK_INT(run_file(init, "./tool", "", dir).exit_code, 7);
	remove_scratch(dir);
	(void)denied, (void)tool;
}

static void run_with_long_argument(struct init *init, size_t len, size_t count, struct job *job)
{
	cleanup_strv struct strv argv = {0};
	cleanup_free char *text = xmalloc(len + 1);

	memset(text, 'x', len);
	text[len] = '\0';
	strv_add_all(&argv, "printf", "%s\\n", NULL);
	for (size_t i = 0; i < count; i++)
		strv_add(&argv, text);
	job_init(job);
	job_run(job, init, strv_list(&argv));
}

PROCESS_TEST(arguments_too_long_for_the_kernel_are_e2big)
{
	struct job job;

	run_with_long_argument(init, 200 * 1024, 1, &job); /* one string above 128 KiB */
	CHECK_NOT_STARTED(&job, E2BIG, PROCESS_STEP_EXEC);
	job_deinit(&job);
	run_with_long_argument(init, 100 * 1024, 50, &job); /* in all above a quarter of the stack */
	CHECK_NOT_STARTED(&job, E2BIG, PROCESS_STEP_EXEC);
	job_deinit(&job);
	run_with_long_argument(init, 100 * 1024, 100, &job); /* above what any kernel takes */
	CHECK_NOT_STARTED(&job, E2BIG, PROCESS_STEP_EXEC);
	job_deinit(&job);
}

PROCESS_TEST(a_megabyte_of_arguments_arrives_whole)
{
	struct job job;

	run_with_long_argument(init, 100 * 1024, 10, &job);
	CHECK_EXITED(&job, 0);
	CHECK_INT(job.out.len, 10 * (100 * 1024 + 1));
	CHECK_INT(strspn(job_out(&job), "x"), 100 * 1024);
	job_deinit(&job);
	/* Around the border between packet and memfd. */
	for (size_t len = 32 * 1024 - 64; len < 32 * 1024 + 8; len++) {
		run_with_long_argument(init, len, 1, &job);
		CHECK_EXITED(&job, 0);
		CHECK_INT(job.out.len, len + 1);
		job_deinit(&job);
	}
}

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

/* Valgrind keeps count itself, and its socketpair breaks at the limit. */
static bool fd_limits_work(void)
{
	if (RUNNING_ON_VALGRIND)
		tap_skip("valgrind has no true limit of descriptors");
	return !RUNNING_ON_VALGRIND;
}

/* --- what a command finds --- */

PROCESS_TEST(environment_is_exactly_what_was_given)
{
	struct job job;
	char a[] = "A=1", b[] = "bad-key=2=3", c[] = "EMPTY=", d[] = "PATH=/nowhere", env[] = "env";

	job_init(&job);
	job.spec.envp = (char *const[]){a, b, c, d, NULL};
	job_run(&job, init, (char *const[]){env, NULL});
	CHECK_EXITED(&job, 0);
	CHECK_STR(job_out(&job), "A=1\nbad-key=2=3\nEMPTY=\nPATH=/nowhere\n");
	job_deinit(&job);
	job_init(&job);
	job_run(&job, init, (char *const[]){env, NULL});
	CHECK_EXITED(&job, 0);
	CHECK_STR(job_out(&job), "");
	job_deinit(&job);
}

PROCESS_TEST(command_starts_with_default_signals_and_an_empty_mask)
{
	sigset_t set, old;

	/* What this process ignores and blocks must not be passed on. */
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, &old);
	check_shell(init, "grep -E '^Sig(Blk|Ign)' /proc/self/status", 0,
		    "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n", "");
	sigprocmask(SIG_SETMASK, &old, NULL);
	signal(SIGXFSZ, SIG_DFL);
}

PROCESS_TEST(broken_pipe_ends_a_writer_in_a_pipeline)
{
	check_shell(init, "yes | head -n 1", 0, "y\n", "");
}

PROCESS_TEST(command_has_its_three_descriptors_and_no_other)
{
	int kept = open("/dev/null", O_RDONLY); /* not close-on-exec: what others forget must not reach commands */

	check_shell(init, "ls /proc/$$/fd", 0, "0\n1\n2\n", "");
	close_fd(kept);
}

/* Before the first init: what this process was started with. */
__attribute__((constructor)) static void lower_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max > 900) {
		limit.rlim_cur = 900;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

PROCESS_TEST(command_has_the_descriptor_limit_that_the_worker_was_started_with)
{
	struct rlimit limit;

	CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	if (!fd_limits_work())
		return;
	CHECK_INT(limit.rlim_cur, limit.rlim_max);
	if (limit.rlim_max > 900)
		check_shell(init, "ulimit -Sn", 0, "900\n", "");
}

PROCESS_TEST(command_leads_a_session_of_its_own)
{
	/* pid, group, session and terminal of /proc/<pid>/stat */
	check_shell(init, "set -- $(sed 's/^.*) //' /proc/$$/stat); [ $3 = $$ ] && [ $4 = $$ ] && [ $5 = 0 ] && echo yes", 0,
		    "yes\n", "");
}

PROCESS_TEST(command_runs_in_the_given_directory_or_that_of_the_worker)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *here = getcwd(NULL, 0);
	cleanup_free char *here_line = xasprintf("%s\n", here);
	cleanup_free char *real = realpath(dir, NULL);
	cleanup_free char *dir_line = xasprintf("%s\n", real);
	struct job job;

	check_shell(init, "pwd -P", 0, here_line, "");
	job_init(&job);
	job.spec.cwd = dir;
	job_run_shell(&job, init, "pwd -P");
	CHECK_EXITED(&job, 0);
	CHECK_STR(job_out(&job), dir_line);
	job_deinit(&job);
	remove_scratch(dir);
}

PROCESS_TEST(command_cannot_trace_or_find_the_processes_that_watch_it)
{
	/* Not dumpable: their memory and descriptors are root's. Root may look at all; so ask for what dumpable leaves visible. */
	check_shell(init, "[ $(stat -c %u /proc/$PPID/environ) = 0 ] && echo yes", 0, "yes\n", "");
}

/* --- many --- */

struct one_of_many {
	struct init *init;
	struct job job;
	int number;
};

static void run_one_of_many(void *arg)
{
	struct one_of_many *one = arg;
	cleanup_free char *script = xasprintf("echo %d; exit %d", one->number, one->number % 200);

	job_init(&one->job);
	job_run_shell(&one->job, one->init, script);
}

static void check_many(struct init *init, int count)
{
	cleanup_free struct one_of_many *many = xcalloc((size_t)count, sizeof(*many));
	struct fiber_group group;

	fiber_group_init(&group);
	for (int i = 0; i < count; i++) {
		many[i] = (struct one_of_many){.init = init, .number = i};
		fiber_group_start(&group, run_one_of_many, &many[i]);
	}
	fiber_group_join(&group, NULL);
	for (int i = 0; i < count; i++) {
		CHECK_EXITED(&many[i].job, i % 200);
		CHECK_INT(strtol(job_out(&many[i].job), NULL, 10), i);
		job_deinit(&many[i].job);
	}
}

PROCESS_TEST(five_hundred_commands_at_once_each_get_their_own_result)
{
	check_many(init, 500);
}

static struct rlimit limit_fds(rlim_t n)
{
	struct rlimit old, limited;

	CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
	limited = (struct rlimit){.rlim_cur = n, .rlim_max = old.rlim_max};
	CHECK(setrlimit(RLIMIT_NOFILE, &limited) == 0);
	return old;
}

PROCESS_TEST(commands_wait_in_line_when_descriptors_are_few)
{
	if (!fd_limits_work())
		return;
	struct rlimit old = limit_fds(64);

	check_many(init, 60);
	setrlimit(RLIMIT_NOFILE, &old);
}

PROCESS_TEST(commands_wait_in_line_when_others_hold_the_descriptors)
{
	if (!fd_limits_work())
		return;
	struct rlimit old = limit_fds(128);
	int fds[128], count = 0;
	bool more = true;

	/* Room for one command at a time, though the limit promises more. */
	while (more && count < 128) {
		fds[count] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		more = fds[count] >= 0;
		count += more;
	}
	for (int i = 0; i < 12 && count > 0; i++)
		close_fd(fds[--count]);
	check_many(init, 20);
	while (count > 0)
		close_fd(fds[--count]);
	setrlimit(RLIMIT_NOFILE, &old);
}

static void run_sleeper(void *arg)
{
	struct cancelled *c = arg;

	run_to_be_cancelled(c);
}

PROCESS_TEST(deadline_passes_while_a_command_waits_in_line)
{
	if (!fd_limits_work())
		return;
	struct rlimit old = limit_fds(31); /* one command at a time */
	struct cancelled sleeper = {.init = init, .script = "sleep 1000"};
	struct fiber_group group;
	struct fiber_scope scope;
	struct job job;

	fiber_group_init(&group);
	fiber_group_start(&group, run_sleeper, &sleeper);
	fiber_sleep(50, NULL);
	job_init(&job);
	deadline_enter(&scope, 50);
	job_run_shell(&job, init, "echo never");
	scope_leave(&scope);
	CHECK_INT(job.rc, 0);
	CHECK(job.result.timed_out);
	CHECK_INT(job.result.outcome, PROCESS_NOT_STARTED);
	CHECK_STR(job_out(&job), "");
	job_deinit(&job);
	fiber_group_cancel(&group);
	fiber_group_join(&group, NULL);
	job_deinit(&sleeper.job);
	setrlimit(RLIMIT_NOFILE, &old);
}

TEST_MAIN()
