/* Parts of the init program, called directly: what they do where the whole program cannot easily be brought. */
#include "init/command.h"
#include "init/tree.h"
#include "tap.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- tree: each case runs in a process of its own, a subreaper as supervisors are --- */

typedef int subject_fn(struct tree *tree);

static int run_subject(subject_fn *subject, bool scan)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		struct tree tree;

		if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 || tree_init(&tree) < 0)
			_exit(100);
		tree.scan = tree.scan || scan;
		int code = subject(&tree);

		tree_deinit(&tree);
		_exit(code);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

static void check_subject(subject_fn *subject)
{
	CHECK_INT(run_subject(subject, false), 0);
	CHECK_INT(run_subject(subject, true), 0); /* where the kernel does not list children */
}

/* Starts the script and waits for the byte that it writes when all is set up. */
static pid_t start_script(const char *script)
{
	int fds[2];
	char byte;

	if (pipe(fds) < 0)
		_exit(101);
	pid_t pid = fork();

	if (pid == 0) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	if (read(fds[0], &byte, 1) != 1)
		_exit(102);
	close(fds[0]);
	return pid;
}

/* Ends when no child is left; every end of a child is followed by another look, as supervisors do. */
static int kill_all(struct tree *tree)
{
	tree_kill(tree, NULL);
	while (waitpid(-1, NULL, 0) > 0)
		tree_kill(tree, NULL);
	return errno == ECHILD ? 0 : 103;
}

static int kills_nested(struct tree *tree)
{
	start_script(
		"trap '' TERM; (sleep 1000 & sleep 1000) & (sh -c 'sleep 1000 & (sleep 1000; :); :') & sleep 0.1; echo; wait");
	return kill_all(tree);
}

TEST(tree_kill_reaches_every_generation)
{
	check_subject(kills_nested);
}

static int kills_daemons(struct tree *tree)
{
	start_script("setsid sh -c '(sleep 1000 & echo >&3; sleep 1000) &' 3>&1 >/dev/null; exit 0");
	return kill_all(tree);
}

TEST(tree_kill_reaches_what_lost_its_parent_and_session)
{
	check_subject(kills_daemons);
}

static int kills_forkers(struct tree *tree)
{
	start_script("chain() { (sleep 0.001; chain) & }; chain; chain; chain; echo; wait; exec sleep 1000");
	return kill_all(tree);
}

TEST(tree_kill_catches_what_keeps_forking)
{
	check_subject(kills_forkers);
}

static pid_t spared;

static bool is_spared(pid_t child)
{
	return child == spared;
}

static int spares(struct tree *tree)
{
	spared = start_script("echo; exec sleep 1000");
	pid_t other = start_script("echo; exec sleep 1000");
	int status;

	tree_kill(tree, is_spared);
	if (waitpid(-1, &status, 0) != other || !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		return 104;
	if (kill(spared, 0) < 0 || waitpid(-1, NULL, WNOHANG) != 0)
		return 105;
	return kill_all(tree);
}

TEST(tree_kill_spares_the_children_it_is_told_to)
{
	check_subject(spares);
}

static int signals_all(struct tree *tree)
{
	int status;

	/* Each process says with its exit status that it was asked; a stopped one is woken to hear it. */
	pid_t pid = start_script("trap 'exit 5' TERM; sh -c 'kill -STOP $$' & echo; wait $!; exit 6");

	usleep(50000);
	tree_signal(tree, SIGTERM);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 5)
		return 106;
	while (waitpid(-1, NULL, 0) > 0)
		;
	return errno == ECHILD ? 0 : 107;
}

TEST(tree_signal_asks_all_of_them)
{
	check_subject(signals_all);
}

static int does_nothing(struct tree *tree)
{
	tree_signal(tree, SIGTERM);
	tree_kill(tree, NULL);
	return 0;
}

TEST(a_process_without_children_survives_its_own_order)
{
	check_subject(does_nothing);
}

/* --- command_decode --- */

static int decode(uint32_t flags, uint32_t argc, uint32_t envc, const char *strings, size_t size, struct command *command)
{
	const struct wire_spawn head = {.type = WIRE_SPAWN, .flags = flags, .argc = argc, .envc = envc, .size = size};

	*command = (struct command){0};
	/* A copy of exactly this size, so that reading on is found out by the sanitizers. */
	char *copy = malloc(size ? size : 1);

	memcpy(copy, strings, size);
	int rc = command_decode(command, &head, copy);

	if (rc == 0 && argc > 0)
		CHECK_STR(command->argv[0], "arg");
	free(command->argv);
	free(copy);
	return rc;
}

TEST(request_is_decoded_only_if_all_its_strings_are_there)
{
	static const char strings[] = "file\0path\0cwd\0arg\0A=1";
	struct command command;

	CHECK_INT(decode(WIRE_HAS_SEARCH_PATH | WIRE_HAS_CWD, 1, 1, strings, sizeof(strings), &command), 0);
	for (size_t n = 0; n < sizeof(strings); n++)
		CHECK_INT(decode(WIRE_HAS_SEARCH_PATH | WIRE_HAS_CWD, 1, 1, strings, n, &command), EPROTO);
	CHECK_INT(decode(WIRE_HAS_SEARCH_PATH | WIRE_HAS_CWD, 2, 1, strings, sizeof(strings), &command), EPROTO);
	CHECK_INT(decode(WIRE_HAS_SEARCH_PATH | WIRE_HAS_CWD, UINT32_MAX, UINT32_MAX, strings, sizeof(strings), &command),
		  EPROTO);
	CHECK_INT(decode(0, 0, 0, strings, sizeof(strings), &command), 0);
	CHECK_INT(decode(0, 0, 0, "", 0, &command), EPROTO);
}

TEST_MAIN()
