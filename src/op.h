/*
 * op: one request, from the line that asks to the one answer.
 *
 * To a provider an op is its context: where output and log lines go, its own state, whom to ask for a child process. It never
 * sees the JSON-RPC id or the channel. The op's fiber carries the deadline and the cancellation (fiber.h).
 */
#ifndef OP_H
#define OP_H

#include "base/err.h"
#include "log.h"

struct op;
struct worker;
struct output;
struct init;

struct worker *op_worker(struct op *op);
/* What the provider's create() returned. */
void *op_state(struct op *op);
/* Where an execute's output goes (output.h). */
struct output *op_output(struct op *op);
/* The value is masked in all that leaves the worker until the op has ended (secret.h). What the config's secret keys hold is so anyway. */
void op_hold_secret(struct op *op, const char *value);
/* Log line to the host, tagged with the op's invocation. meta is stolen; NULL: none. */
void op_log(struct op *op, enum log_level level, json_t *meta, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
