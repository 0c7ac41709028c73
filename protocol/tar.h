/*
 * tar: archives of files, directories and links, both ways, as pure functions on bytes. Written in GNU's format, which GNU tar, bsdtar and
 * busybox read; read in that and in POSIX's (ustar, pax).
 */
#ifndef PROTOCOL_TAR_H
#define PROTOCOL_TAR_H

#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

#define TAR_BLOCK 512

enum tar_type { TAR_FILE, TAR_DIRECTORY, TAR_SYMLINK, TAR_HARDLINK, TAR_OTHER };

struct tar_entry {
	enum tar_type type;
	const char *name; /* of a directory mostly with a slash at its end */
	const char *link; /* of links; "" else */
	unsigned mode;    /* permission bits */
	uint64_t size;    /* of the data that follows; only files have any that matters */
	int64_t mtime;    /* Unix time in seconds */
};

/* Appends what stands before an entry's data. */
void tar_write_entry(struct buf *out, const struct tar_entry *entry);
/* Bytes of zeros between the end of so much data and the next block. */
size_t tar_padding(uint64_t size);
/* Appends the archive's end. */
void tar_write_end(struct buf *out);

/* Each may wait if tar_feed's caller may; -1 ends the feeding. Each entry gets on_entry, its data in pieces, on_end. Borrowed. */
struct tar_events {
	int (*on_entry)(void *arg, const struct tar_entry *entry, struct err *err);
	int (*on_data)(void *arg, const char *bytes, size_t n, struct err *err);
	int (*on_end)(void *arg, struct err *err);
	void *arg;
};

struct tar {
	struct tar_events events;
	enum { TAR_AT_HEADER, TAR_AT_DATA, TAR_AT_META, TAR_AT_PADDING, TAR_AT_END } state;
	char block[TAR_BLOCK];
	size_t held;      /* bytes in block */
	uint64_t left;    /* of the data or the padding */
	size_t padding;   /* after the data */
	char meta_type;   /* 'L', 'K', 'x', 'g' */
	struct buf meta;  /* its data */
	char *long_name;  /* owned; for the next entry */
	char *long_link;  /* owned */
	int64_t pax_size; /* -1: none */
};

void tar_init(struct tar *t, const struct tar_events *events);
/* Takes a zeroed value. */
void tar_deinit(struct tar *t);
/* 0, or -1: what an event returned, or ERR_PROTOCOL. What follows the archive's end is ignored. */
int tar_feed(struct tar *t, const void *bytes, size_t n, struct err *err);
/* -1, ERR_PROTOCOL: the archive is cut short. */
int tar_finish(const struct tar *t, struct err *err);

#endif
