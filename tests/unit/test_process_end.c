/* How commands and all that they started are ended, and what lives on. */
#include "process_fixture.h"

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

PROCESS_TEST(timeout_ends_the_command_and_keeps_what_it_printed)
{
	struct job job;

	job_run_until_timeout(&job, init, NULL, LONG_MS, "echo err >&2; echo up; sleep 1000");
	CHECK_INT(job.result.outcome, PROCESS_SIGNALLED);
	CHECK_INT(job.result.term_signal, SIGTERM);
	CHECK_STR(job_out(&job), "up\n");
	CHECK_STR(job_err_out(&job), "err\n");
	job_deinit(&job);
}

PROCESS_TEST(command_that_ignores_the_request_is_killed)
{
	struct job job;

	job_run_until_timeout(&job, init, NULL, 100, "trap '' TERM; echo up; while :; do sleep 0.01; done");
	CHECK_INT(job.result.outcome, PROCESS_SIGNALLED);
	CHECK_INT(job.result.term_signal, SIGKILL);
	CHECK_STR(job_out(&job), "up\n");
	job_deinit(&job);
}

PROCESS_TEST(command_that_catches_the_request_has_its_last_words)
{
	struct job job;

	job_run_until_timeout(&job, init, NULL, LONG_MS, "trap 'echo bye; exit 9' TERM; sleep 1000 & echo up; wait");
	CHECK_INT(job.result.outcome, PROCESS_EXITED);
	CHECK_INT(job.result.exit_code, 9);
	CHECK_STR(job_out(&job), "up\nbye\n");
	job_deinit(&job);
}

PROCESS_TEST(without_grace_the_command_is_killed_at_once)
{
	struct job job;

	job_run_until_timeout(&job, init, NULL, 0, "trap 'echo bye; exit 9' TERM; sleep 1000 & echo up; wait");
	CHECK_INT(job.result.outcome, PROCESS_SIGNALLED);
	CHECK_INT(job.result.term_signal, SIGKILL);
	CHECK_STR(job_out(&job), "up\n");
	job_deinit(&job);
}

PROCESS_TEST(stopped_command_is_ended_too)
{
	struct job job;

	job_run_until_timeout(&job, init, NULL, LONG_MS, "echo up; kill -STOP $$");
	CHECK_INT(job.result.outcome, PROCESS_SIGNALLED);
	CHECK_INT(job.result.term_signal, SIGTERM);
	job_deinit(&job);
}

PROCESS_TEST(timeout_ends_grandchildren_that_hold_the_pipes)
{
	struct job job;

	job_run_until_timeout(&job, init, NULL, LONG_MS, "sleep 1000 & echo up; exit 3");
	/* The command itself was long gone. */
	CHECK_INT(job.result.outcome, PROCESS_EXITED);
	CHECK_INT(job.result.exit_code, 3);
	CHECK_STR(job_out(&job), "up\n");
	job_deinit(&job);
}

PROCESS_TEST(timeout_ends_daemons_that_left_the_session)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *file = xasprintf("%s/pid", dir);
	struct job job;

	job_run_until_timeout(&job, init, dir, 50,
			      "rm -f pid; " START_DAEMON "; while ! [ -s pid ]; do sleep 0.01; done; echo up; sleep 1000");
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

	job_run_until_timeout(
		&job, init, dir, 50,
		"trap '' TERM; rm -f pids\n"
		"deep() { if [ $1 -gt 0 ]; then (deep $(($1 - 1))) & fi; exec sh -c 'echo $$ >>pids; exec sleep 1000'; }\n"
		"for i in 1 2 3 4 5 6 7 8 9 10; do (deep 4) & done\n"
		"while [ \"$(wc -l <pids)\" != 50 ]; do sleep 0.01; done 2>/dev/null; echo up; wait");
	CHECK_INT(job.result.term_signal, SIGKILL);
	job_deinit(&job);
	FILE *pids = fopen(file, "re");

	for (char line[32]; pids && fgets(line, sizeof(line), pids); count++)
		CHECK(process_is_gone((pid_t)strtol(line, NULL, 10)));
	if (pids)
		fclose(pids);
	CHECK_INT(count, 50);
	remove_scratch(dir);
}

PROCESS_TEST(process_that_keeps_forking_is_caught)
{
	struct job job;

	/* Each generation lives for a moment only. */
	job_run_until_timeout(&job, init, NULL, 50,
			      "trap '' TERM; chain() { (sleep 0.001; chain) & }; chain; echo up; wait; sleep 1000");
	CHECK_INT(job.result.term_signal, SIGKILL);
	job_deinit(&job);
}

PROCESS_TEST(deadline_of_the_fiber_counts_as_a_timeout)
{
	struct fiber_scope scope;
	struct job job;

	job_init(&job);
	deadline_enter(&scope, 100);
	job_run_shell(&job, init, "exec sleep 1000");
	scope_leave(&scope);
	CHECK_INT(job.rc, 0);
	CHECK(job.result.timed_out);
	CHECK_INT(job.result.outcome, PROCESS_SIGNALLED);
	CHECK_INT(job.result.term_signal, SIGTERM);
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

	job_run_until_timeout(&job, init, NULL, LONG_MS, "yes up");
	CHECK_INT(job.result.term_signal, SIGTERM);
	job_deinit(&job);
}

/* --- cancellation --- */

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

TEST_MAIN()
