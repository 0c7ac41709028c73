/*
 * init: starts commands for the worker and owns what they start. See wire.h for what is said, process.h for its two uses.
 *
 *	<init> <number of the control socket's descriptor>
 *
 * Paths: a SPAWN becomes a supervisor (supervisor.h), which tells the worker by itself how the command ends, and then ends with
 * status 0. Any other end means that it was killed, most likely by its command: its orphans come to us, are killed, and the
 * worker is told LOST. When the worker closes the socket or dies, everything is killed and the init exits; as pid 1 by just
 * exiting, since the kernel then kills all that is in the pid namespace.
 *
 * If the init is killed, each supervisor kills its own tree (PR_SET_PDEATHSIG); if the init is pid 1, the kernel does.
 */
#include "supervisor.h"
#include "tree.h"
#include "wire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAREWELL_S 3 /* for what does not die of SIGKILL (it sleeps in the kernel): then we exit all the same */

struct entry {
	pid_t pid;
	uint64_t id;
};

/* One packet, as it came. */
struct packet {
	union {
		uint32_t type;
		struct wire_spawn spawn;
		struct wire_signal signal;
	} head;
	char strings[WIRE_INLINE_MAX];
};

static struct tree tree;
static int control_fd;
static struct entry *supervisors; /* owned */
static size_t supervisor_count, supervisor_cap;
static struct packet packet;

/* --- supervisors --- */

static struct entry *find_supervisor(pid_t pid)
{
	for (size_t i = 0; i < supervisor_count; i++)
		if (supervisors[i].pid == pid)
			return &supervisors[i];
	return NULL;
}

static bool is_supervisor(pid_t pid)
{
	return find_supervisor(pid) != NULL;
}

static bool make_room(void)
{
	size_t cap = supervisor_cap ? 2 * supervisor_cap : 64;

	if (supervisor_count < supervisor_cap)
		return true;
	struct entry *grown = realloc(supervisors, cap * sizeof(*grown));

	if (!grown)
		return false;
	supervisors = grown;
	supervisor_cap = cap;
	return true;
}

static void spawn(const int *fds, int fd_count, size_t size)
{
	const struct wire_spawn *head = &packet.head.spawn;
	bool in_memfd = head->flags & WIRE_IN_MEMFD;
	struct supervisor s = {
		.head = head,
		.strings = in_memfd ? NULL : (char *)(&packet.head.spawn + 1),
		.control_fd = control_fd,
		.init = getpid(),
		.tree = &tree,
	};

	/* Fewer descriptors than were sent: there was no room for them in this process. */
	if (fd_count != (in_memfd ? 4 : 3)) {
		send_event(control_fd, WIRE_FAILED, head->id, EMFILE, WIRE_STEP_FORK);
		return;
	}
	if ((!in_memfd && head->size != size - sizeof(*head)) || head->size == 0) {
		send_event(control_fd, WIRE_FAILED, head->id, EPROTO, WIRE_STEP_FORK);
		return;
	}
	memcpy(s.stdio, fds, sizeof(s.stdio));
	s.memfd = in_memfd ? fds[3] : -1;
	pid_t pid = make_room() ? fork() : -1;

	if (pid == 0)
		supervisor_main(&s);
	if (pid < 0)
		send_event(control_fd, WIRE_FAILED, head->id, errno, WIRE_STEP_FORK);
	else
		supervisors[supervisor_count++] = (struct entry){.pid = pid, .id = head->id};
}

static void signal_tree(const struct wire_signal *request)
{
	if (request->signo <= 0 || request->signo > SUPERVISOR_SIGNO_MAX)
		return;
	for (size_t i = 0; i < supervisor_count; i++)
		if (supervisors[i].id == request->id)
			kill(supervisors[i].pid, SUPERVISOR_SIGNAL(request->signo));
}

static void reap(void)
{
	int status;

	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		struct entry *entry = find_supervisor(pid);

		if (entry && status == 0) {
			*entry = supervisors[--supervisor_count];
			continue;
		}
		uint64_t id = entry ? entry->id : 0;

		if (entry)
			*entry = supervisors[--supervisor_count];
		/* Its orphans, or after the end of an orphan those that it had: all our children that are no supervisors. */
		tree_kill(&tree, is_supervisor);
		if (id)
			send_event(control_fd, WIRE_LOST, id, status, 0);
	}
}

/* --- the socket --- */

/* One packet. -1: none is there now; 0: the worker is gone; else its size. */
static ssize_t receive(int fds[WIRE_FDS_MAX], int *ret_count)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
	struct iovec iov = {.iov_base = &packet.head, .iov_len = sizeof(packet)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t n;

	*ret_count = 0;
	do
		n = recvmsg(control_fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -1 : 0;
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS) {
		*ret_count = (int)((cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(cmsg), (size_t)*ret_count * sizeof(int));
	}
	return n;
}

/* False: the worker is gone. */
static bool serve(void)
{
	int fds[WIRE_FDS_MAX], fd_count;
	ssize_t n;

	while ((n = receive(fds, &fd_count)) > 0) {
		if ((size_t)n >= sizeof(struct wire_spawn) && packet.head.type == WIRE_SPAWN)
			spawn(fds, fd_count, (size_t)n);
		else if ((size_t)n >= sizeof(struct wire_signal) && packet.head.type == WIRE_SIGNAL)
			signal_tree(&packet.head.signal);
		while (fd_count > 0)
			close(fds[--fd_count]);
		/* A flood of requests must not keep the dead waiting. */
		reap();
	}
	return n < 0;
}

/* --- start and end --- */

static _Noreturn void die(const char *what)
{
	const char *why = strerrordesc_np(errno);
	const char *const parts[] = {"sandbox init: ", what, ": ", why ? why : "failed", "\n"};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		(void)!write(STDERR_FILENO, parts[i], strlen(parts[i]));
	_exit(1);
}

static void close_each_listed(int keep_fd)
{
	_Alignas(struct dirent64) char entries[4096];
	int dir = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ssize_t n;

	while ((n = getdents64(dir, entries, sizeof(entries))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *entry = (const struct dirent64 *)(const void *)(entries + at);
			int fd = (int)strtol(entry->d_name, NULL, 10);

			if (fd > STDERR_FILENO && fd != keep_fd && fd != dir)
				close(fd);
			at += entry->d_reclen;
		}
	}
	close(dir);
}

/* From here on every descriptor is close-on-exec: commands get 0 to 2 and nothing else. */
static void keep_only(int fd)
{
	fcntl(fd, F_SETFD, FD_CLOEXEC);
#ifdef SYS_close_range
	if ((fd == STDERR_FILENO + 1 || syscall(SYS_close_range, STDERR_FILENO + 1, fd - 1, 0) == 0) &&
	    syscall(SYS_close_range, fd + 1, ~0u, 0) == 0)
		return;
#endif
	close_each_listed(fd); /* before Linux 5.9 */
}

static void on_child(int signo)
{
	(void)signo; /* it ends the poll */
}

/* Commands inherit ignored signals: so none is. Everything is blocked but while we poll. */
static void set_signals(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int signo = 1; signo <= SIGRTMAX; signo++)
		sigaction(signo, &action, NULL);
	action = (struct sigaction){.sa_handler = on_child, .sa_flags = SA_NOCLDSTOP};
	sigaction(SIGCHLD, &action, NULL);
}

static void set_up(void)
{
	setsid();
	set_signals();
	prctl(PR_SET_NAME, "sandbox-init");
	/* No command of the same user may trace us or read our memory. */
	prctl(PR_SET_DUMPABLE, 0);
	if (getpid() == 1)
		/* The launcher waits for us; without it nobody would. The kernel then kills the namespace. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	else if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		die("become a child subreaper");
	if (tree_init(&tree) < 0)
		die("/proc of the pid namespace");
	/* stderr was for the launcher's words. */
	dup2(STDOUT_FILENO, STDERR_FILENO);
}

static _Noreturn void leave(void)
{
	sigset_t child;
	const struct timespec patience = {.tv_sec = FAREWELL_S};

	if (getpid() == 1)
		_exit(0);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	for (;;) {
		pid_t pid;

		do
			pid = waitpid(-1, NULL, WNOHANG);
		while (pid > 0);
		if (pid < 0)
			_exit(0);
		tree_kill(&tree, NULL);
		if (sigtimedwait(&child, NULL, &patience) < 0 && errno == EAGAIN)
			_exit(1);
	}
}

int main(int argc, char **argv)
{
	sigset_t all_but_child;

	if (argc != 2) {
		errno = EINVAL;
		die("started by hand: it serves a worker");
	}
	control_fd = (int)strtol(argv[1], NULL, 10);
	keep_only(control_fd);
	set_up();
	send_event(control_fd, WIRE_READY, 0, 0, 0);
	sigfillset(&all_but_child);
	sigdelset(&all_but_child, SIGCHLD);
	while (serve()) {
		struct pollfd poll_fd = {.fd = control_fd, .events = POLLIN};

		reap();
		ppoll(&poll_fd, 1, NULL, &all_but_child);
	}
	leave();
}
