/*
 * ndjson: lines out of a byte stream. A line ends at \n only (U+2028/2029 and \r may stand unescaped in what the host sends); a
 * trailing \r and a byte order mark at the stream's start are dropped, blank lines skipped. A line above the ceiling is skipped to
 * its end without being kept; its first bytes are reported so that its id can be answered.
 */
#ifndef PROTOCOL_NDJSON_H
#define PROTOCOL_NDJSON_H

#include "base/buf.h"

struct ndjson {
	struct buf line;    /* the unfinished line */
	size_t line_max;
	size_t scanned;     /* bytes of line known to hold no \n */
	bool overlong;      /* inside a line that is being skipped */
	bool started;       /* the byte order mark has been looked for */
	/* what ndjson_next returned last */
	size_t taken;
};

enum ndjson_event {
	NDJSON_NEED_MORE,
	NDJSON_LINE,     /* a whole line */
	NDJSON_OVERLONG, /* the first NDJSON_HEAD_BYTES of a line above the ceiling; reported once, at its end */
};

#define NDJSON_HEAD_BYTES 65536

void ndjson_init(struct ndjson *n, size_t line_max);
/* Wipes: lines carry secrets. */
void ndjson_deinit(struct ndjson *n);
/* Room to read into directly; then tell how much came by ndjson_added. Never NULL. */
char *ndjson_room(struct ndjson *n, size_t want);
void ndjson_added(struct ndjson *n, size_t count);
/* The next line, borrowed until the next call of any of these functions. The line may be modified in place. */
enum ndjson_event ndjson_next(struct ndjson *n, char **ret_line, size_t *ret_len);
/* The stream has ended: an unfinished last line counts as a line. */
enum ndjson_event ndjson_finish(struct ndjson *n, char **ret_line, size_t *ret_len);

#endif
