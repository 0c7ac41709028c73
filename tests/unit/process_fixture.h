/* process_fixture: what the tests of commands share: run a shell command through an init, look at what it printed and left. */
#ifndef TESTS_PROCESS_FIXTURE_H
#define TESTS_PROCESS_FIXTURE_H

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"
#include "fiber.h"
#include "loop.h"
#include "output_internal.h"
#include "process.h"
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
#define LONG_MS 60000 /* never reached unless something is broken */

/* Forks twice, leads a session, ignores requests, holds no pipe; its pid goes to the file "pid" ($$ would be its dead parent). */
#define START_DAEMON                                                                                                             \
	"setsid sh -c 'trap \"\" TERM HUP; (sh -c \"echo \\$PPID\" >pid; while :; do sleep 0.01; done) &' </dev/null "           \
	">/dev/null 2>&1"

/* One command and all that came of it. */
struct job {
	struct process_spec spec;
	struct output *output;
	struct buf out, err_out;
	struct process_result result;
	struct err err;
	int rc;
};

static inline void job_take_bytes(void *arg, enum output_stream stream, const void *bytes, size_t len)
{
	struct job *job = arg;

	CHECK(buf_append(stream == OUTPUT_STDOUT ? &job->out : &job->err_out, bytes, len) == 0);
}

static char *const no_strings[] = {NULL};

static inline void job_init(struct job *job)
{
	struct output_sink sink = {.raw = job_take_bytes, .arg = job};

	*job = (struct job){.out = BUF_INIT(BUF_UNBOUNDED), .err_out = BUF_INIT(BUF_UNBOUNDED)};
	job->output = output_create(&sink);
	job->spec = (struct process_spec){
		.envp = no_strings,
		.search_path = PATH,
		.output = job->output,
		.timeout_ms = LONG_MS,
		.grace_ms = 250,
		.linger_ms = -1,
	};
}

static inline void job_deinit(struct job *job)
{
	output_destroy(job->output);
	buf_deinit(&job->out);
	buf_deinit(&job->err_out);
	err_clear(&job->err);
}

static inline const char *job_out(const struct job *job)
{
	return job->out.data ? job->out.data : "";
}

static inline const char *job_err_out(const struct job *job)
{
	return job->err_out.data ? job->err_out.data : "";
}

static inline void job_run(struct job *job, struct init *init, char *const *argv)
{
	struct process_spec spec = job->spec;

	spec.file = argv[0];
	spec.argv = argv;
	job->rc = process_run(init, &spec, &job->result, &job->err);
}

static inline void job_run_shell(struct job *job, struct init *init, const char *script)
{
	cleanup_free char *copy = xstrdup(script);
	char sh[] = "sh", c[] = "-c";

	job_run(job, init, (char *const[]){sh, c, copy, NULL});
}

/*
 * Runs the script, which prints "up" when all is set up and then goes on for ever, until its time limit has passed. On a busy
 * machine a limit may be too short to get that far: then it is tried again with a longer one.
 */
static inline void job_run_until_timeout(struct job *job, struct init *init, const char *cwd, int64_t grace_ms,
					 const char *script)
{
	for (int64_t ms = 150;; ms *= 4) {
		job_init(job);
		job->spec.cwd = cwd;
		job->spec.timeout_ms = ms;
		job->spec.grace_ms = grace_ms;
		job_run_shell(job, init, script);
		if (strstr(job_out(job), "up\n") || ms > LONG_MS)
			break;
		job_deinit(job);
	}
	CHECK_INT(job->rc, 0);
	CHECK_STR(err_text(&job->err), "no error");
	CHECK(job->result.timed_out);
}

#define CHECK_EXITED(job, code)                                                                                                  \
	do {                                                                                                                     \
		CHECK_INT((job)->rc, 0);                                                                                         \
		CHECK_STR(err_text(&(job)->err), "no error");                                                                    \
		CHECK_INT((job)->result.outcome, PROCESS_EXITED);                                                                \
		CHECK_INT((job)->result.exit_code, code);                                                                        \
		CHECK(!(job)->result.timed_out);                                                                                 \
	} while (0)

#define CHECK_NOT_STARTED(job, number, step)                                                                                     \
	do {                                                                                                                     \
		CHECK_INT((job)->rc, 0);                                                                                         \
		CHECK_INT((job)->result.outcome, PROCESS_NOT_STARTED);                                                           \
		CHECK_INT((job)->result.start_errno, number);                                                                    \
		CHECK_INT((job)->result.start_step, step);                                                                       \
	} while (0)

/* The worker's own kind of init; NULL (and a failed check) if it does not start. */
static inline struct init *start_init(void)
{
	struct init *init = NULL;
	cleanup_err struct err err = ERR_INIT;

	init_start(&(struct init_options){0}, &init, &err);
	CHECK_STR(err_text(&err), "no error");
	return init;
}

/* A directory of the test's own, with a space in its name; "" as the environment has it is fine. */
static inline char *make_scratch(void)
{
	const char *tmp = getenv("TMPDIR");
	char *path = xasprintf("%s/test process.XXXXXX", str_nonempty(tmp) ? tmp : "/tmp");

	CHECK(mkdtemp(path) != NULL);
	return path;
}

static inline void remove_scratch(const char *path)
{
	DIR *dir = opendir(path);

	CHECK(dir != NULL);
	for (struct dirent *entry; dir && (entry = readdir(dir));)
		unlinkat(dirfd(dir), entry->d_name, 0);
	if (dir)
		closedir(dir);
	CHECK(rmdir(path) == 0);
}

/* The file's text once it is there and ends with a line; the caller frees it. */
static inline char *wait_for_line(const char *path)
{
	char text[256];

	for (int i = 0; i < LONG_MS / 10; i++) {
		FILE *file = fopen(path, "re");

		if (file) {
			size_t n = fread(text, 1, sizeof(text) - 1, file);

			fclose(file);
			text[n] = '\0';
			if (n > 0 && text[n - 1] == '\n')
				return xstrdup(text);
		}
		fiber_sleep(10, NULL);
	}
	tap_fail(__FILE__, __LINE__, "%s does not come", path);
	return xstrdup("");
}

static inline pid_t wait_for_pid(const char *path)
{
	cleanup_free char *line = wait_for_line(path);

	return (pid_t)strtol(line, NULL, 10);
}

/* Gone, or a zombie that waits for a parent which is none of ours. */
static inline bool process_is_gone(pid_t pid)
{
	char path[64], stat[512];

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *file = fopen(path, "re");

	if (!file)
		return true;
	size_t n = fread(stat, 1, sizeof(stat) - 1, file);

	fclose(file);
	stat[n] = '\0';
	const char *name_end = strrchr(stat, ')');

	return !name_end || name_end[2] == 'Z' || name_end[2] == 'X';
}

static inline bool wait_until_gone(pid_t pid)
{
	for (int i = 0; i < LONG_MS / 10; i++) {
		if (process_is_gone(pid))
			return true;
		fiber_sleep(10, NULL);
	}
	return false;
}

static inline int open_fd_count(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static inline char *put_file(const char *dir, const char *name, const char *text, mode_t mode)
{
	char *path = xasprintf("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close_fd(fd);
	return path;
}

/* Each test's body runs in a fiber with an init of its own; afterwards nothing may be left. */
typedef void body_fn(struct init *init);

static inline void run_body(void *arg)
{
	body_fn *body = *(body_fn **)arg;
	struct init *init = start_init();

	if (init)
		body(init);
	init_stop(init);
}

static inline void do_nothing(void *arg)
{
	(void)arg;
}

static inline void with_init(body_fn *body)
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
static inline void check_shell(struct init *init, const char *script, int code, const char *out, const char *err_out)
{
	struct job job;

	job_init(&job);
	job_run_shell(&job, init, script);
	CHECK_EXITED(&job, code);
	CHECK_STR(job_out(&job), out);
	CHECK_STR(job_err_out(&job), err_out);
	job_deinit(&job);
}

struct cancelled {
	struct init *init;
	struct job job;
	const char *script;
	const char *cwd;
};

static inline void run_to_be_cancelled(void *arg)
{
	struct cancelled *c = arg;

	job_init(&c->job);
	c->job.spec.cwd = c->cwd;
	c->job.spec.grace_ms = 50;
	job_run_shell(&c->job, c->init, c->script);
}

#endif
