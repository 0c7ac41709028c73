/* host_time: how long the host waits for an answer (host contract, "Environment methods", Timeouts). */
#ifndef PROTOCOL_HOST_TIME_H
#define PROTOCOL_HOST_TIME_H

#include <jansson.h>
#include <stdint.h>

/* Which rule applies to a method. */
enum host_timeout {
	HOST_TIMEOUT_DEFAULT, /* 30 s */
	HOST_TIMEOUT_PROBE,   /* 120 s */
	HOST_TIMEOUT_CONFIG,  /* T: the larger of config.timeoutMs and config.bridgeRequestTimeoutMs, + 30 s */
	HOST_TIMEOUT_RESUME,  /* T, at most 60 s */
	HOST_TIMEOUT_EXECUTE, /* E: params.timeoutMs, else config.timeoutMs, + 30 s */
	HOST_TIMEOUT_SETUP,   /* E': config.timeoutMs + 30 s */
};

/* Milliseconds from the request to the moment at which the host gives up. params may be NULL. */
int64_t host_timeout_ms(enum host_timeout rule, const json_t *params);
/*
 * The worker's own limit: a little earlier, so that a typed answer comes instead of a dropped call. A second, which is time to
 * end a process tree and to write the answer; of short limits a tenth.
 */
int64_t host_deadline_ms(enum host_timeout rule, const json_t *params);
/* "2030-01-01T00:00:00.000Z" and its kin (ISO 8601 with an offset or Z; without: UTC) to Unix milliseconds; -1 if it is none. */
int64_t iso_time_parse(const char *text);
/* Unix milliseconds as "2030-01-01T00:00:00.000Z". buffer of ISO_TIME_BYTES. Returns buffer. */
#define ISO_TIME_BYTES 32
char *iso_time_format(int64_t unix_ms, char *buffer);

#endif
