/*
 * The whole core with a provider of the test's own ("toy"), a thread in the host's place: what requests, cancellation and shutdown do
 * to leases and answers.
 */
#include "base/mem.h"
#include "fiber.h"
#include "host_call.h"
#include "tap.h"
#include "worker.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

/* --- the toy provider --- */

#define ACQUIRE_TURNS 8

static int sandboxes;   /* that exist */
static int created;     /* ever */
static int cancel_turn; /* at which acquire is cancelled; -1: never */
static int stops;

static int turn(int number, struct err *err)
{
	if (number == cancel_turn)
		fiber_cancel(fiber_self());
	return fiber_yield(err);
}

static int toy_validate(const json_t *config, struct validation *ret, struct err *err)
{
	(void)err;
	if (json_object_get(config, "bad"))
		strv_add(&ret->errors, "bad must not be set.");
	ret->normalized = json_object();
	return 0;
}

static int toy_acquire(struct op *op, const struct acquire_params *p, struct lease_result *ret, struct err *err)
{
	(void)op, (void)p;
	for (int i = 0; i < ACQUIRE_TURNS; i++) {
		if (turn(i, err) < 0) {
			sandboxes -= i > ACQUIRE_TURNS / 2;
			return -1;
		}
		if (i == ACQUIRE_TURNS / 2) {
			sandboxes++;
			created++;
		}
	}
	/* The cancellation that comes with the very last turn is not seen here: the core has to undo. */
	if (cancel_turn == ACQUIRE_TURNS)
		fiber_cancel(fiber_self());
	ret->provider_lease_id = xstrdup("toy-1");
	return 0;
}

static int toy_destroy(struct op *op, const struct lease_params *p, enum lease_end *ret, struct err *err)
{
	(void)op, (void)p;
	if (fiber_yield(err) < 0)
		return -1;
	if (sandboxes > 0)
		sandboxes--;
	*ret = LEASE_DESTROYED;
	return 0;
}

static int ask_host(struct op *op, struct err *err)
{
	cleanup_json json_t *params = json_pack("{s:s}", "companyId", "c-1");
	cleanup_json json_t *answer = NULL;

	if (host_call(op, "config.get", params, &answer, err) < 0)
		return -1;
	cleanup_free char *text = json_dumps(answer, JSON_ENCODE_ANY);

	output_put(op_output(op), OUTPUT_STDOUT, text, strlen(text));
	return 0;
}

static int toy_execute(struct op *op, const struct execute_params *p, struct execute_result *ret, struct err *err)
{
	ret->has_exit_code = true;
	if (str_eq(p->command, "ask"))
		return ask_host(op, err);
	output_put(op_output(op), OUTPUT_STDOUT, "started", 7);
	return fiber_sleep(60000, err); /* "hang" */
}

static void toy_stop(void *state)
{
	(void)state;
	stops++;
}

static const struct provider toy = {
	.driver_key = "toy",
	.declaration = "{\"driverKey\":\"toy\",\"configSchema\":{\"properties\":{\"apiKey\":{\"format\":\"secret-ref\"}}}}",
	.stop = toy_stop,
	.validate_config = toy_validate,
	.acquire_lease = toy_acquire,
	.destroy_lease = toy_destroy,
	.execute = toy_execute,
};

static const struct provider *const registry[] = {&toy, NULL};

/* --- the host --- */

struct host {
	int fd;
	FILE *in;
	void (*play)(struct host *host);
	unsigned answers[16]; /* by id */
};

static void host_send(struct host *host, const char *line)
{
	CHECK(send(host->fd, line, strlen(line), MSG_NOSIGNAL) == (ssize_t)strlen(line));
	CHECK(send(host->fd, "\n", 1, MSG_NOSIGNAL) == 1);
}

/* Reads up to the answer to id, or the request with this method; new reference. NULL at the end of the stream. */
static json_t *host_expect(struct host *host, int id, const char *method)
{
	cleanup_free char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, host->in) > 0) {
		json_t *message = json_loads(line, 0, NULL);
		int got = (int)json_integer_value(json_object_get(message, "id"));
		const char *name = json_string_value(json_object_get(message, "method"));

		CHECK(message);
		if (!name && got < 16)
			host->answers[got]++;
		if (name ? str_eq(name, method) : !method && got == id)
			return message;
		json_decref(message);
	}
	return NULL;
}

static void host_expect_text(struct host *host, int id, const char *part)
{
	cleanup_json json_t *answer = host_expect(host, id, NULL);
	cleanup_free char *text = answer ? json_dumps(answer, JSON_COMPACT) : xstrdup("(nothing)");

	if (!strstr(text, part))
		tap_fail(__FILE__, __LINE__, "%s lacks %s", text, part);
}

static void *host_main(void *arg)
{
	struct host *host = arg;

	host->play(host);
	shutdown(host->fd, SHUT_WR);
	while (host_expect(host, -1, NULL))
		;
	return NULL;
}

/* Runs a worker with play() as its host; returns the exit status. */
static int run_worker(struct host *host, void (*play)(struct host *host), const char *record_path)
{
	struct worker_options options = {.version = "0", .providers = registry, .record_path = record_path};
	struct worker *worker = NULL;
	pthread_t thread;
	int fds[2];

	*host = (struct host){.play = play};
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	host->fd = fds[0];
	host->in = fdopen(dup(fds[0]), "r");
	CHECK_INT(worker_create(&options, &worker, NULL), 0);
	CHECK_INT(pthread_create(&thread, NULL, host_main, host), 0);
	int status = worker_serve(worker, fds[1], dup(fds[1]));

	worker_destroy(worker);
	pthread_join(thread, NULL);
	fclose(host->in);
	close(host->fd);
	return status;
}

/* --- the tests --- */

#define ACQUIRE(id)                                                                                                              \
	"{\"jsonrpc\":\"2.0\",\"id\":" #id ",\"method\":\"environmentAcquireLease\",\"params\":{\"driverKey\":\"toy\"}}"
#define EXECUTE(id, command, company)                                                                                            \
	"{\"jsonrpc\":\"2.0\",\"id\":" #id                                                                                       \
	",\"method\":\"environmentExecute\",\"params\":{\"driverKey\":\"toy\",\"companyId\":\"" company                          \
	"\",\"environmentId\":\"e\",\"lease\":{\"providerLeaseId\":\"toy-1\"},\"command\":\"" command                            \
	"\"},\"paperclipInvocation\":{\"id\":\"inv-" #id "\",\"scope\":{\"companyId\":\"" company "\"}}}"
#define DESTROY(id, company)                                                                                                     \
	"{\"jsonrpc\":\"2.0\",\"id\":" #id                                                                                       \
	",\"method\":\"environmentDestroyLease\",\"params\":{\"driverKey\":\"toy\",\"companyId\":\"" company                     \
	"\",\"environmentId\":\"e\",\"providerLeaseId\":\"toy-1\"}}"
#define SHUTDOWN(id) "{\"jsonrpc\":\"2.0\",\"id\":" #id ",\"method\":\"shutdown\"}"

static void acquire_once(struct host *host)
{
	host_send(host, ACQUIRE(1));
	if (cancel_turn < 0)
		host_expect_text(host, 1, "\"providerLeaseId\":\"toy-1\"");
	else
		host_expect_text(host, 1, "\"error\"");
}

TEST(acquire_leaves_no_sandbox_whatever_turn_it_is_cancelled_at)
{
	struct host host;

	for (cancel_turn = 0; cancel_turn <= ACQUIRE_TURNS; cancel_turn++) {
		sandboxes = created = stops = 0;
		CHECK_INT(run_worker(&host, acquire_once, NULL), 0);
		CHECK_INT(sandboxes, 0);
		CHECK_INT(created, cancel_turn > ACQUIRE_TURNS / 2);
		CHECK_INT(host.answers[1], 1);
		CHECK_INT(stops, 1);
	}
	cancel_turn = -1;
	sandboxes = 0;
	run_worker(&host, acquire_once, NULL);
	CHECK_INT(sandboxes, 1);
}

static void ask_and_answer(struct host *host)
{
	host_send(host, EXECUTE(1, "ask", "c-1"));
	cleanup_json json_t *request = host_expect(host, 0, "config.get");

	CHECK_STR(json_string_value(json_object_get(request, "paperclipInvocationId")), "inv-1");
	CHECK_STR(json_string_value(json_object_get(json_object_get(request, "params"), "companyId")), "c-1");
	CHECK_INT(json_integer_value(json_object_get(request, "id")), 1);
	host_send(host, "{\"jsonrpc\":\"2.0\",\"id\":77,\"result\":\"to nobody\"}");
	host_send(host, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":[1]}}");
	host_expect_text(host, 1, "\"stdout\":\"{\\\"a\\\": [1]}\"");
	host_send(host, EXECUTE(2, "ask", "c-1"));
	json_decref(host_expect(host, 0, "config.get"));
	host_send(host, "{\"jsonrpc\":\"2.0\",\"id\":2,\"error\":{\"code\":-32001,\"message\":\"capability denied\"}}");
	host_expect_text(host, 2, "config.get: capability denied");
}

TEST(the_worker_can_ask_its_host_and_answers_are_matched_by_id)
{
	struct host host;

	CHECK_INT(run_worker(&host, ask_and_answer, NULL), 0);
	CHECK_INT(host.answers[1], 1);
	CHECK_INT(host.answers[2], 1);
}

static void destroy_under_an_execute(struct host *host)
{
	host_send(host, EXECUTE(1, "hang", "c-1"));
	host_send(host, EXECUTE(2, "hang", "c-2"));
	json_decref(host_expect(host, 0, "execute.log"));
	json_decref(host_expect(host, 0, "execute.log"));
	host_send(host, DESTROY(3, "c-1"));
	host_expect_text(host, 1, "its sandbox lease was destroyed");
	host_expect_text(host, 3, "\"state\":\"destroyed\"");
	CHECK_INT(host->answers[2], 0);
	host_send(host, SHUTDOWN(4));
	host_expect_text(host, 2, "The worker is shutting down.");
	host_expect_text(host, 4, "\"result\":null");
}

TEST(destroy_ends_the_executes_of_its_lease_and_of_no_other_company)
{
	struct host host;

	CHECK_INT(run_worker(&host, destroy_under_an_execute, NULL), 0);
	for (int id = 1; id <= 4; id++)
		CHECK_INT(host.answers[id], 1);
}

/* More than there are stacks; too slow under valgrind. */
static int many(void)
{
	return RUNNING_ON_VALGRIND ? 500 : 11000;
}

static void hang_many(struct host *host)
{
	char line[512];

	for (int i = 0; i < many(); i++) {
		snprintf(line, sizeof(line),
			 "{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"environmentExecute\",\"params\":{\"driverKey\":\"toy\","
			 "\"companyId\":\"c\","
			 "\"environmentId\":\"e\",\"lease\":{\"providerLeaseId\":\"toy-1\"},\"command\":\"hang\"}}");
		host_send(host, line);
	}
	/* A shutdown has less time than a busy machine needs for so many. */
	host_send(host, DESTROY(10, "c"));
	host_expect_text(host, 10, "\"state\":\"destroyed\"");
	host_send(host, SHUTDOWN(11));
	host_expect_text(host, 11, "\"result\":null");
}

TEST(more_requests_than_stacks_are_all_answered)
{
	struct host host;

	CHECK_INT(run_worker(&host, hang_many, NULL), 0);
	CHECK_INT(host.answers[9], many());
	CHECK_INT(host.answers[10], 1);
	CHECK_INT(host.answers[11], 1);
}

static void end_input(struct host *host)
{
	host_send(host, EXECUTE(1, "hang", "c-1"));
	json_decref(host_expect(host, 0, "execute.log"));
}

TEST(the_end_of_input_cancels_what_runs_and_exits_with_0)
{
	struct host host;

	stops = 0;
	CHECK_INT(run_worker(&host, end_input, NULL), 0);
	CHECK_INT(stops, 1);
	CHECK_INT(host.answers[1], 1);
}

static void send_secrets(struct host *host)
{
	host_send(host,
		  "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"environmentValidateConfig\",\"params\":{\"driverKey\":\"toy\","
		  "\"config\":{\"apiKey\":\"s3cret\",\"bad\":1}}}");
	host_expect_text(host, 1, "{\"ok\":false,\"errors\":[\"bad must not be set.\"]}");
	host_send(host, "not json s3cret-free");
	host_expect_text(host, 0, "Parse error");
}

TEST(a_recording_has_every_line_both_ways_and_no_secret)
{
	struct host host;
	char path[] = "/tmp/psw-record-XXXXXX", text[4096];
	int fd = mkstemp(path);

	CHECK_INT(run_worker(&host, send_secrets, path), 0);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	CHECK(strstr(text, "\"dir\":\"in\",\"line\":{\"jsonrpc\":\"2.0\",\"id\":1,"));
	CHECK(strstr(text, "\"dir\":\"out\",\"line\":{\"jsonrpc\":\"2.0\",\"id\":1,"));
	CHECK(strstr(text, "\"dir\":\"in\",\"raw\":\"not json"));
	CHECK(strstr(text, "\"apiKey\":\"***\""));
	CHECK(!strstr(text, "\"s3cret\""));
	close(fd);
	unlink(path);
}

TEST(a_recording_that_cannot_be_opened_is_an_error)
{
	struct worker_options options = {.version = "0", .providers = registry, .record_path = "/nowhere/at/all"};
	struct worker *worker = NULL;
	cleanup_err struct err err = ERR_INIT;

	CHECK_INT(worker_create(&options, &worker, &err), -1);
	CHECK_STR(err_text(&err), "open /nowhere/at/all: No such file or directory");
}

TEST_MAIN()
