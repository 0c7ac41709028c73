/*
 * multipart: form-data both ways (RFC 7578, RFC 2046; wire: daytona, Upload and Download).
 *
 * Reading streams: part by part, each with its data in pieces. A part that states its Content-Length is cut by it (its bytes may hold the
 * boundary's text), else by the boundary. What is missing at the end is an error: a truncated part must not be used.
 */
#ifndef PROTOCOL_MULTIPART_H
#define PROTOCOL_MULTIPART_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

struct multipart_part {
	const char *name;         /* of Content-Disposition; NULL: none */
	const char *filename;     /* filename* decoded, else filename; NULL: none */
	const char *content_type; /* NULL: none */
	int64_t length;           /* Content-Length; -1: not stated */
};

/* Each may wait if the caller of multipart_feed may; -1 ends the feeding. on_end: the part is complete. */
struct multipart_events {
	int (*on_part)(void *arg, const struct multipart_part *part, struct err *err);
	int (*on_data)(void *arg, const char *bytes, size_t n, struct err *err);
	int (*on_end)(void *arg, struct err *err);
	void *arg;
};

struct multipart {
	struct multipart_events events;
	enum { MULTIPART_PREAMBLE, MULTIPART_DELIMITER, MULTIPART_HEADERS, MULTIPART_COUNTED, MULTIPART_SCANNED, MULTIPART_EPILOGUE } state;
	char *delimiter;   /* owned: "\r\n--<boundary>" */
	struct buf held;   /* bytes that are not yet understood */
	size_t start;      /* of them in held */
	uint64_t left;     /* of a counted part */
};

/* content_type: the answer's header. -1, ERR_PROTOCOL: it is not multipart/… with a boundary. */
int multipart_init(struct multipart *m, const char *content_type, const struct multipart_events *events, struct err *err);
/* Takes a zeroed value. */
void multipart_deinit(struct multipart *m);
/* 0, or -1: what an event returned, or ERR_PROTOCOL. */
int multipart_feed(struct multipart *m, const void *bytes, size_t n, struct err *err);
/* The stream has ended. -1, ERR_PROTOCOL: without the closing boundary. */
int multipart_finish(const struct multipart *m, struct err *err);

#define MULTIPART_BOUNDARY_SIZE 41
#define MULTIPART_RANDOM_BYTES 16
/* A boundary that no content can be expected to hold, of random bytes. */
void multipart_boundary(const unsigned char random[MULTIPART_RANDOM_BYTES], char out[MULTIPART_BOUNDARY_SIZE]);
/* Append to a body: a whole field; what stands before a file's bytes and after them; the end. CR, LF and " in names become %0D, %0A, %22. */
void multipart_write_field(struct buf *out, const char *boundary, const char *name, const char *value);
void multipart_write_file_head(struct buf *out, const char *boundary, const char *name, const char *filename, const char *content_type);
void multipart_write_file_tail(struct buf *out);
void multipart_write_end(struct buf *out, const char *boundary);

#endif
