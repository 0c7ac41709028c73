/*
 * grpc: calls of gRPC services from a fiber: one message there, and one or a stream of them back (gRPC over HTTP2; wire: modal, Transport).
 *
 *	struct grpc_answer answer;
 *	struct grpc_call call = {.server = "https://api.example:443", .path = "/pkg.Service/Method", .message = bytes, .size = n};
 *	if (grpc_perform(client, &call, &answer, err) == 0) … answer.message …
 *	grpc_answer_deinit(&answer);
 *
 * A call is one attempt: what may be repeated is the caller's to say, by the status, and by answer.sent where doing it twice would do
 * harm. Connections are the HTTP client's: calls share few of them, in HTTP/2.
 *
 * Errors: any status but OK, as "<path> <STATUS>: <details>" with the kind of grpc_status_kind(). A service that cannot be reached is
 * UNAVAILABLE, an answer that breaks off INTERNAL or UNAVAILABLE (not one message that lacks nothing but its status), a call that takes
 * longer than timeout_ms DEADLINE_EXCEEDED. As they are, and with status OK: ERR_CANCELLED, ERR_TIMEOUT (the fiber's own deadline),
 * ERR_INVALID (nothing was sent), and what on_message returned.
 */
#ifndef GRPC_H
#define GRPC_H

#include "http.h"
#include "protocol/grpc_frame.h"
#include "protocol/grpc_status.h"

#define GRPC_MESSAGE_MAX ((size_t)100 << 20)

struct grpc_call {
	const char *server;                 /* scheme, host and port; http:// to loopback only */
	const char *path;                   /* "/<service>/<method>" */
	const struct http_header *metadata; /* up to one with name NULL; or NULL */
	const struct http_options *options; /* NULL: none */
	const void *message;                /* borrowed */
	size_t size;
	int64_t timeout_ms; /* also told to the service; 0: none */
	bool idempotent;    /* sent once more if its connection ends (GOAWAY, a reset) before anything of an answer is there */
	bool long_lived;    /* the answer comes late. Implied by on_message */
	size_t message_max; /* of an answer; 0: GRPC_MESSAGE_MAX */

	/*
	 * Of a call with a stream of answers: takes one; returns 0 to go on, 1 when it has enough (the call then succeeds), -1 to fail. Runs in
	 * the calling fiber and may wait: meanwhile little more is read from the service.
	 */
	int (*on_message)(void *arg, const char *message, size_t len, struct err *err);
	void *arg;
};

struct grpc_answer {
	enum grpc_status status;
	bool told;          /* the status is the service's own word, not what we make of a broken answer */
	struct buf message; /* of a call with one answer; data is never NULL after a success */
	struct buf details; /* grpc-status-details-bin, decoded; data NULL: none */
	bool sent;          /* a failed call may have been carried out */
};

/* Waits. 0, or -1. *answer is initialised before, and must be deinited in either case. */
int grpc_perform(struct http_client *client, const struct grpc_call *call, struct grpc_answer *answer, struct err *err);
/* Takes NULL and zeroed values. Overwrites the message: it may hold tokens. */
void grpc_answer_deinit(struct grpc_answer *answer);
#define cleanup_grpc_answer cleanup(grpc_answer_deinit)

#endif
