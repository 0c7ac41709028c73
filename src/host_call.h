/* host_call: requests of the worker to its host (host contract, "What a worker may call"). */
#ifndef HOST_CALL_H
#define HOST_CALL_H

#include "base/err.h"
#include "op.h"
#include "protocol/jsonrpc.h"

struct host_calls;

struct host_calls *host_calls_create(void);
/* All callers must have ended. */
void host_calls_destroy(struct host_calls *calls);

/*
 * Asks the host and waits for its answer, for at most 30 s. The request belongs to the op's invocation. params borrowed. *ret is new.
 * -1: ERR_REMOTE with the host's message and code (err.rpc_code), ERR_TIMEOUT, ERR_CANCELLED; ERR_UNSUPPORTED where there is no host.
 */
int host_call(struct op *op, const char *method, const json_t *params, json_t **ret, struct err *err);
/* A response came: wakes the caller that waits for it. An id that nobody waits for is ignored. */
void host_calls_answer(struct host_calls *calls, const struct rpc_message *response);

#endif
