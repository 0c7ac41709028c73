#include "http_retry.h"
#include "tap.h"

static int64_t pause_of(enum http_repeat repeat, struct http_attempt attempt, double random, int64_t left_ms)
{
	if (attempt.number == 0)
		attempt.number = 1;
	return http_retry_pause(&(struct http_retry){.repeat = repeat}, &attempt, random, left_ms);
}

#define REPEATED(repeat, ...) (pause_of(repeat, (struct http_attempt){.retry_after_ms = -1, __VA_ARGS__}, 0, 60000) >= 0)

TEST(what_surely_did_not_arrive_is_repeated_for_any_method)
{
	CHECK(REPEATED(HTTP_REPEAT_UNSENT, .sent = false));
	CHECK(!REPEATED(HTTP_REPEAT_UNSENT, .sent = true));
	CHECK(!REPEATED(HTTP_REPEAT_REJECTED, .sent = true));
	CHECK(REPEATED(HTTP_REPEAT_IDEMPOTENT, .sent = true));
	CHECK(!REPEATED(HTTP_REPEAT_NEVER, .sent = false));
	CHECK(!REPEATED(HTTP_REPEAT_IDEMPOTENT, .sent = false, .hopeless = true));
}

TEST(answers_are_repeated_by_their_status)
{
	static const int rejected[] = {429, 503}, transient[] = {408, 500, 502, 504}, final[] = {200, 204, 301, 400, 401, 403, 404, 409, 410, 413, 422, 501, 507};

	for (size_t i = 0; i < sizeof(rejected) / sizeof(*rejected); i++) {
		CHECK(!REPEATED(HTTP_REPEAT_UNSENT, .status = rejected[i], .sent = true));
		CHECK(REPEATED(HTTP_REPEAT_REJECTED, .status = rejected[i], .sent = true));
		CHECK(REPEATED(HTTP_REPEAT_IDEMPOTENT, .status = rejected[i], .sent = true));
	}
	for (size_t i = 0; i < sizeof(transient) / sizeof(*transient); i++) {
		CHECK(!REPEATED(HTTP_REPEAT_REJECTED, .status = transient[i], .sent = true));
		CHECK(REPEATED(HTTP_REPEAT_IDEMPOTENT, .status = transient[i], .sent = true));
	}
	for (size_t i = 0; i < sizeof(final) / sizeof(*final); i++)
		CHECK(!REPEATED(HTTP_REPEAT_IDEMPOTENT, .status = final[i], .sent = true));
}

TEST(attempts_are_limited)
{
	struct http_retry two = {.repeat = HTTP_REPEAT_IDEMPOTENT, .attempts_max = 2};

	CHECK(http_retry_pause(&two, &(struct http_attempt){.number = 1, .retry_after_ms = -1}, 0, 60000) >= 0);
	CHECK_INT(http_retry_pause(&two, &(struct http_attempt){.number = 2, .retry_after_ms = -1}, 0, 60000), -1);
	CHECK(REPEATED(HTTP_REPEAT_UNSENT, .number = 3));
	CHECK(!REPEATED(HTTP_REPEAT_UNSENT, .number = 4));
}

TEST(pauses_double_up_to_ten_seconds_less_up_to_half)
{
	struct http_retry policy = {.attempts_max = 100};
	static const int64_t pauses[] = {250, 500, 1000, 2000, 4000, 8000, 10000, 10000, 10000};

	for (unsigned n = 1; n <= 9; n++) {
		struct http_attempt attempt = {.number = n, .retry_after_ms = -1};

		CHECK_INT(http_retry_pause(&policy, &attempt, 0, 60000), pauses[n - 1]);
		CHECK_INT(http_retry_pause(&policy, &attempt, 0.5, 60000), pauses[n - 1] * 3 / 4 + (n == 1));
		CHECK(http_retry_pause(&policy, &attempt, 0.999, 60000) >= pauses[n - 1] / 2);
	}
	policy.base_ms = 1;
	CHECK_INT(http_retry_pause(&policy, &(struct http_attempt){.number = 3, .retry_after_ms = -1}, 0, 60000), 4);
}

TEST(retry_after_is_honoured_inside_the_deadline)
{
	struct http_attempt attempt = {.number = 1, .status = 429, .sent = true, .retry_after_ms = 3000};

	CHECK_INT(pause_of(HTTP_REPEAT_REJECTED, attempt, 0, 60000), 3000);
	CHECK_INT(pause_of(HTTP_REPEAT_REJECTED, attempt, 0.5, 60000), 3050);
	CHECK_INT(pause_of(HTTP_REPEAT_REJECTED, attempt, 0, 3001), 3000);
	CHECK_INT(pause_of(HTTP_REPEAT_REJECTED, attempt, 0, 3000), -1);
	attempt.retry_after_ms = -1;
	CHECK_INT(pause_of(HTTP_REPEAT_REJECTED, attempt, 0, 100), -1);
}

TEST(a_policy_may_insist_on_retry_after)
{
	struct http_retry policy = {.repeat = HTTP_REPEAT_IDEMPOTENT, .needs_retry_after = true};

	CHECK_INT(http_retry_pause(&policy, &(struct http_attempt){.number = 1, .status = 429, .retry_after_ms = -1}, 0, 60000), -1);
	CHECK_INT(http_retry_pause(&policy, &(struct http_attempt){.number = 1, .status = 429, .retry_after_ms = 0}, 0, 60000), 0);
	CHECK(http_retry_pause(&policy, &(struct http_attempt){.number = 1, .status = 500, .retry_after_ms = -1}, 0, 60000) >= 0);
}

TEST(retry_after_is_seconds_or_a_date)
{
	const int64_t now = INT64_C(784111777000); /* Sun, 06 Nov 1994 08:49:37 GMT */
	static const struct {
		const char *value;
		int64_t want;
	} cases[] = {
		{NULL, -1}, {"", -1}, {"0", 0}, {"5", 5000}, {" 120 ", 120000}, {"1.5", -1}, {"-1", -1}, {"soon", -1}, {"5s", -1},
		{"99999999999999999999", INT64_C(86400000) * 1000},
		{"Sun, 06 Nov 1994 08:49:47 GMT", 10000}, {"Sunday, 06-Nov-94 08:49:47 GMT", 10000}, {"Sun Nov  6 08:49:47 1994", 10000},
		{"Sun, 06 Nov 1994 08:49:36 GMT", 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		CHECK_INT(http_retry_after(cases[i].value, now), cases[i].want);
}

TEST_MAIN()
