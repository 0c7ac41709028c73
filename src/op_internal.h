/* op_internal: the core's side of an op (op.h is the provider's). */
#ifndef OP_INTERNAL_H
#define OP_INTERNAL_H

#include "base/list.h"
#include "fiber.h"
#include "op.h"
#include "output_internal.h"
#include "protocol/host_time.h"
#include "protocol/jsonrpc.h"
#include "provider.h"
#include "secret.h"
#include "worker_internal.h"

struct method;

struct op {
	struct list link;         /* in worker->ops */
	struct list backlog_link; /* in worker->backlog, until it has a fiber */
	struct worker *worker;
	const struct method *method;
	char *id; /* owned; the id's JSON text */
	size_t id_len;
	json_t *params;      /* owned; an object */
	char *invocation_id; /* owned; NULL: none */
	struct fiber *fiber; /* NULL: not started yet, or an op without a request */
	int64_t arrived_ms;  /* the host's clock started then */
	const struct provider *provider; /* NULL: none is concerned */
	void *state;
	struct output *output; /* owned; of an execute */
	char *lease_key;       /* owned; of an execute or sync: what a release or destroy ends */
	struct secret_set secrets; /* held while the op lives */
	const char *cancel_reason;
	struct list end_waits; /* of fibers that wait for the op's end */
	struct event go;       /* shutdown: the drain is over */
	bool answered;
};

/* How a method is served. */
struct method {
	const char *name;
	enum host_timeout timeout;
	/* In the op's fiber. Returns 0 with the result in *ret (new; NULL is null), or having answered by itself; or -1. */
	int (*serve)(struct op *op, json_t **ret, struct err *err);
	size_t slot; /* offset in struct provider of what the driver must have; 0: no driver is concerned */
	bool urgent; /* started however many others are live: it ends work */
};

/* The environment methods, in the order of the host contract; name NULL ends the table. */
extern const struct method environment_methods[];
extern const struct method general_methods[];

/* Members that several methods have (methods_environment.c). */
int read_request_base(const struct op *op, struct request_base *ret, struct err *err);
int read_lease_ref(const struct op *op, struct lease_ref *ret, struct err *err);
/* methods_sync.c */
int serve_sync_in(struct op *op, json_t **ret, struct err *err);
int serve_sync_out(struct op *op, json_t **ret, struct err *err);

/* True if the provider has the method's slot. */
bool method_in_provider(const struct method *method, const struct provider *provider);

/* Starts the op in a fiber of its own. message's strings and params (new reference, object) are taken over. */
void op_start(struct worker *w, const struct method *method, struct rpc_message *message, json_t *params);
/* An op without a request: for the command line. Takes nothing over. */
struct op *op_create_for(struct worker *w, const struct provider *provider, void *state);
void op_destroy(struct op *op);
/* Holds what the config has under its secret keys. config: object or NULL. */
void op_hold_config_secrets(struct op *op, const json_t *config);
/* Cancels it; reason (static) is what its answer says. */
void op_cancel(struct op *op, const char *reason);

/* Sends the answer; asserted to be the only one. */
void op_answer(struct op *op, json_t *result);
void op_answer_error(struct op *op, struct err *err);
/* The op's answer is this message (a whole line). */
void op_answer_message(struct op *op, struct message *m);
/* `{"jsonrpc":"2.0","id":…,"result":` into the message. */
void op_begin_result(const struct op *op, struct buf *line);

/* An output for the op's execute, with live pieces as `execute.log` if the request has an invocation. */
void op_open_output(struct op *op);

/* What makes two requests speak of the same lease: new string. */
char *op_lease_key(const char *driver_key, const char *company_id, const char *environment_id, const char *lease_id);
/* Ends all executes of the lease and waits until they are gone. */
int op_end_executes(struct op *op, const char *lease_key, const char *reason, struct err *err);

#endif
