/*
 * bench_client [-d DRIVER] [-c CONFIG] MEASURE COUNT WORKER [ARG...]: one measure of one worker, printed as NAME VALUE lines. scripts/bench
 * puts them together. It is in C so that what is measured is the worker: one core makes and counts over a million short answers a second.
 */
#include "base/cleanup.h"
#include "base/mem.h"
#include "peer.h"

#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COMPANY "\"companyId\":\"5b0c1f0e-6a0e-4a44-9d3c-2f4c7a1f0001\""
#define SETTLE_MS 500
#define SLOW_STALL_MS 1500
#define SLOW_READ_BYTES (64 * 1024)
#define SLOW_PAUSE_MS 2 /* some 30 MB/s */

struct bench {
	const char *driver, *config;
	int count;
	char **argv;
	int next_id;
};

struct lease {
	char *id;   /* JSON */
	char *text; /* the whole result */
	char *cwd;  /* JSON */
};

static char *request(struct bench *b, const char *method, const char *params)
{
	return xasprintf("{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\",\"params\":{%s}}\n", b->next_id++, method, params);
}

/* An environment request, with what the host says of its invocation. */
static char *environment_request(struct bench *b, const char *method, const char *params)
{
	int id = b->next_id++;

	return xasprintf(
		"{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\",\"params\":{\"driverKey\":\"%s\"," COMPANY
		",\"environmentId\":\"bench\","
		"\"issueId\":null,\"config\":%s,%s},\"paperclipInvocation\":{\"id\":\"invocation-%d\",\"scope\":{" COMPANY
		"}}}\n",
		id, method, b->driver, b->config, params, id);
}

static const char *call(struct peer *p, const char *text)
{
	return peer_call(p, text, strlen(text));
}

static void start(struct bench *b, struct peer *p)
{
	static const char params[] =
		"\"manifest\":{},\"config\":{},\"instanceInfo\":{\"instanceId\":\"default\",\"hostVersion\":\"0.0.0\","
		"\"deploymentMode\":\"local_trusted\",\"deploymentExposure\":\"private\"},\"apiVersion\":1,\"databaseNamespace\":"
		"null";
	cleanup_free char *text = request(b, "initialize", params);

	peer_start(p, b->argv);
	call(p, text);
}

/* The JSON string after the key, quotes included. */
static char *json_string(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	const char *value = at ? at + strlen(key) : NULL;
	const char *end = value && *value == '"' ? strchr(value + 1, '"') : NULL;

	if (!end)
		errx(1, "no %s in %.300s", key, text);
	return xstrndup(value, (size_t)(end - value) + 1);
}

static struct lease acquire(struct bench *b, struct peer *p)
{
	cleanup_free char *text = environment_request(b, "environmentAcquireLease", "\"runId\":\"run\"");
	const char *result = call(p, text);
	size_t len = strlen(result);

	return (struct lease){
		.id = json_string(result, "\"providerLeaseId\":"),
		.cwd = json_string(result, "\"remoteCwd\":"),
		.text = xstrndup(result, len - 1), /* without the message's brace */
	};
}

static void release(struct bench *b, struct peer *p, struct lease *lease)
{
	cleanup_free char *params = xasprintf("\"providerLeaseId\":%s", lease->id);
	cleanup_free char *text = environment_request(b, "environmentReleaseLease", params);

	call(p, text);
	free(lease->id);
	free(lease->text);
	free(lease->cwd);
}

/* command: JSON members */
static char *execute_request(struct bench *b, const struct lease *lease, const char *command)
{
	cleanup_free char *params = xasprintf("\"lease\":%s,%s,\"cwd\":%s,\"env\":{},\"bypassSession\":true", lease->text,
					      command, lease->cwd);

	return environment_request(b, "environmentExecute", params);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void print_percentiles(double *values, int count)
{
	qsort(values, (size_t)count, sizeof(*values), compare);
	printf("p50_ms %.4f\np90_ms %.4f\n", values[count / 2], values[(int)(count * 0.9)]);
}

/* --- measures --- */

static void measure_start(struct bench *b)
{
	double *times = xcalloc((size_t)b->count, sizeof(*times));

	for (int i = 0; i < b->count; i++) {
		struct peer p;
		double begin = now_ms();

		start(b, &p);
		times[i] = now_ms() - begin;
		peer_stop(&p);
	}
	print_percentiles(times, b->count);
	free(times);
}

static void measure_idle(struct bench *b)
{
	struct peer p;

	start(b, &p);
	sleep_ms(SETTLE_MS);
	struct memory m = peer_memory(&p);

	printf("rss_kib %ld\npss_kib %ld\nprivate_dirty_kib %ld\n", m.rss, m.pss, m.private_dirty);
	peer_stop(&p);
}

static void measure_health(struct bench *b)
{
	double *times = xcalloc((size_t)b->count, sizeof(*times));
	struct peer p;

	start(b, &p);
	for (int i = 0; i < b->count; i++) {
		cleanup_free char *text = request(b, "health", "");
		double begin = now_ms();

		call(&p, text);
		times[i] = now_ms() - begin;
	}
	print_percentiles(times, b->count);
	peer_stop(&p);
	free(times);
}

static void measure_pipeline(struct bench *b)
{
	struct buf all = BUF_INIT(BUF_UNBOUNDED);
	struct peer p;

	for (int i = 0; i < b->count; i++) {
		cleanup_free char *text = request(b, "health", "");

		buf_append_str(&all, text);
	}
	start(b, &p);
	double begin = now_ms();

	peer_queue(&p, all.data, all.len);
	peer_await(&p, p.answers + b->count);
	printf("per_s %.0f\n", b->count / (now_ms() - begin) * 1e3);
	peer_stop(&p);
	buf_deinit(&all);
}

static void measure_execute(struct bench *b)
{
	double *times = xcalloc((size_t)b->count, sizeof(*times));
	struct peer p;

	start(b, &p);
	struct lease lease = acquire(b, &p);

	for (int i = -10; i < b->count; i++) { /* the first ones warm up */
		cleanup_free char *text = execute_request(b, &lease, "\"command\":\"/bin/true\",\"args\":[]");
		double begin = now_ms();

		call(&p, text);
		if (i >= 0)
			times[i] = now_ms() - begin;
	}
	print_percentiles(times, b->count);
	release(b, &p, &lease);
	peer_stop(&p);
	free(times);
}

static void measure_acquire(struct bench *b)
{
	double *times = xcalloc((size_t)b->count, sizeof(*times));
	struct peer p;

	start(b, &p);
	for (int i = 0; i < b->count; i++) {
		double begin = now_ms();
		struct lease lease = acquire(b, &p);

		times[i] = now_ms() - begin;
		release(b, &p, &lease);
	}
	print_percentiles(times, b->count);
	peer_stop(&p);
	free(times);
}

static void measure_concurrent(struct bench *b)
{
	struct buf all = BUF_INIT(BUF_UNBOUNDED);
	struct peer p;

	start(b, &p);
	struct lease lease = acquire(b, &p);

	for (int i = 0; i < b->count; i++) {
		cleanup_free char *text = execute_request(b, &lease, "\"command\":\"/bin/true\",\"args\":[]");

		buf_append_str(&all, text);
	}
	double begin = now_ms();

	peer_queue(&p, all.data, all.len);
	peer_await(&p, p.answers + b->count);
	printf("ms %.1f\npeak_kib %ld\n", now_ms() - begin, peer_peak(&p));
	release(b, &p, &lease);
	peer_stop(&p);
	buf_deinit(&all);
}

/* The text that a command prints: some escapes, and some characters of two and three bytes, as logs have them. */
static char *make_file(int bytes)
{
	static const char line[] =
		"2026-01-01T00:00:00Z info \"build\" step finished in 1.25 s, größer als gestern → ok; next one starts\n";
	char *path = xasprintf("%s/bench-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	int fd = mkstemp(path);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (!file)
		err(1, "%s", path);
	for (size_t left = (size_t)bytes; left > 0;) {
		size_t n = left < sizeof(line) - 1 ? left : sizeof(line) - 1;

		fwrite(line, 1, n, file);
		left -= n;
	}
	if (fclose(file) != 0)
		err(1, "%s", path);
	return path;
}

static char *cat_request(struct bench *b, const struct lease *lease, const char *path)
{
	cleanup_free char *command = xasprintf("\"command\":\"/bin/cat\",\"args\":[\"%s\"]", path);

	return execute_request(b, lease, command);
}

static void check_whole(const struct peer *p, int bytes)
{
	if (p->last_len < (size_t)bytes)
		errx(1, "the result has %zu bytes of %d", p->last_len, bytes);
}

/* The invocation is left out: then nothing is streamed, and the output comes in the result alone. */
static void drop_invocation(char *text)
{
	char *at = strstr(text, ",\"paperclipInvocation\"");

	memcpy(at, "}\n", 3);
}

static void measure_bulk(struct bench *b)
{
	cleanup_free char *path = make_file(b->count);
	struct peer p;

	start(b, &p);
	struct lease lease = acquire(b, &p);
	cleanup_free char *text = cat_request(b, &lease, path);

	drop_invocation(text);
	double begin = now_ms();

	call(&p, text);
	double seconds = (now_ms() - begin) / 1e3;

	check_whole(&p, b->count);
	printf("mb_per_s %.1f\npeak_kib %ld\n", b->count / 1e6 / seconds, peer_peak(&p));
	release(b, &p, &lease);
	peer_stop(&p);
	unlink(path);
}

/* The host reads nothing for a while, then slowly. */
static void measure_slow(struct bench *b)
{
	cleanup_free char *path = make_file(b->count);
	struct peer p;

	start(b, &p);
	struct lease lease = acquire(b, &p);
	cleanup_free char *text = cat_request(b, &lease, path);
	int64_t before = p.answers;

	peer_queue(&p, text, strlen(text));
	peer_pump(&p, 0);
	sleep_ms(SLOW_STALL_MS);
	long early = peer_memory(&p).rss;

	sleep_ms(SLOW_STALL_MS);
	long late = peer_memory(&p).rss;

	p.read_max = SLOW_READ_BYTES;
	while (p.answers == before) {
		peer_pump(&p, -1);
		sleep_ms(SLOW_PAUSE_MS);
	}
	check_whole(&p, b->count);
	printf("stalled_kib %ld\nstalled_growth_kib %ld\npeak_kib %ld\nread_mb %.1f\n", late, late - early, peer_peak(&p),
	       (double)p.read_bytes / 1e6);
	release(b, &p, &lease);
	peer_stop(&p);
	unlink(path);
}

static const struct {
	const char *name;
	void (*run)(struct bench *b);
} measures[] = {
	{"start", measure_start},           {"idle", measure_idle},       {"health", measure_health},
	{"pipeline", measure_pipeline},     {"execute", measure_execute}, {"acquire", measure_acquire},
	{"concurrent", measure_concurrent}, {"bulk", measure_bulk},       {"slow", measure_slow},
};

int main(int argc, char **argv)
{
	struct bench b = {.driver = "fake-plugin", .config = "{}", .next_id = 1};
	int option;

	while ((option = getopt(argc, argv, "+d:c:")) != -1) {
		if (option == 'd')
			b.driver = optarg;
		else if (option == 'c')
			b.config = optarg;
		else
			return 2;
	}
	if (argc - optind < 3)
		errx(2, "usage: bench_client [-d DRIVER] [-c CONFIG] MEASURE COUNT WORKER [ARG...]");
	b.count = (int)strtol(argv[optind + 1], NULL, 10);
	b.argv = argv + optind + 2;
	for (size_t i = 0; i < sizeof(measures) / sizeof(measures[0]); i++) {
		if (strcmp(measures[i].name, argv[optind]) == 0) {
			measures[i].run(&b);
			return 0;
		}
	}
	errx(2, "no such measure: %s", argv[optind]);
}
