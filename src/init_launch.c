/*
 * The program runs from a sealed memfd, by the path /proc/self/fd/N that its launcher inherits: it needs no file in the sandbox,
 * only a mounted /proc, and no other process can change it. All inits of a worker share the memfd.
 */
#include "init_launch.h"

#include "base/mem.h"
#include "init/init_image.h"
#include "process_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

/* The launcher's words: this much of its stderr is kept. Behind it the errno of a failed start. */
#define WORDS_MAX 8192

static int image_fd = -1;
static unsigned image_users;

/* --- memfds --- */

static int write_all(int fd, const unsigned char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, bytes, n);

		if (done < 0 && errno != EINTR)
			return -1;
		if (done > 0) {
			bytes += done;
			n -= (size_t)done;
		}
	}
	return 0;
}

static int image_open(struct err *err)
{
	const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	/* Kernels since 6.3 want to be told that it will be executed, those before refuse the flag. */
	int fd = memfd_create("sandbox-init", flags | MFD_EXEC);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("sandbox-init", flags);
	if (fd < 0)
		return err_set_errno(err, errno, "memory for the init program");
	if (write_all(fd, init_image, init_image_size) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0) {
		err_set_errno(err, errno, "write the init program");
		close(fd);
		return -1;
	}
	image_fd = fd;
	return 0;
}

static int image_hold(struct err *err)
{
	if (image_fd < 0 && image_open(err) < 0)
		return -1;
	image_users++;
	return 0;
}

void init_launch_release(void)
{
	if (--image_users == 0)
		image_fd = close_fd(image_fd);
}

/* A file of fixed size: a launcher that prints without end gets an error, we need not read, and nobody waits for anybody. */
static int words_open(struct err *err)
{
	int fd = memfd_create("launcher-stderr", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && ftruncate(fd, WORDS_MAX + sizeof(int)) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0)
		return fd;
	err_set_errno(err, errno, "memory for the launcher's messages");
	close_fd(fd);
	return -1;
}

/* --- the child --- */

struct plan {
	const struct init_options *options;
	char *const *argv; /* NULL: the init itself */
	const char *init_path;
	char *const *init_argv;
	char *const *envp;
	int control_fd, null_fd, words_fd;
	const struct rlimit *fd_limit; /* borrowed */
	sigset_t mask;                 /* of the worker */
};

static int keep_over_exec(int fd)
{
	return fcntl(fd, F_SETFD, 0);
}

/* Returns only on failure, with errno. Runs in the worker's memory (vfork): async-signal-safe calls only. */
static void become(const struct plan *plan)
{
	const struct init_options *options = plan->options;
	struct sigaction action = {.sa_handler = SIG_DFL};

	for (int signo = 1; signo <= SIGRTMAX; signo++)
		sigaction(signo, &action, NULL);
	/* Signals of the worker's terminal are for the worker: it ends what it started in good order. */
	setsid();
	if (dup2(plan->null_fd, STDIN_FILENO) < 0 || dup2(plan->null_fd, STDOUT_FILENO) < 0 ||
	    dup2(plan->words_fd, STDERR_FILENO) < 0 || keep_over_exec(plan->control_fd) < 0)
		return;
	/* The init is not to be killed with the worker but to see its socket's end, and then to clean up. A launcher may die. */
	if (plan->argv && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || keep_over_exec(image_fd) < 0))
		return;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setrlimit(RLIMIT_NOFILE, plan->fd_limit);
	if (options->child_setup && options->child_setup(options->child_setup_arg) < 0)
		return;
	if (plan->argv)
		execvpe(plan->argv[0], plan->argv, plan->envp);
	else
		execve(plan->init_path, plan->init_argv, plan->envp);
}

/*
 * vfork: the worker may hold much memory, of which fork would copy the page tables. No handler of ours may run in the child, so
 * all signals are blocked. What failed is written behind the words, which works with a real fork as well (valgrind).
 */
static pid_t start(struct plan *plan)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &plan->mask);
	pid_t pid = vfork();

	if (pid == 0) {
		become(plan);
		int error = errno;

		(void)!pwrite(plan->words_fd, &error, sizeof(error), WORDS_MAX);
		_exit(127);
	}
	int error = errno;

	sigprocmask(SIG_SETMASK, &plan->mask, NULL);
	errno = error;
	return pid;
}

/* --- */

static char **launcher_argv(char *const *launcher, char *path, char *number)
{
	size_t n = 0;

	while (launcher[n])
		n++;
	char **argv = xcalloc(n + 3, sizeof(*argv));

	memcpy(argv, launcher, n * sizeof(*argv));
	argv[n] = path;
	argv[n + 1] = number;
	return argv;
}

static int launch(const struct init_options *options, struct init_child *child, int theirs, struct err *err)
{
	static char *const no_env[] = {NULL};
	char path[32], number[16], name[] = "sandbox-init";
	cleanup_close int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null_fd < 0)
		return err_set_errno(err, errno, "open /dev/null");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", image_fd);
	snprintf(number, sizeof(number), "%d", theirs);
	cleanup_free char **argv = options->launcher ? launcher_argv(options->launcher, path, number) : NULL;
	struct plan plan = {
		.options = options,
		.argv = argv,
		.init_path = path,
		.init_argv = (char *const[]){name, number, NULL},
		.envp = options->envp ? options->envp : no_env,
		.control_fd = theirs,
		.null_fd = null_fd,
		.words_fd = child->words_fd,
		.fd_limit = process_limit_raise(),
	};

	child->pid = start(&plan);
	if (child->pid < 0)
		return err_set_errno(err, errno, "start a process");
	return 0;
}

int init_launch(const struct init_options *options, struct init_child *ret, struct err *err)
{
	int pair[2];

	if (image_hold(err) < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		err_set_errno(err, errno, "make a socket");
		init_launch_release();
		return -1;
	}
	cleanup_close int theirs = pair[1];
	struct init_child child = {.control_fd = pair[0], .words_fd = words_open(err)};

	if (child.words_fd < 0 || launch(options, &child, theirs, err) < 0) {
		close_fd(child.control_fd);
		close_fd(child.words_fd);
		init_launch_release();
		return -1;
	}
	*ret = child;
	return 0;
}

int init_launch_explain(const struct init_child *child, const char *name, int wait_status, struct err *err)
{
	char words[WORDS_MAX + 1] = "";
	int start_errno = 0;
	ssize_t n = pread(child->words_fd, words, WORDS_MAX, 0);
	size_t len = strnlen(words, n > 0 ? (size_t)n : 0);

	(void)!pread(child->words_fd, &start_errno, sizeof(start_errno), WORDS_MAX);
	while (len > 0 && (words[len - 1] == '\n' || words[len - 1] == ' '))
		len--;
	words[len] = '\0';
	if (start_errno)
		return err_set_errno(err, start_errno, "start %s", name);
	if (len > 0)
		return err_set(err, ERR_SYSTEM, "%s", words);
	if (WIFSIGNALED(wait_status))
		return err_set(err, ERR_SYSTEM, "%s was killed by signal %d", name, WTERMSIG(wait_status));
	return err_set(err, ERR_SYSTEM, "%s ended with exit code %d before it was ready", name, WEXITSTATUS(wait_status));
}
