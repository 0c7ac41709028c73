#include "process_fixture.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/resource.h>
#include <sys/socket.h>

/* Each test's body runs in a fiber with an init of its own; afterwards nothing may be left. */
typedef void body_fn(struct init *init);

static void run_body(void *arg)
{
	body_fn *body = *(body_fn **)arg;
	struct init *init = start_init();

	if (init)
		body(init);
	init_stop(init);
}

static void do_nothing(void *arg)
{
	(void)arg;
}

static void with_init(body_fn *body)
{
	run_in_loop(do_nothing, NULL); /* the first loop of a process makes what all loops share */
	int fds = open_fd_count();

	run_in_loop(run_body, &body);
	CHECK_INT(open_fd_count(), fds);
}

#define PROCESS_TEST(name)                                                                                                       \
	static void name##_body(struct init *init);                                                                              \
	TEST(name)                                                                                                               \
	{                                                                                                                        \
		with_init(name##_body);                                                                                          \
	}                                                                                                                        \
	static void name##_body(struct init *init)

/* Runs the script and compares all that it gives. */
static void check_shell(struct init *init, const char *script, int code, const char *out, const char *err_out)
{
	struct job job;

	job_init(&job);
	job_run_shell(&job, init, script);
	CHECK_EXITED(&job, code);
	CHECK_STR(job_out(&job), out);
	CHECK_STR(job_err_out(&job), err_out);
	job_deinit(&job);
}

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

static char *put_file(const char *dir, const char *name, const char *text, mode_t mode)
{
	char *path = xasprintf("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close_fd(fd);
	return path;
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

/* --- bytes --- */

static char *make_bytes(size_t n)
{
	char *bytes = xmalloc(n);
	uint32_t state = 12345;

	for (size_t i = 0; i < n; i++) {
		state = state * 1664525 + 1013904223;
		bytes[i] = (char)(state >> 24);
	}
	return bytes;
}

static void check_cat(struct init *init, size_t n)
{
	cleanup_free char *bytes = make_bytes(n);
	struct input input = INPUT_FROM_TEXT(bytes, n);
	struct job job;
	char cat[] = "cat";

	job_init(&job);
	job.spec.input = &input;
	job_run(&job, init, (char *const[]){cat, NULL});
	CHECK_EXITED(&job, 0);
	CHECK_INT(input.taken, n);
	CHECK(job.out.len == n && (n == 0 || memcmp(job.out.data, bytes, n) == 0));
	job_deinit(&job);
}

PROCESS_TEST(every_byte_passes_unchanged_both_ways)
{
	char all[256];

	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	struct input input = INPUT_FROM_TEXT(all, sizeof(all));
	struct job job;
	char cat[] = "cat";

	job_init(&job);
	job.spec.input = &input;
	job_run(&job, init, (char *const[]){cat, NULL});
	CHECK_EXITED(&job, 0);
	CHECK_MEM(job.out.data, job.out.len, all, sizeof(all));
	job_deinit(&job);
}

PROCESS_TEST(input_of_any_size_passes)
{
	static const size_t sizes[] = {0, 1, 4095, 4096, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		check_cat(init, sizes[i]);
}

PROCESS_TEST(fifty_megabytes_pass_both_ways_at_once)
{
	check_cat(init, 50u << 20);
}

PROCESS_TEST(both_streams_at_once_do_not_block_each_other)
{
	struct job job;

	job_init(&job);
	job_run_shell(&job, init, "head -c 8000000 /dev/zero & head -c 8000000 /dev/zero >&2; wait");
	CHECK_EXITED(&job, 0);
	CHECK_INT(job.out.len, 8000000);
	CHECK_INT(job.err_out.len, 8000000);
	job_deinit(&job);
}

PROCESS_TEST(without_input_stdin_is_dev_null)
{
	check_shell(init, "readlink /proc/$$/fd/0; cat", 0, "/dev/null\n", "");
}

PROCESS_TEST(without_output_the_bytes_are_dropped)
{
	struct job job;

	job_init(&job);
	job.spec.output = NULL;
	job_run_shell(&job, init, "head -c 3000000 /dev/zero; exit 4");
	CHECK_EXITED(&job, 4);
	job_deinit(&job);
}

PROCESS_TEST(command_that_does_not_read_its_input_is_no_error)
{
	cleanup_free char *bytes = make_bytes(10 << 20);
	static const char *const scripts[] = {"exit 5", "exec <&-; sleep 0.1; exit 5", "head -c 1 >/dev/null; exit 5"};

	for (size_t i = 0; i < 3; i++) {
		struct input input = INPUT_FROM_TEXT(bytes, 10 << 20);
		struct job job;

		job_init(&job);
		job.spec.input = &input;
		job_run_shell(&job, init, scripts[i]);
		CHECK_EXITED(&job, 5);
		CHECK(input.taken < input.len);
		job_deinit(&job);
	}
}

PROCESS_TEST(command_may_close_its_output_and_run_on)
{
	check_shell(init, "echo out; exec >&- 2>&-; sleep 0.1; exit 6", 6, "out\n", "");
}

/* --- input from a descriptor --- */

static void check_cat_from(struct init *init, int fd, const char *want)
{
	struct input input = INPUT_FROM_FD(fd);
	struct job job;
	char cat[] = "cat";

	job_init(&job);
	job.spec.input = &input;
	job_run(&job, init, (char *const[]){cat, NULL});
	CHECK_EXITED(&job, 0);
	CHECK_STR(job_out(&job), want);
	job_deinit(&job);
}

PROCESS_TEST(input_comes_from_a_file)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *path = put_file(dir, "file", "from a file\n", 0644);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	cleanup_close int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	cleanup_close int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	check_cat_from(init, fd, "from a file\n");
	check_cat_from(init, fd, ""); /* read up */
	check_cat_from(init, null_fd, "");
	check_cat_from(init, dir_fd, "");
	check_cat_from(init, 9999, "");
	remove_scratch(dir);
}

PROCESS_TEST(big_file_as_input_is_streamed)
{
	cleanup_close int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	struct input input = INPUT_FROM_FD(zero);
	struct job job;
	char head[] = "head", c[] = "-c", n[] = "20000000";

	job_init(&job);
	job.spec.input = &input;
	job_run(&job, init, (char *const[]){head, c, n, NULL});
	CHECK_EXITED(&job, 0);
	CHECK_INT(job.out.len, 20000000);
	job_deinit(&job);
}

struct late_writer {
	int fd;
};

static void write_late(void *arg)
{
	struct late_writer *writer = arg;

	for (int i = 0; i < 3; i++) {
		fiber_sleep(20, NULL);
		CHECK(write(writer->fd, "line\n", 5) == 5);
	}
	close(writer->fd);
}

PROCESS_TEST(input_from_a_pipe_is_passed_on_as_it_comes)
{
	struct fiber_group group;
	int fds[2];

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	struct late_writer writer = {.fd = fds[1]};

	fiber_group_init(&group);
	fiber_group_start(&group, write_late, &writer);
	check_cat_from(init, fds[0], "line\nline\nline\n");
	fiber_group_join(&group, NULL);
	CHECK((fcntl(fds[0], F_GETFL) & O_NONBLOCK) == 0);
	close(fds[0]);
}

PROCESS_TEST(input_from_a_socket_works)
{
	struct fiber_group group;
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	struct late_writer writer = {.fd = fds[1]};

	fiber_group_init(&group);
	fiber_group_start(&group, write_late, &writer);
	check_cat_from(init, fds[0], "line\nline\nline\n");
	fiber_group_join(&group, NULL);
	close(fds[0]);
}

PROCESS_TEST(input_from_a_terminal_leaves_the_terminal_as_it_is)
{
	int master, terminal;

	CHECK(openpty(&master, &terminal, NULL, NULL, NULL) == 0);
	fcntl(master, F_SETFD, FD_CLOEXEC);
	fcntl(terminal, F_SETFD, FD_CLOEXEC);
	CHECK(write(master, "typed\n\4", 7) == 7); /* a line and ^D */
	check_cat_from(init, terminal, "typed\n");
	CHECK((fcntl(terminal, F_GETFL) & O_NONBLOCK) == 0);
	close(master);
	close(terminal);
}

PROCESS_TEST(pipe_that_never_ends_does_not_hold_up_a_command_that_ends)
{
	int fds[2];

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	struct input input = INPUT_FROM_FD(fds[0]);
	struct job job;

	job_init(&job);
	job.spec.input = &input;
	job_run_shell(&job, init, "exit 2");
	CHECK_EXITED(&job, 2);
	job_deinit(&job);
	close(fds[0]);
	close(fds[1]);
}

/* --- background processes --- */

PROCESS_TEST(answer_waits_for_a_background_child_that_holds_the_pipes)
{
	check_shell(init, "(sleep 0.2; echo late) & echo first", 0, "first\nlate\n", "");
}

PROCESS_TEST(with_linger_the_answer_comes_and_the_background_child_lives_on)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *go = xasprintf("%s/go", dir), *done = xasprintf("%s/done", dir);
	struct job job;

	CHECK(mkfifo(go, 0600) == 0);
	job_init(&job);
	job.spec.cwd = dir;
	job.spec.linger_ms = 0;
	/* The child prints more than a pipe holds after the answer was given: were it not read, it would never be done. */
	job_run_shell(&job, init, "(read line <go; head -c 3000000 /dev/zero; echo yes >done) & echo first");
	CHECK_EXITED(&job, 0);
	CHECK_STR(job_out(&job), "first\n");
	cleanup_close int fd = open(go, O_RDWR | O_CLOEXEC);

	CHECK(write(fd, "\n", 1) == 1);
	cleanup_free char *line = wait_for_line(done);

	CHECK_STR(line, "yes\n");
	CHECK_STR(job_out(&job), "first\n");
	job_deinit(&job);
	remove_scratch(dir);
}

PROCESS_TEST(linger_keeps_what_comes_within_its_time)
{
	struct job job;

	job_init(&job);
	job.spec.linger_ms = LONG_MS;
	job_run_shell(&job, init, "(sleep 0.1; echo late) & echo first");
	CHECK_EXITED(&job, 0);
	CHECK_STR(job_out(&job), "first\nlate\n");
	job_deinit(&job);
}

PROCESS_TEST(background_process_lives_until_the_init_is_stopped)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/pid", dir);
	struct init *other = start_init();
	struct job job;

	job_init(&job);
	job.spec.cwd = dir;
	job_run_shell(&job, other, "setsid sh -c 'echo $$ >pid; exec sleep 1000' </dev/null >/dev/null 2>&1 & exit 0");
	CHECK_EXITED(&job, 0);
	job_deinit(&job);
	pid_t pid = wait_for_pid(file);

	check_shell(other, "exit 0", 0, "", "");
	CHECK(pid > 0 && !process_is_gone(pid));
	init_stop(other);
	CHECK(process_is_gone(pid));
	check_shell(init, "echo not touched", 0, "not touched\n", "");
	remove_scratch(dir);
}

/* --- time limits --- */

static void run_until_timeout(struct job *job, struct init *init, const char *script)
{
	job_init(job);
	job->spec.timeout_ms = 150;
	job->spec.grace_ms = 100;
	job_run_shell(job, init, script);
	CHECK_INT(job->rc, 0);
	CHECK(job->result.timed_out);
}

PROCESS_TEST(timeout_ends_the_command_and_keeps_what_it_printed)
{
	struct job job;

	run_until_timeout(&job, init, "echo out; echo err >&2; sleep 1000");
	CHECK_INT(job.result.outcome, PROCESS_SIGNALLED);
	CHECK_INT(job.result.term_signal, SIGTERM);
	CHECK_STR(job_out(&job), "out\n");
	CHECK_STR(job_err_out(&job), "err\n");
	job_deinit(&job);
}

PROCESS_TEST(command_that_ignores_the_request_is_killed)
{
	struct job job;

	run_until_timeout(&job, init, "trap '' TERM; echo ready; while :; do sleep 0.01; done");
	CHECK_INT(job.result.outcome, PROCESS_SIGNALLED);
	CHECK_INT(job.result.term_signal, SIGKILL);
	CHECK_STR(job_out(&job), "ready\n");
	job_deinit(&job);
}

PROCESS_TEST(command_that_catches_the_request_has_its_last_words)
{
	struct job job;

	job_init(&job);
	job.spec.timeout_ms = 150;
	job.spec.grace_ms = LONG_MS;
	job_run_shell(&job, init, "trap 'echo bye; exit 9' TERM; echo ready; sleep 1000 & wait");
	CHECK_INT(job.rc, 0);
	CHECK(job.result.timed_out);
	CHECK_INT(job.result.outcome, PROCESS_EXITED);
	CHECK_INT(job.result.exit_code, 9);
	CHECK_STR(job_out(&job), "ready\nbye\n");
	job_deinit(&job);
}

PROCESS_TEST(stopped_command_is_ended_too)
{
	struct job job;

	job_init(&job);
	job.spec.timeout_ms = 150;
	job.spec.grace_ms = LONG_MS;
	job_run_shell(&job, init, "kill -STOP $$");
	CHECK(job.result.timed_out);
	CHECK_INT(job.result.outcome, PROCESS_SIGNALLED);
	CHECK_INT(job.result.term_signal, SIGTERM);
	job_deinit(&job);
}

PROCESS_TEST(timeout_ends_grandchildren_that_hold_the_pipes)
{
	struct job job;

	run_until_timeout(&job, init, "echo out; sleep 1000 & exit 3");
	/* The command itself was long gone. */
	CHECK_INT(job.result.outcome, PROCESS_EXITED);
	CHECK_INT(job.result.exit_code, 3);
	CHECK_STR(job_out(&job), "out\n");
	job_deinit(&job);
}

PROCESS_TEST(timeout_ends_daemons_that_left_the_session)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/pid", dir);
	struct job job;

	job_init(&job);
	job.spec.cwd = dir;
	job.spec.timeout_ms = 300;
	job.spec.grace_ms = 50;
	job_run_shell(&job, init, START_DAEMON "; while ! [ -s pid ]; do sleep 0.01; done; sleep 1000");
	CHECK(job.result.timed_out);
	CHECK_INT(job.result.term_signal, SIGTERM);
	pid_t pid = wait_for_pid(file);

	CHECK(pid > 0 && process_is_gone(pid));
	job_deinit(&job);
	remove_scratch(dir);
}

PROCESS_TEST(timeout_ends_a_wide_and_deep_tree_that_ignores_it)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/pids", dir);
	struct job job;
	int count = 0;

	job_init(&job);
	job.spec.cwd = dir;
	job.spec.timeout_ms = 500;
	job.spec.grace_ms = 50;
	job_run_shell(&job, init,
		      "trap '' TERM\n"
		      "deep() { if [ $1 -gt 0 ]; then (deep $(($1 - 1))) & fi; exec sh -c 'echo $$ >>pids; exec sleep 1000'; }\n"
		      "for i in 1 2 3 4 5 6 7 8 9 10; do (deep 4) & done; wait");
	CHECK(job.result.timed_out);
	CHECK_INT(job.result.term_signal, SIGKILL);
	job_deinit(&job);
	FILE *pids = fopen(file, "re");

	for (char line[32]; pids && fgets(line, sizeof(line), pids); count++)
		CHECK(process_is_gone((pid_t)strtol(line, NULL, 10)));
	if (pids)
		fclose(pids);
	CHECK(count > 0);
	remove_scratch(dir);
}

PROCESS_TEST(process_that_keeps_forking_is_caught)
{
	struct job job;

	/* Each generation lives for a moment only. */
	run_until_timeout(&job, init, "trap '' TERM; chain() { (sleep 0.001; chain) & }; chain; wait; sleep 1000");
	CHECK_INT(job.result.term_signal, SIGKILL);
	job_deinit(&job);
}

PROCESS_TEST(deadline_of_the_fiber_counts_as_a_timeout)
{
	struct fiber_scope scope;
	struct job job;

	job_init(&job);
	deadline_enter(&scope, 100);
	job_run_shell(&job, init, "echo out; exec sleep 1000");
	scope_leave(&scope);
	CHECK_INT(job.rc, 0);
	CHECK(job.result.timed_out);
	CHECK_INT(job.result.term_signal, SIGTERM);
	CHECK_STR(job_out(&job), "out\n");
	job_deinit(&job);
}

PROCESS_TEST(zero_and_negative_limits_are_none)
{
	struct job job;

	for (int64_t ms = -1; ms <= 0; ms++) {
		job_init(&job);
		job.spec.timeout_ms = ms;
		job_run_shell(&job, init, "sleep 0.05; exit 1");
		CHECK_EXITED(&job, 1);
		job_deinit(&job);
	}
}

PROCESS_TEST(output_that_never_stops_is_cut_at_the_timeout)
{
	struct job job;

	run_until_timeout(&job, init, "yes");
	CHECK_INT(job.result.term_signal, SIGTERM);
	CHECK(job.out.len > 0);
	job_deinit(&job);
}

/* --- cancellation --- */

struct cancelled {
	struct init *init;
	struct job job;
	const char *script;
	const char *cwd;
};

static void run_to_be_cancelled(void *arg)
{
	struct cancelled *c = arg;

	job_init(&c->job);
	c->job.spec.cwd = c->cwd;
	c->job.spec.grace_ms = 50;
	job_run_shell(&c->job, c->init, c->script);
}

PROCESS_TEST(cancelled_command_is_ended_before_the_return)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/pid", dir);
	struct cancelled c = {
		.init = init,
		.script = "trap '' TERM; echo out; (sh -c 'echo $$'; sleep 1000) & echo $$ >pid; sleep 1000",
		.cwd = dir,
	};
	struct fiber_group group;

	fiber_group_init(&group);
	fiber_group_start(&group, run_to_be_cancelled, &c);
	pid_t pid = wait_for_pid(file);

	fiber_group_cancel(&group);
	fiber_group_join(&group, NULL);
	CHECK_INT(c.job.rc, -1);
	CHECK_INT(c.job.err.kind, ERR_CANCELLED);
	CHECK(strncmp(job_out(&c.job), "out\n", 4) == 0);
	CHECK(pid > 0 && process_is_gone(pid));
	job_deinit(&c.job);
	check_shell(init, "echo next", 0, "next\n", "");
	remove_scratch(dir);
}

PROCESS_TEST(command_cancelled_before_its_start_never_runs)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/marker", dir);
	struct cancelled c = {.init = init, .script = "echo yes >marker", .cwd = dir};
	struct fiber_group group;

	fiber_group_init(&group);
	fiber_group_start(&group, run_to_be_cancelled, &c);
	fiber_group_cancel(&group);
	fiber_group_join(&group, NULL);
	CHECK_INT(c.job.rc, -1);
	CHECK_INT(c.job.err.kind, ERR_CANCELLED);
	CHECK(access(file, F_OK) < 0);
	job_deinit(&c.job);
	remove_scratch(dir);
}

/* --- when those that watch are killed --- */

PROCESS_TEST(command_that_kills_its_supervisor_is_killed_and_the_next_one_runs)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/pid", dir);
	struct job job;

	job_init(&job);
	job.spec.cwd = dir;
	job_run_shell(&job, init,
		      "setsid sh -c 'echo $$ >pid; exec sleep 1000' & while ! [ -s pid ]; do sleep 0.01; done\n"
		      "kill -9 $PPID; exec sleep 1000");
	CHECK_INT(job.rc, -1);
	CHECK_INT(job.err.kind, ERR_TRANSPORT);
	job_deinit(&job);
	CHECK(wait_until_gone(wait_for_pid(file)));
	check_shell(init, "echo next", 0, "next\n", "");
	CHECK(init_is_alive(init));
	remove_scratch(dir);
}

PROCESS_TEST(other_signals_to_the_supervisor_do_nothing)
{
	check_shell(init,
		    "for s in TERM HUP INT USR1 USR2 STOP CONT CHLD ALRM; do kill -$s $PPID; [ $s = STOP ] && kill -CONT $PPID; "
		    "done\n"
		    "echo alive",
		    0, "alive\n", "");
	check_shell(init, "echo next", 0, "next\n", "");
}

PROCESS_TEST(supervisor_killed_between_commands_is_replaced)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/pid", dir);
	struct job job;

	job_init(&job);
	job.spec.cwd = dir;
	job_run_shell(&job, init, "echo $PPID >pid");
	CHECK_EXITED(&job, 0);
	job_deinit(&job);
	pid_t supervisor = wait_for_pid(file);

	CHECK(supervisor > 1 && kill(supervisor, SIGKILL) == 0);
	CHECK(wait_until_gone(supervisor));
	check_shell(init, "echo next", 0, "next\n", "");
	remove_scratch(dir);
}

PROCESS_TEST(init_killed_under_a_running_command_takes_the_command_along)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/pid", dir);
	struct job job;

	job_init(&job);
	job.spec.cwd = dir;
	/* The supervisor's parent is the init. */
	job_run_shell(&job, init,
		      "setsid sh -c 'echo $$ >pid; exec sleep 1000' & while ! [ -s pid ]; do sleep 0.01; done\n"
		      "kill -9 $(sed 's/^.*) . //; s/ .*//' /proc/$PPID/stat); exec sleep 1000");
	CHECK_INT(job.rc, -1);
	CHECK_INT(job.err.kind, ERR_TRANSPORT);
	job_deinit(&job);
	CHECK(!init_is_alive(init));
	CHECK(wait_until_gone(wait_for_pid(file)));
	job_init(&job);
	job_run_shell(&job, init, "echo next");
	CHECK_INT(job.rc, -1);
	CHECK_INT(job.err.kind, ERR_TRANSPORT);
	job_deinit(&job);
	remove_scratch(dir);
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

/* --- backpressure --- */

struct slow_host {
	struct event go;
	size_t taken;
	bool closed;
};

static void slow_take(void *arg, enum output_stream stream, const void *bytes, size_t len)
{
	struct slow_host *host = arg;

	(void)stream;
	(void)bytes;
	host->taken += len;
}

static int slow_wait(void *arg, struct err *err)
{
	struct slow_host *host = arg;

	return host->closed ? event_wait(&host->go, err) : 0;
}

static void run_slowly(void *arg)
{
	struct one_of_many *one = arg;

	job_run_shell(&one->job, one->init, "head -c 20000000 /dev/zero");
}

PROCESS_TEST(command_is_read_no_faster_than_the_host_takes)
{
	struct slow_host host = {.closed = true};
	struct output_sink sink = {.raw = slow_take, .wait = slow_wait, .arg = &host};
	struct one_of_many one = {.init = init};
	struct fiber_group group;

	job_init(&one.job);
	output_destroy(one.job.output);
	one.job.output = output_create(&sink);
	one.job.spec.output = one.job.output;
	fiber_group_init(&group);
	fiber_group_start(&group, run_slowly, &one);
	while (host.taken == 0)
		fiber_sleep(5, NULL);
	size_t taken = host.taken;

	for (int i = 0; i < 10; i++)
		fiber_sleep(5, NULL);
	CHECK_INT(host.taken, taken);
	CHECK(taken <= 1 << 20);
	host.closed = false;
	event_set(&host.go);
	fiber_group_join(&group, NULL);
	CHECK_EXITED(&one.job, 0);
	CHECK_INT(host.taken, 20000000);
	job_deinit(&one.job);
}

PROCESS_TEST(timeout_comes_though_the_host_takes_nothing)
{
	struct slow_host host = {.closed = true};
	struct output_sink sink = {.raw = slow_take, .wait = slow_wait, .arg = &host};
	struct job job;

	job_init(&job);
	output_destroy(job.output);
	job.output = output_create(&sink);
	job.spec.output = job.output;
	job.spec.timeout_ms = 150;
	job_run_shell(&job, init, "yes");
	CHECK_INT(job.rc, 0);
	CHECK(job.result.timed_out);
	CHECK_INT(job.result.term_signal, SIGTERM);
	CHECK(host.taken > 0);
	job_deinit(&job);
}

TEST_MAIN()
