/*
 * err: the error value. Functions that can fail take `struct err *err` last, return 0 or -1, and set it only on failure.
 *
 * Code decides by `kind`; people read `message`. The dispatcher alone turns an err into JSON.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/cleanup.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>

enum err_kind {
	ERR_NONE,
	ERR_INVALID,     /* the caller's input is wrong */
	ERR_UNSUPPORTED, /* known, but not offered here */
	ERR_NOT_FOUND,   /* proven not to be there */
	ERR_AUTH,        /* credentials missing or refused */
	ERR_CONFLICT,    /* the thing's state does not allow it */
	ERR_BUSY,        /* rate limit, quota, queue full: a later try may work */
	ERR_TIMEOUT,     /* a deadline of ours has passed */
	ERR_CANCELLED,   /* the request was cancelled: teardown, shutdown, host gone */
	ERR_TRANSPORT,   /* the connection failed */
	ERR_PROTOCOL,    /* the peer's bytes make no sense */
	ERR_REMOTE,      /* the service says that it failed */
	ERR_SYSTEM,      /* a system call failed */
};

struct err {
	enum err_kind kind;
	int rpc_code;  /* JSON-RPC code; 0: chosen by kind */
	int sys_errno; /* of ERR_SYSTEM, else 0 */
	char *message; /* owned */
	json_t *data;  /* owned, optional: error.data */
};

#define ERR_INIT ((struct err){0})

/* Sets the error and returns -1. An earlier error stays: the first failure is the cause. err may be NULL. */
int err_set(struct err *err, enum err_kind kind, const char *format, ...) __attribute__((format(printf, 3, 4)));
int err_vset(struct err *err, enum err_kind kind, const char *format, va_list ap) __attribute__((format(printf, 3, 0)));
/* ERR_SYSTEM "<text>: <strerror>"; number is an errno value. Returns -1. */
int err_set_errno(struct err *err, int number, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Puts "<text>: " in front of the message. Returns -1. */
int err_wrap(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Moves *from to *to (which must be clear or NULL: then it is dropped). Returns -1. */
int err_move(struct err *to, struct err *from);
/* Frees what the error owns and makes it ERR_NONE. Takes NULL and zeroed values. */
void err_clear(struct err *err);

static inline bool err_is(const struct err *err, enum err_kind kind)
{
	return err->kind == kind;
}
/* The message, never NULL. */
const char *err_text(const struct err *err);

/* A local error that frees itself: `cleanup_err struct err err = ERR_INIT;` */
#define cleanup_err cleanup(err_clear)
/* A local JSON value that is released at the end of its scope. */
static inline void cleanup_json_p(json_t **value)
{
	json_decref(*value);
}
#define cleanup_json cleanup(cleanup_json_p)

#endif
