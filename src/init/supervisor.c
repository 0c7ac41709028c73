#include "supervisor.h"

#include "command.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the kernel sends when the init has died. */
#define SUPERVISOR_ORPHANED SIGUSR1

void send_event(int control_fd, enum wire_type type, uint64_t id, int value, unsigned detail)
{
	const struct wire_event event = {.type = type, .value = value, .id = id, .detail = detail};

	while (send(control_fd, &event, sizeof(event), MSG_NOSIGNAL) < 0 && errno == EINTR)
		;
}

static _Noreturn void fail(const struct supervisor *s, enum wire_step step, int error)
{
	send_event(s->control_fd, WIRE_FAILED, s->head->id, error, step);
	_exit(0);
}

static void decode(const struct supervisor *s, struct command *command)
{
	char *strings = s->strings;

	if (!strings) {
		strings = mmap(NULL, s->head->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, s->memfd, 0);
		if (strings == MAP_FAILED)
			fail(s, WIRE_STEP_FORK, errno);
		close(s->memfd);
	}
	int error = command_decode(command, s->head, strings);

	if (error)
		fail(s, WIRE_STEP_FORK, error);
}

/*
 * vfork: the child runs in our memory until it execs, so nothing is copied, and it can say what failed. All signals are blocked
 * in both of us until then.
 */
static pid_t start(const struct supervisor *s, const struct command *command)
{
	volatile struct command_failure failure = {0};
	pid_t pid = vfork();

	if (pid == 0) {
		command_become(command, s->stdio, &failure);
		_exit(127);
	}
	if (pid < 0)
		fail(s, WIRE_STEP_FORK, errno);
	if (failure.error) {
		waitpid(pid, NULL, 0);
		fail(s, failure.step, failure.error);
	}
	return pid;
}

/* Takes all children that have ended. True if none is left; *ret_status is set if the command was among them. */
static bool reap(pid_t command, bool *ret_exited, int *ret_status)
{
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid <= 0)
			return pid < 0 && errno == ECHILD;
		if (pid == command) {
			*ret_exited = true;
			*ret_status = status;
		}
	}
}

/* Only the init's word counts: the command may send us signals as well. */
static bool is_order(const struct supervisor *s, int signo, const siginfo_t *info)
{
	return signo > SIGRTMIN && signo <= SUPERVISOR_SIGNAL(SUPERVISOR_SIGNO_MAX) && info->si_pid == s->init;
}

static void watch(const struct supervisor *s, pid_t command)
{
	bool exited = false, reported = false, killing = false;
	int status = 0;
	sigset_t all;

	sigfillset(&all);
	for (;;) {
		bool ended = reap(command, &exited, &status);

		if (exited && !reported) {
			reported = true;
			send_event(s->control_fd, WIRE_EXITED, s->head->id, status, ended ? WIRE_TREE_ENDED : 0);
		} else if (ended) {
			send_event(s->control_fd, WIRE_ENDED, s->head->id, 0, 0);
		}
		if (ended)
			return;
		if (killing)
			tree_kill(s->tree, NULL);
		siginfo_t info = {0};
		int signo = sigwaitinfo(&all, &info);

		if (signo == SUPERVISOR_ORPHANED)
			killing = killing || getppid() != s->init;
		else if (!is_order(s, signo, &info))
			continue;
		else if (signo == SUPERVISOR_SIGNAL(SIGKILL))
			killing = true;
		else
			tree_signal(s->tree, signo - SIGRTMIN);
	}
}

_Noreturn void supervisor_main(const struct supervisor *s)
{
	struct command command;

	prctl(PR_SET_PDEATHSIG, SUPERVISOR_ORPHANED);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (getppid() != s->init)
		_exit(1);
	decode(s, &command);
	pid_t pid = start(s, &command);

	for (int i = 0; i < 3; i++)
		close(s->stdio[i]);
	watch(s, pid);
	_exit(0);
}
