/*
 * buf: bytes that grow up to a ceiling.
 *
 * A buffer has its ceiling from birth. Reaching it makes the append fail and leaves the buffer as it was; that one request
 * or connection then fails with its own message. data[len] is always a NUL once anything was appended.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/cleanup.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data; /* owned; NULL while nothing was ever appended */
	size_t len;
	size_t cap;
	size_t max; /* ceiling of len */
};

/* No ceiling but memory's: for texts whose size we ourselves decide. */
#define BUF_UNBOUNDED ((size_t)PTRDIFF_MAX)
#define BUF_INIT(ceiling) ((struct buf){.max = (ceiling)})

/* Frees the memory; the ceiling stays. Takes NULL and zeroed values. */
void buf_deinit(struct buf *b);
/* As buf_deinit, but overwrites the bytes first: they may hold secrets. */
void buf_wipe(struct buf *b);
/* len becomes 0; the memory stays for the next use. */
void buf_reset(struct buf *b);

/* Keeps the first len bytes: takes back what was appended since the length was that. */
void buf_truncate(struct buf *b, size_t len);

/* Each returns 0, or -1 if the ceiling would be passed. */
int buf_append(struct buf *b, const void *bytes, size_t n);
int buf_append_str(struct buf *b, const char *s);
int buf_append_char(struct buf *b, char c);
int buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for n more bytes at data + len (and a NUL): fill it, then add what was used to len by buf_added. NULL at the ceiling. */
char *buf_reserve(struct buf *b, size_t n);
void buf_added(struct buf *b, size_t n);

/* Drops the first n bytes. Costs a move of the rest: call it once a batch. */
void buf_consume(struct buf *b, size_t n);
/* The text, owned by the caller (never NULL); the buffer is empty then. */
char *buf_steal(struct buf *b);

#define cleanup_buf cleanup(buf_deinit)

#endif
