/*
 * ndjson: lines out of a byte stream. A line ends at \n only (U+2028/2029 and \r may stand unescaped in what the host sends); a
 * trailing \r and a byte order mark at the stream's start are dropped, blank lines skipped. A line above the ceiling (its \r
 * counted) is skipped to its end without being kept; its first bytes are reported so that its id can be answered.
 *
 * A line's bytes are overwritten once it has been used, and the memory of a big one is given back then.
 */
#ifndef PROTOCOL_NDJSON_H
#define PROTOCOL_NDJSON_H

#include "base/buf.h"

struct ndjson {
	char *data; /* owned: data[start..len) has been read and not yet used */
	size_t start, len, cap;
	size_t line_max;
	size_t scanned; /* bytes from start on that are known to hold no \n */
	size_t taken;   /* bytes from start on that the last event lent out */
	bool overlong;  /* inside a line that is being skipped: only its head is kept */
	bool started;   /* the byte order mark has been looked for */
};

enum ndjson_event {
	NDJSON_NEED_MORE,
	NDJSON_LINE,     /* a whole line */
	NDJSON_OVERLONG, /* the first NDJSON_HEAD_BYTES of a line above the ceiling; reported once, at its end */
};

#define NDJSON_HEAD_BYTES 65536

void ndjson_init(struct ndjson *n, size_t line_max);
/* Wipes: lines carry secrets. Takes a zeroed value. */
void ndjson_deinit(struct ndjson *n);
/* Room for at least want bytes to read into directly; then tell how much came by ndjson_added. Never NULL. */
char *ndjson_room(struct ndjson *n, size_t want);
void ndjson_added(struct ndjson *n, size_t count);
/* The next line, borrowed until the next call of any of these functions. The line may be modified in place. */
enum ndjson_event ndjson_next(struct ndjson *n, char **ret_line, size_t *ret_len);
/* The stream has ended: as ndjson_next, but an unfinished last line counts as a line. */
enum ndjson_event ndjson_finish(struct ndjson *n, char **ret_line, size_t *ret_len);

#endif
