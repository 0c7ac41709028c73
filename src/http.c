/*
 * A call: its attempts, the pauses between them, and redirects inside the origin. One deadline spans all of it. A client has two pools
 * of connections: in HTTP/2, libcurl stops reading a whole connection while the consumer of one of its streams is behind, and over
 * HTTP/1 a running command occupies one; neither may make a short call wait.
 */
#include "http_internal.h"
#include "http_retry.h"

#include "base/mem.h"
#include "base/str.h"
#include "secret.h"

#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#define REDIRECTS_MAX 5
/* Descriptors that are left to others: pipes of commands, files. */
#define DESCRIPTORS_SPARED 256
#define LONG_CALLS_MAX 1024

/* --- the client --- */

static long connections_max(void)
{
	struct rlimit limit;
	long max = LONG_CALLS_MAX;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < LONG_CALLS_MAX + DESCRIPTORS_SPARED)
		max = (long)limit.rlim_cur - DESCRIPTORS_SPARED;
	return max > 64 ? max : 64;
}

struct http_client *http_client_create(const char *user_agent)
{
	struct http_client *client = xcalloc(1, sizeof(*client));
	struct http_pool_limits short_calls = {.per_host = 64, .total = 128, .per_lane = 2};
	struct http_pool_limits long_calls = {.per_host = connections_max(), .total = connections_max(), .per_lane = 64};

	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		abort(); /* out of memory */
	client->user_agent = xstrdup(user_agent);
	http_trust_init(&client->trust, http_trust_system_candidates());
	http_pool_init(&client->short_calls, client, &short_calls);
	http_pool_init(&client->long_calls, client, &long_calls);
	return client;
}

void http_client_destroy(struct http_client *client)
{
	if (!client)
		return;
	http_pool_deinit(&client->short_calls);
	http_pool_deinit(&client->long_calls);
	http_trust_deinit(&client->trust);
	curl_global_cleanup();
	free(client->user_agent);
	free(client);
}

struct http_stats http_client_stats(const struct http_client *client)
{
	return client->stats;
}

/* --- attempts --- */

static double random_fraction(void)
{
	uint32_t bits = 0;

	if (getrandom(&bits, sizeof(bits), GRND_NONBLOCK) < 0)
		return 0.5;
	return (double)bits / 4294967296.0;
}

static int64_t unix_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The pause before a further attempt, or -1. */
static int64_t pause_before_next(const struct http_request *request, const struct http_response *response, const struct http_outcome *outcome,
				 int rc, const struct err *err)
{
	struct http_attempt attempt = {
		.number = response->attempts,
		.status = rc == 0 ? response->status : 0,
		.sent = outcome->sent,
		.hopeless = outcome->hopeless || outcome->consumed || (rc < 0 && !err_is(err, ERR_TRANSPORT) && !err_is(err, ERR_TIMEOUT)),
		.retry_after_ms = http_retry_after(http_header(response, "Retry-After"), unix_now_ms()),
	};

	return http_retry_pause(&request->retry, &attempt, random_fraction(), deadline_left_ms());
}

static void reset(struct http_response *response)
{
	struct http_response kept = {.attempts = response->attempts, .sent = response->sent, .http2_error = -1};

	http_response_deinit(response);
	*response = kept;
}

/* Attempts until one succeeds or none is left. */
static int attempt(struct http_client *client, const struct http_request *request, const struct http_target *target,
		   struct http_response *response, struct err *err)
{
	for (;;) {
		struct http_outcome outcome = {0};
		struct err failure = ERR_INIT;

		reset(response);
		response->attempts++;
		int rc = http_transfer(client, request, target, response, &outcome, &failure);
		int64_t pause = pause_before_next(request, response, &outcome, rc, &failure);

		if (pause < 0)
			return rc < 0 ? err_move(err, &failure) : 0;
		/* If the wait is ended, what went wrong is the better text, except for a cancellation. */
		cleanup_err struct err wait = ERR_INIT;

		if (fiber_sleep(pause, &wait) < 0) {
			if (err_is(&wait, ERR_CANCELLED) || rc == 0) {
				err_clear(&failure);
				return err_move(err, &wait);
			}
			return err_move(err, &failure);
		}
		err_clear(&failure);
	}
}

/* --- redirects --- */

static bool keeps_meaning(const struct http_request *request, int status)
{
	if (status == 307 || status == 308)
		return true;
	return (status == 301 || status == 302 || status == 303) &&
	       (strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0);
}

/* The place that the answer points to, absolute, owned; NULL: none, or not one of the same origin. */
static char *redirected(const struct http_request *request, const struct http_target *from, const struct http_response *response)
{
	const char *location = http_header(response, "Location");
	struct url to;

	if (!request->follow_redirects || !location || !keeps_meaning(request, response->status))
		return NULL;
	cleanup_free char *origin = url_origin(&from->url);
	/* "/path" and absolute URLs are what services send; what is relative to the path in another way is not followed. */
	bool is_path = *location == '/' && location[1] != '/' && location[1] != '\\';
	char *text = is_path ? xasprintf("%s%s", origin, location) : xstrdup(location);
	bool same = url_parse(text, &to, NULL) == 0 && url_same_origin(&from->url, &to);

	url_deinit(&to);
	if (!same)
		str_wipe_free(text);
	return same ? text : NULL;
}

static bool can_be_sent_again(const struct http_request *request)
{
	struct http_upload upload;
	bool can = http_upload_init(&upload, &request->body, NULL, NULL) == 0 && !http_upload_has_source(&upload);

	http_upload_deinit(&upload);
	return can;
}

static int follow(struct http_client *client, const struct http_request *request, struct http_target *target, struct http_response *response,
		  struct err *err)
{
	for (int i = 0; i < REDIRECTS_MAX; i++) {
		if (attempt(client, request, target, response, err) < 0)
			return -1;
		char *next = redirected(request, target, response);

		if (!next || !can_be_sent_again(request)) {
			str_wipe_free(next);
			return 0;
		}
		http_target_deinit(target);
		int rc = http_target_init(target, next, false, err);

		str_wipe_free(next);
		if (rc < 0)
			return -1;
		http_target_use_options(target, request->options);
	}
	return err_set(err, ERR_PROTOCOL, "%s redirects in a circle", target->where);
}

/* The words for the deadline of the whole call, which passed in some wait of it. */
static void describe_timeout(const struct http_request *request, const struct http_target *target, int64_t started_ms, struct err *err)
{
	int64_t total = request->deadlines.total_ms;

	if (!err_is(err, ERR_TIMEOUT) || deadline_left_ms() > 0)
		return;
	err_clear(err);
	if (total > 0 && loop_now_ms() - started_ms >= total)
		err_set(err, ERR_TIMEOUT, "no complete answer from %s within %lld ms", target->where, (long long)total);
	else
		err_set(err, ERR_TIMEOUT, "no complete answer from %s before the deadline", target->where);
}

/* Services echo what they were sent into their errors. Of "Bearer x" the secret is x. */
static void hold_credentials(const struct http_request *request, struct secret_set *set)
{
	static const char *const names[] = {"Authorization", "X-API-Key", "X-Access-Token", "Cookie"};

	for (const struct http_header *h = request->headers; h && h->name; h++) {
		for (size_t i = 0; h->value && i < sizeof(names) / sizeof(*names); i++) {
			const char *blank = strchr(h->value, ' ');

			if (strcasecmp(h->name, names[i]) == 0)
				secret_set_hold(set, blank ? blank + 1 : h->value);
		}
	}
}

int http_perform(struct http_client *client, const struct http_request *request, struct http_response *response, struct err *err)
{
	struct http_target target = {0};
	struct fiber_scope scope;
	struct secret_set held = {0};
	struct err failure = ERR_INIT;
	int64_t started_ms = loop_now_ms();

	*response = (struct http_response){.http2_error = -1};
	hold_credentials(request, &held);
	deadline_enter(&scope, request->deadlines.total_ms > 0 ? request->deadlines.total_ms : DEADLINE_NONE);
	int rc = http_target_init(&target, request->url, false, &failure);

	if (rc == 0)
		http_target_use_options(&target, request->options);
	if (rc == 0)
		rc = follow(client, request, &target, response, &failure);
	describe_timeout(request, &target, started_ms, &failure);
	scope_leave(&scope);
	http_target_deinit(&target);
	secret_set_deinit(&held);
	response->total_ms = loop_now_ms() - started_ms;
	if (rc < 0)
		return err_move(err, &failure);
	buf_append(&response->body, "", 0);
	return 0;
}
