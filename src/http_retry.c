#include "http_retry.h"

#include <curl/curl.h>
#include <string.h>

#define ATTEMPTS_MAX 4
#define BASE_MS 250
#define PAUSE_MAX_MS 10000
#define DAY_MS INT64_C(86400000)

static bool worth_repeating(const struct http_retry *policy, const struct http_attempt *a)
{
	if (a->hopeless || policy->repeat == HTTP_REPEAT_NEVER)
		return false;
	switch (a->status) {
	case 0:
		return !a->sent || policy->repeat >= HTTP_REPEAT_IDEMPOTENT;
	case 429:
	case 503:
		return policy->repeat >= HTTP_REPEAT_REJECTED && (a->retry_after_ms >= 0 || !policy->needs_retry_after);
	case 408:
	case 500:
	case 502:
	case 504:
		return policy->repeat >= HTTP_REPEAT_IDEMPOTENT;
	default:
		return false;
	}
}

int64_t http_retry_pause(const struct http_retry *policy, const struct http_attempt *a, double random, int64_t left_ms)
{
	unsigned attempts_max = policy->attempts_max ? policy->attempts_max : ATTEMPTS_MAX;
	int64_t pause = policy->base_ms ? policy->base_ms : BASE_MS;

	if (a->number >= attempts_max || !worth_repeating(policy, a))
		return -1;
	for (unsigned i = 1; i < a->number && pause < PAUSE_MAX_MS; i++)
		pause *= 2;
	if (pause > PAUSE_MAX_MS)
		pause = PAUSE_MAX_MS;
	pause -= (int64_t)((double)pause / 2 * random);
	/* Not earlier than asked for; a little later, so that many who were told the same time do not come at once. */
	if (a->retry_after_ms >= 0)
		pause = a->retry_after_ms + (int64_t)(100 * random);
	return pause < left_ms ? pause : -1;
}

int64_t http_retry_after(const char *value, int64_t now_ms)
{
	if (!value)
		return -1;
	value += strspn(value, " \t");
	size_t digits = strspn(value, "0123456789");

	if (digits > 0) {
		int64_t seconds = 0;

		if (value[digits + strspn(value + digits, " \t")] != '\0')
			return -1;
		for (size_t i = 0; i < digits && seconds < DAY_MS; i++)
			seconds = seconds * 10 + (value[i] - '0');
		return seconds < DAY_MS ? seconds * 1000 : DAY_MS * 1000;
	}
	time_t when = curl_getdate(value, NULL);

	if (when < 0)
		return -1;
	int64_t left = (int64_t)when * 1000 - now_ms;

	return left > 0 ? left : 0;
}
