/* http_retry: whether and when a call is repeated, as pure functions of what happened. */
#ifndef HTTP_RETRY_H
#define HTTP_RETRY_H

#include "http.h"

struct http_attempt {
	unsigned number;        /* 1: the first */
	int status;             /* 0: it failed without a complete answer */
	bool sent;              /* may have reached the service */
	bool hopeless;          /* would fail in the same way again: a certificate, a malformed answer */
	int64_t retry_after_ms; /* what the answer asks for; -1: nothing */
};

/*
 * The pause before the next attempt in ms; -1: there is none. random: in [0, 1). left_ms: to the deadline; a pause that would not end
 * before it is none.
 */
int64_t http_retry_pause(const struct http_retry *policy, const struct http_attempt *attempt, double random, int64_t left_ms);
/* A Retry-After header in ms from now: seconds, or a date (RFC 9110, 10.2.3). -1: NULL or neither. now_ms: Unix time. */
int64_t http_retry_after(const char *value, int64_t now_ms);

#endif
