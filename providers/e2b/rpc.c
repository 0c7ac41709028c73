/* wire: e2b, Errors of envd. */
#include "e2b.h"

#include <string.h>

#define COMMAND_TIMEOUT                                                                                                          \
	"This error is likely due to exceeding 'timeoutMs' \u2014 the total time a long running request (like command "          \
	"execution or directory "                                                                                                \
	"watch) can be active. It can be modified by passing 'timeoutMs' when making the request. Use '0' to disable the "       \
	"timeout."
#define REQUEST_TIMEOUT                                                                                                          \
	"This error is likely due to exceeding 'requestTimeoutMs'. You can pass the request timeout value as an option when "    \
	"making the request."

const char e2b_timeout_text[] = "[deadline_exceeded] the operation timed out: " COMMAND_TIMEOUT;
const char e2b_died_text[] =
	"[unknown] terminated: The sandbox was killed or reached its end of life while the request was in flight.";

/* Connect's codes; the number is the place. */
static const char *const codes[] = {
	"ok",        "canceled",        "unknown",           "invalid_argument",   "deadline_exceeded",
	"not_found", "already_exists",  "permission_denied", "resource_exhausted", "failed_precondition",
	"aborted",   "out_of_range",    "unimplemented",     "internal",           "unavailable",
	"data_loss", "unauthenticated",
};
enum {
	CANCELED = 1,
	UNKNOWN = 2,
	INVALID_ARGUMENT = 3,
	DEADLINE_EXCEEDED = 4,
	NOT_FOUND = 5,
	PERMISSION_DENIED = 7,
	RESOURCE_EXHAUSTED = 8,
	UNIMPLEMENTED = 12,
	INTERNAL = 13,
	UNAVAILABLE = 14,
	UNAUTHENTICATED = 16,
};

static unsigned number_of(const char *code)
{
	for (unsigned i = 1; code && i < sizeof(codes) / sizeof(*codes); i++) {
		if (strcmp(codes[i], code) == 0)
			return i;
	}
	return UNKNOWN;
}

static int set(unsigned number, const char *message, enum e2b_phase phase, struct e2b_failure *ret, struct err *err)
{
	cleanup_free char *e = xasprintf("[%s] %s", codes[number], message);

	ret->fault = E2B_REFUSED;
	switch (number) {
	case UNAVAILABLE:
		ret->fault = phase == E2B_STREAMING ? E2B_LOST : E2B_ABSENT;
		if (phase == E2B_BEFORE_START)
			return err_set(err, ERR_REMOTE, "Sandbox is probably not running anymore");
		return err_set(err, ERR_REMOTE, "%s: " E2B_SANDBOX_TIMEOUT, e);
	case DEADLINE_EXCEEDED:
		ret->fault = E2B_LATE;
		ret->ended = phase == E2B_STREAMING;
		return err_set(err, ERR_REMOTE, "%s: " COMMAND_TIMEOUT, e);
	case CANCELED:
		ret->fault = E2B_LOST;
		return err_set(err, ERR_REMOTE, "%s: " REQUEST_TIMEOUT, e);
	case NOT_FOUND:
		ret->fault = E2B_MISSING;
		return err_set(err, ERR_REMOTE, "%s", e);
	case INVALID_ARGUMENT:
		return err_set(err, ERR_REMOTE, "%s", e);
	case UNAUTHENTICATED:
		return err_set(err, ERR_AUTH, "%s", e);
	case RESOURCE_EXHAUSTED:
		return err_set(err, ERR_BUSY, "%s: Rate limit exceeded, please try again later.", e);
	default:
		return err_set(err, ERR_REMOTE, "%u: %s", number, e);
	}
}

int e2b_rpc_error(const char *code, const char *message, enum e2b_phase phase, struct e2b_failure *ret, struct err *err)
{
	return set(number_of(code), message ? message : "", phase, ret, err);
}

static unsigned number_of_status(int status)
{
	switch (status) {
	case 400:
		return INTERNAL;
	case 401:
		return UNAUTHENTICATED;
	case 403:
		return PERMISSION_DENIED;
	case 404:
		return UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return UNAVAILABLE;
	default:
		return UNKNOWN;
	}
}

int e2b_rpc_status_error(int status, enum e2b_phase phase, struct e2b_failure *ret, struct err *err)
{
	cleanup_free char *message = xasprintf("HTTP %d", status);
	int rc = set(number_of_status(status), message, phase, ret, err);

	if (status >= 500 && ret->fault == E2B_REFUSED)
		ret->fault = E2B_LOST;
	return rc;
}
