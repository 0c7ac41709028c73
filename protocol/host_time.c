#include "protocol/host_time.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define EXTRA_MS 30000
#define PROBE_MS 120000
#define RESUME_MAX_MS 60000
#define TIMER_MAX_MS 2147483647 /* the longest time that the host's timers know */

/* A positive number with its fraction cut off, else 0. */
static int64_t positive_ms(const json_t *object, const char *key)
{
	double ms = json_number_value(json_object_get(object, key));

	if (!(ms >= 1))
		return 0;
	return ms > TIMER_MAX_MS ? TIMER_MAX_MS : (int64_t)ms;
}

static int64_t with_extra(int64_t ms)
{
	if (ms == 0)
		return EXTRA_MS;
	return ms + EXTRA_MS > TIMER_MAX_MS ? TIMER_MAX_MS : ms + EXTRA_MS;
}

int64_t host_timeout_ms(enum host_timeout rule, const json_t *params)
{
	const json_t *config = json_object_get(params, "config");
	int64_t own = positive_ms(config, "timeoutMs"), bridge = positive_ms(config, "bridgeRequestTimeoutMs");
	int64_t larger = own > bridge ? own : bridge, asked = positive_ms(params, "timeoutMs");

	switch (rule) {
	case HOST_TIMEOUT_DEFAULT:
		return EXTRA_MS;
	case HOST_TIMEOUT_PROBE:
		return PROBE_MS;
	case HOST_TIMEOUT_CONFIG:
		return with_extra(larger);
	case HOST_TIMEOUT_RESUME:
		return with_extra(larger) < RESUME_MAX_MS ? with_extra(larger) : RESUME_MAX_MS;
	case HOST_TIMEOUT_EXECUTE:
		return with_extra(asked ? asked : own);
	case HOST_TIMEOUT_SETUP:
		return with_extra(own);
	}
	return EXTRA_MS;
}

int64_t host_deadline_ms(enum host_timeout rule, const json_t *params)
{
	int64_t ms = host_timeout_ms(rule, params);

	return ms - (ms / 10 < 1000 ? ms / 10 : 1000);
}

int64_t iso_time_parse(const char *text)
{
	struct tm tm = {0};
	int millis = 0, used = 0, hours = 0, minutes = 0;
	char sign = 0;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec,
		   &used) != 6 ||
	    tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 24 || tm.tm_min > 59 ||
	    tm.tm_sec > 60 || tm.tm_hour < 0 || tm.tm_min < 0 || tm.tm_sec < 0)
		return -1;
	text += used;
	if (*text == '.') {
		int unit = 100;

		for (text++; *text >= '0' && *text <= '9'; text++, unit /= 10)
			millis += (*text - '0') * unit;
	}
	if (*text == '+' || *text == '-') {
		sign = *text;
		if (sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2)
			return -1;
		text += 1 + used;
	} else if (*text == 'Z') {
		text++;
	}
	if (*text)
		return -1;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	int64_t seconds = (int64_t)timegm(&tm), offset = hours * 3600 + minutes * 60;

	return (seconds - (sign == '-' ? -offset : offset)) * 1000 + millis;
}

char *iso_time_format(int64_t unix_ms, char *buffer)
{
	time_t seconds = (time_t)(unix_ms / 1000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	size_t n = strftime(buffer, ISO_TIME_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);

	snprintf(buffer + n, ISO_TIME_BYTES - n, ".%03dZ", (int)(unix_ms % 1000));
	return buffer;
}
