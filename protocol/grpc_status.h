/*
 * grpc_status: how a gRPC call ended, and the texts of its headers (gRPC over HTTP2, "Responses"; wire: modal, Transport).
 */
#ifndef PROTOCOL_GRPC_STATUS_H
#define PROTOCOL_GRPC_STATUS_H

#include "base/buf.h"
#include "base/err.h"

enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_UNKNOWN = 2,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_ABORTED = 10,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_DATA_LOSS = 15,
	GRPC_UNAUTHENTICATED = 16,
};

/* "NOT_FOUND". Static. */
const char *grpc_status_name(enum grpc_status status);
/* What an error of this status is to the code that decides by kinds. GRPC_OK has none. */
enum err_kind grpc_status_kind(enum grpc_status status);

/* Of a grpc-status header; UNKNOWN if it is no number of the list. */
enum grpc_status grpc_status_parse(const char *text);
/* Of an answer in plain HTTP, by something between the service and us. */
enum grpc_status grpc_status_of_http(int http_status);
/* Of a stream that was reset with this code (RFC 9113, 7). */
enum grpc_status grpc_status_of_reset(int http2_error);

/* A grpc-message header as text: valid UTF-8, owned by the caller. */
char *grpc_message_decode(const char *text);

/* The value of a grpc-timeout header: at most eight digits and a unit; ms: at least 1. Returns buffer. */
#define GRPC_TIMEOUT_BYTES 24
char *grpc_timeout_format(int64_t ms, char *buffer);

#endif
