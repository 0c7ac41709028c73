#include "supervisor.h"

#include "command.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct supervisor {
	int fd; /* -1: the worker has closed it */
	pid_t init;
	const struct tree *tree;
	struct packet *packet;
	pid_t command; /* 0: none, or it was reaped */
	bool has_tree;
	bool killing;
};

/* --- starting --- */

/*
 * vfork: the child runs in our memory until it execs, so nothing is copied, and it can say what failed. All signals are blocked
 * in both of us until then. Returns the child, or -1 with *ret_failure.
 */
static pid_t start(const struct command *command, const int stdio[3], struct command_failure *ret_failure)
{
	volatile struct command_failure failure = {0};
	pid_t pid = vfork();

	if (pid == 0) {
		command_become(command, stdio, &failure);
		_exit(127);
	}
	if (pid < 0) {
		failure.step = WIRE_STEP_FORK;
		failure.error = errno;
	}
	*ret_failure = (struct command_failure){.step = failure.step, .error = failure.error};
	if (!failure.error)
		return pid;
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return -1;
}

/* The strings, in the packet or mapped from its memfd; NULL with errno. */
static char *find_strings(const struct packet *packet)
{
	const struct wire_spawn *head = &packet->head.spawn;
	bool in_memfd = head->flags & WIRE_IN_MEMFD;

	/* Fewer descriptors than were sent: there was no room for them in this process. */
	if (packet->fd_count != (in_memfd ? 4 : 3)) {
		errno = EMFILE;
		return NULL;
	}
	if (head->size == 0 || (!in_memfd && head->size != packet->len - sizeof(*head))) {
		errno = EPROTO;
		return NULL;
	}
	if (!in_memfd)
		return (char *)(uintptr_t)(&packet->head.spawn + 1);
	char *strings = mmap(NULL, head->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, packet->fds[3], 0);

	return strings == MAP_FAILED ? NULL : strings;
}

static void spawn(struct supervisor *s)
{
	const struct wire_spawn *head = &s->packet->head.spawn;
	struct command_failure failure = {.step = WIRE_STEP_FORK};
	struct command command = {0};
	char *strings = find_strings(s->packet);

	failure.error = strings ? command_decode(&command, head, strings) : errno;
	if (!failure.error)
		s->command = start(&command, s->packet->fds, &failure);
	free(command.argv);
	if (strings && head->flags & WIRE_IN_MEMFD)
		munmap(strings, head->size);
	s->has_tree = !failure.error;
	if (failure.error)
		packet_send_event(s->fd, WIRE_FAILED, failure.error, failure.step);
}

/* --- watching --- */

/* Takes all children that have ended, and reports what that means. */
static void reap(struct supervisor *s)
{
	int status = 0, exit_status = 0;
	bool exited = false;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != s->command)
			continue;
		exited = true;
		exit_status = status;
		s->command = 0;
	}
	bool ended = pid < 0 && errno == ECHILD;

	if (exited)
		packet_send_event(s->fd, WIRE_EXITED, exit_status, ended ? WIRE_TREE_ENDED : 0);
	else if (ended)
		packet_send_event(s->fd, WIRE_ENDED, 0, 0);
	if (ended)
		s->has_tree = s->killing = false;
}

/* Acts on what the worker has sent. */
static void receive(struct supervisor *s)
{
	struct packet *packet = s->packet;
	int got = packet_receive(s->fd, packet);

	if (got < 0)
		return;
	if (got == 0) {
		close(s->fd);
		s->fd = -1;
		return;
	}
	if (packet->head.type == WIRE_SPAWN && packet->len >= sizeof(packet->head.spawn) && !s->has_tree)
		spawn(s);
	else if (packet->head.type == WIRE_SIGNAL && packet->len == sizeof(packet->head.event) && s->has_tree) {
		if (packet->head.event.value == SIGKILL)
			s->killing = true;
		else
			tree_signal(s->tree, packet->head.event.value);
	}
	packet_close_fds(packet);
}

_Noreturn void supervisor_main(int socket_fd, pid_t init, const struct tree *tree, struct packet *packet)
{
	struct supervisor s = {.fd = socket_fd, .init = init, .tree = tree, .packet = packet};
	sigset_t waiting;

	prctl(PR_SET_PDEATHSIG, SUPERVISOR_ORPHANED);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigfillset(&waiting);
	sigdelset(&waiting, SIGCHLD);
	sigdelset(&waiting, SUPERVISOR_ORPHANED);
	for (;;) {
		struct pollfd poll_fd = {.fd = s.fd, .events = POLLIN};
		bool orphaned = getppid() != s.init;

		if (!s.has_tree && (orphaned || s.fd < 0))
			_exit(0);
		s.killing = s.killing || orphaned;
		/* Each end of a child may show others that were hidden behind it (tree.h). */
		if (s.killing)
			tree_kill(s.tree, NULL);
		if (ppoll(&poll_fd, 1, NULL, &waiting) > 0)
			receive(&s);
		if (s.has_tree)
			reap(&s);
	}
}
