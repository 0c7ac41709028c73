/* What passes between a command and the worker, and how fast. */
#include "process_fixture.h"

#include <pty.h>
#include <sys/socket.h>

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

PROCESS_TEST(text_goes_before_what_a_descriptor_gives)
{
	cleanup_free char *dir = make_scratch();
	cleanup_free char *path = put_file(dir, "file", "from a file\n", 0644);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct input input = {.data = "first\n", .len = 6, .fd = fd};
	struct job job;
	char cat[] = "cat";

	job_init(&job);
	job.spec.input = &input;
	job_run(&job, init, (char *const[]){cat, NULL});
	CHECK_EXITED(&job, 0);
	CHECK_STR(job_out(&job), "first\nfrom a file\n");
	job_deinit(&job);
	remove_scratch(dir);
}

/* --- input without an end, output to somebody else --- */

PROCESS_TEST(command_is_not_told_the_end_of_an_input_that_stays_open)
{
	cleanup_free char *bytes = make_bytes(300000);
	static const size_t sizes[] = {0, 10, 300000};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct input input = {.data = bytes, .len = sizes[i], .fd = -1, .stays_open = true};
		struct job job;

		job_init(&job);
		job.spec.input = &input;
		job.spec.timeout_ms = 300;
		job_run_shell(&job, init, "wc -c");
		CHECK(job.rc == 0 && job.result.timed_out);
		CHECK_INT(input.taken, sizes[i]);
		CHECK_STR(job_out(&job), "");
		job_deinit(&job);
	}
}

static int take_bytes(void *arg, enum output_stream stream, const char *bytes, size_t n, bool may_wait, struct err *err)
{
	struct buf *texts = arg;

	return buf_append(&texts[stream], bytes, n) == 0 ? 0 : err_set(err, ERR_REMOTE, "that is enough");
}

PROCESS_TEST(output_can_be_taken_by_somebody_else)
{
	struct buf texts[2] = {BUF_INIT(100), BUF_INIT(100)};
	struct job job;

	job_init(&job);
	job.spec.output = NULL;
	job.spec.on_output = take_bytes;
	job.spec.on_output_arg = texts;
	job_run_shell(&job, init, "echo out; echo err >&2; exit 3");
	CHECK_EXITED(&job, 3);
	CHECK_MEM(texts[0].data, texts[0].len, "out\n", 4);
	CHECK_MEM(texts[1].data, texts[1].len, "err\n", 4);
	job_deinit(&job);
	buf_deinit(&texts[0]);
	buf_deinit(&texts[1]);
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

struct slow_run {
	struct init *init;
	struct job job;
};

static void run_slowly(void *arg)
{
	struct slow_run *run = arg;

	job_run_shell(&run->job, run->init, "head -c 20000000 /dev/zero");
}

PROCESS_TEST(command_is_read_no_faster_than_the_host_takes)
{
	struct slow_host host = {.closed = true};
	struct output_sink sink = {.raw = slow_take, .wait = slow_wait, .arg = &host};
	struct slow_run one = {.init = init};
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

	/* Longer on a busy machine, where it takes a while until something was printed. */
	for (int64_t ms = 150; host.taken == 0 && ms < LONG_MS; ms *= 4) {
		struct job job;

		job_init(&job);
		output_destroy(job.output);
		job.output = output_create(&sink);
		job.spec.output = job.output;
		job.spec.timeout_ms = ms;
		job_run_shell(&job, init, "yes");
		CHECK_INT(job.rc, 0);
		CHECK(job.result.timed_out);
		CHECK_INT(job.result.term_signal, SIGTERM);
		job_deinit(&job);
	}
	CHECK(host.taken > 0);
}

TEST_MAIN()
