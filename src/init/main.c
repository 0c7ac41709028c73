/*
 * init: starts commands for the worker and owns what they start. See wire.h for what is said, process.h for its two uses.
 *
 *	<init> <number of the control socket's descriptor>
 *
 * Paths: SUPERVISOR makes a child that runs commands for the worker (supervisor.h) until its socket is closed, and then ends with
 * status 0. Any other end means that it was killed, most likely by its command: its orphans come to us and are killed. When the
 * worker closes the control socket or dies, everything is killed and the init exits; as pid 1 by just exiting, since the kernel
 * then kills all that is in the pid namespace.
 *
 * If the init is killed, each supervisor kills its own tree (PR_SET_PDEATHSIG); if the init is pid 1, the kernel does.
 */
#include "packet.h"
#include "supervisor.h"
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAREWELL_S 3 /* for what does not die of SIGKILL (it sleeps in the kernel): then we exit all the same */

static struct tree tree;
static int control_fd;
static pid_t *supervisors; /* owned */
static size_t supervisor_count, supervisor_cap;
static struct packet packet;

/* --- supervisors --- */

static pid_t *find_supervisor(pid_t pid)
{
	for (size_t i = 0; i < supervisor_count; i++)
		if (supervisors[i] == pid)
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
	pid_t *grown = realloc(supervisors, cap * sizeof(*grown));

	if (!grown)
		return false;
	supervisors = grown;
	supervisor_cap = cap;
	return true;
}

static void add_supervisor(int fd)
{
	pid_t init = getpid(), pid = make_room() ? fork() : -1;

	if (pid == 0) {
		close(control_fd);
		supervisor_main(fd, init, &tree, &packet);
	}
	if (pid < 0)
		packet_send_event(fd, WIRE_FAILED, errno, WIRE_STEP_FORK); /* the answer to the SPAWN that waits in it */
	else
		supervisors[supervisor_count++] = pid;
}

static void reap(void)
{
	int status;

	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		pid_t *supervisor = find_supervisor(pid);

		if (supervisor)
			*supervisor = supervisors[--supervisor_count];
		/* Its orphans, or after the end of an orphan those that it had: all our children that are no supervisors. */
		if (!supervisor || status != 0)
			tree_kill(&tree, is_supervisor);
	}
}

/* False: the worker is gone. */
static bool serve(void)
{
	int got;

	while ((got = packet_receive(control_fd, &packet)) > 0) {
		if (packet.head.type == WIRE_SUPERVISOR && packet.fd_count == 1)
			add_supervisor(packet.fds[0]);
		packet_close_fds(&packet);
		/* A flood of requests must not keep the dead waiting. */
		reap();
	}
	return got < 0;
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

static void on_signal(int signo)
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
	action = (struct sigaction){.sa_handler = on_signal, .sa_flags = SA_NOCLDSTOP};
	sigaction(SIGCHLD, &action, NULL);
	sigaction(SUPERVISOR_ORPHANED, &action, NULL);
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
	packet_send_event(control_fd, WIRE_READY, 0, 0);
	sigfillset(&all_but_child);
	sigdelset(&all_but_child, SIGCHLD);
	while (serve()) {
		struct pollfd poll_fd = {.fd = control_fd, .events = POLLIN};

		reap();
		ppoll(&poll_fd, 1, NULL, &all_but_child);
	}
	leave();
}
