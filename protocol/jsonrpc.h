/*
 * jsonrpc: the envelope of the host contract ("Framing", "Messages", "Error codes"): JSON-RPC 2.0 with paperclipInvocation.
 */
#ifndef PROTOCOL_JSONRPC_H
#define PROTOCOL_JSONRPC_H

#include "base/buf.h"
#include "base/err.h"
#include "protocol/json_scan.h"

#define RPC_PARSE_ERROR (-32700)
#define RPC_METHOD_NOT_FOUND (-32601)
#define RPC_WORKER_ERROR (-32002)
#define RPC_NOT_IMPLEMENTED (-32004)
#define RPC_CROSS_TENANT (-32006)

enum rpc_kind {
	RPC_REQUEST,
	RPC_NOTIFICATION, /* a method without an id: nothing that we act on */
	RPC_RESPONSE,     /* to a request of ours */
	RPC_IGNORED,      /* an object that is none of these, or a method with id null */
};

/* A classified line. Slices borrow the line; strings are owned. */
struct rpc_message {
	enum rpc_kind kind;
	struct json_slice id; /* echo it byte for byte */
	char *method;         /* owned; requests and notifications */
	struct json_slice params;
	struct json_slice result, error; /* of a response */
	char *invocation_id;  /* owned; NULL: none */
	char *company_id;     /* owned; the invocation's scope; NULL: none */
	char *traceparent;    /* owned; NULL: none */
};

/*
 * Reads one line (valid UTF-8). Returns 0, or -1 for a line that must be answered with RPC_PARSE_ERROR (err.rpc_code too); err has
 * the contract's text ("Parse error: Invalid JSON: …", "Parse error: Message must be a JSON object", "Parse error: Invalid or missing
 * jsonrpc version …") and ret->id the id where one could be read (a string or number), else kind NONE. The id of what seems to be a
 * broken answer to a request of ours is not given: it is of our number space.
 */
int rpc_read(const char *line, size_t len, struct rpc_message *ret, struct err *err);
void rpc_message_deinit(struct rpc_message *m);

/*
 * Lines, each with its \n. id is the slice's text; NULL writes null. params, data and invocation_id NULL: left out. A message that is
 * not UTF-8 is repaired. -1 at the buffer's ceiling; the buffer is then as it was.
 */
int rpc_write_result(struct buf *out, const char *id, size_t id_len, const json_t *result);
int rpc_write_error(struct buf *out, const char *id, size_t id_len, int code, const char *message, const json_t *data);
int rpc_write_notification(struct buf *out, const char *method, const json_t *params, const char *invocation_id);
int rpc_write_request(struct buf *out, uint64_t id, const char *method, const json_t *params, const char *invocation_id);

#endif
