#include "peer.h"

#include "base/cleanup.h"
#include "base/mem.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define READ_MAX ((size_t)1 << 20)
#define KEPT_BYTES ((size_t)16 << 10)
#define ANSWER_PREFIX "{\"jsonrpc\":\"2.0\",\"id\":"

double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

void sleep_ms(double ms)
{
	struct timespec t = {.tv_sec = (time_t)(ms / 1e3), .tv_nsec = (long)(ms * 1e6) % 1000000000};

	nanosleep(&t, NULL);
}

/* --- life --- */

static void socket_pair(int *own, int *other)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		err(1, "socketpair");
	*own = fds[0];
	*other = fds[1];
	if (fcntl(*own, F_SETFL, O_NONBLOCK) < 0)
		err(1, "fcntl");
}

static void run_worker(char *const argv[], int in_fd, int out_fd)
{
	const char *path = getenv("PATH"), *temp = getenv("TMPDIR");
	char *env[] = {
		xasprintf("PATH=%s", path ? path : "/usr/bin:/bin"),
		xasprintf("TMPDIR=%s", temp ? temp : "/tmp"),
		(char[]){"NODE_PATH="},
		(char[]){"PAPERCLIP_PLUGIN_ID=bench"},
		(char[]){"NODE_ENV=production"},
		(char[]){"TZ=UTC"},
		NULL,
	};

	dup2(in_fd, STDIN_FILENO);
	dup2(out_fd, STDOUT_FILENO);
	signal(SIGPIPE, SIG_IGN);
	execvpe(argv[0], argv, env);
	warn("%s", argv[0]);
	_exit(127);
}

void peer_start(struct peer *p, char *const argv[])
{
	int in_fd, out_fd;

	*p = (struct peer){.out = BUF_INIT(BUF_UNBOUNDED),
			   .in = BUF_INIT(BUF_UNBOUNDED),
			   .last = BUF_INIT(BUF_UNBOUNDED),
			   .read_max = READ_MAX};
	socket_pair(&p->to_fd, &in_fd);
	socket_pair(&p->from_fd, &out_fd);
	p->pid = fork();
	if (p->pid < 0)
		err(1, "fork");
	if (p->pid == 0)
		run_worker(argv, in_fd, out_fd);
	close(in_fd);
	close(out_fd);
}

void peer_stop(struct peer *p)
{
	static const char shutdown_line[] = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"shutdown\",\"params\":{}}\n";
	int status;

	p->read_max = READ_MAX;
	peer_queue(p, shutdown_line, sizeof(shutdown_line) - 1);
	peer_await(p, p->answers + 1);
	close(p->to_fd);
	close(p->from_fd);
	if (waitpid(p->pid, &status, 0) < 0 || status != 0)
		errx(1, "the worker ended with status %#x", status);
	buf_deinit(&p->out);
	buf_deinit(&p->in);
	buf_deinit(&p->last);
}

/* --- lines --- */

void peer_queue(struct peer *p, const char *text, size_t len)
{
	buf_append(&p->out, text, len);
}

static void take_line(struct peer *p, const char *line, size_t len)
{
	if (len < sizeof(ANSWER_PREFIX) || memcmp(line, ANSWER_PREFIX, sizeof(ANSWER_PREFIX) - 1) != 0)
		return;
	p->answers++;
	buf_reset(&p->last);
	p->last_len = len;
	buf_append(&p->last, line, len < KEPT_BYTES ? len : KEPT_BYTES);
	buf_append_char(&p->last, '\0');
}

static void take_lines(struct peer *p)
{
	size_t start = 0;
	char *end;

	while ((end = memchr(p->in.data + start + p->in_seen, '\n', p->in.len - start - p->in_seen))) {
		size_t next = (size_t)(end - p->in.data) + 1;

		take_line(p, p->in.data + start, next - 1 - start);
		start = next;
		p->in_seen = 0;
	}
	buf_consume(&p->in, start);
	p->in_seen = p->in.len;
}

static void read_some(struct peer *p)
{
	ssize_t n = read(p->from_fd, buf_reserve(&p->in, p->read_max), p->read_max);

	if (n == 0)
		errx(1, "the worker ended early");
	if (n < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return;
		err(1, "read from the worker");
	}
	buf_added(&p->in, (size_t)n);
	p->read_bytes += n;
	take_lines(p);
}

static void write_some(struct peer *p)
{
	ssize_t n = send(p->to_fd, p->out.data, p->out.len, MSG_NOSIGNAL);

	if (n > 0)
		buf_consume(&p->out, (size_t)n);
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		err(1, "write to the worker");
}

void peer_pump(struct peer *p, int ms)
{
	struct pollfd fds[] = {{.fd = p->from_fd, .events = POLLIN}, {.fd = p->to_fd, .events = POLLOUT}};

	if (p->out.len)
		write_some(p);
	if (poll(fds, p->out.len ? 2 : 1, ms) < 0 && errno != EINTR)
		err(1, "poll");
	if (fds[0].revents)
		read_some(p);
}

void peer_await(struct peer *p, int64_t answers)
{
	while (p->answers < answers)
		peer_pump(p, -1);
}

const char *peer_call(struct peer *p, const char *text, size_t len)
{
	peer_queue(p, text, len);
	peer_await(p, p->answers + 1);
	const char *comma = memchr(p->last.data + sizeof(ANSWER_PREFIX) - 1, ',', p->last.len - sizeof(ANSWER_PREFIX));

	if (!comma || strncmp(comma, ",\"result\":", 10) != 0)
		errx(1, "%.*s was answered by %.300s", (int)(len < 200 ? len : 200), text, p->last.data);
	return comma + 10;
}

/* --- memory --- */

static long field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtol(at + strlen(name), NULL, 10) : 0;
}

/* A file of /proc/PID, at most size - 1 bytes of it; "" if there is none. */
static void read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	cleanup_free char *path = xasprintf("/proc/%d/%s", (int)pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
}

static void add_memory(struct memory *sum, pid_t pid)
{
	char text[4096];

	read_proc(pid, "smaps_rollup", text, sizeof(text));
	sum->rss += field(text, "\nRss:");
	sum->pss += field(text, "\nPss:");
	sum->private_dirty += field(text, "\nPrivate_Dirty:");
	cleanup_free char *children = xasprintf("task/%d/children", (int)pid);

	read_proc(pid, children, text, sizeof(text));
	for (char *at = text, *end; *at; at = end) {
		pid_t child = (pid_t)strtol(at, &end, 10);

		if (end == at)
			break;
		add_memory(sum, child);
	}
}

struct memory peer_memory(const struct peer *p)
{
	struct memory sum = {0};

	add_memory(&sum, p->pid);
	return sum;
}

long peer_peak(const struct peer *p)
{
	char text[4096];

	read_proc(p->pid, "status", text, sizeof(text));
	return field(text, "VmHWM:");
}
