/*
 * json_write: JSON text for the host. All controls below 0x20, DEL excepted, and U+2028/2029 are escaped: the host's line
 * reader ends a line at them (host contract, "Framing"). Input strings must be valid UTF-8.
 */
#ifndef PROTOCOL_JSON_WRITE_H
#define PROTOCOL_JSON_WRITE_H

#include "base/buf.h"

#include <jansson.h>

/* "text" with its quotes. -1 at the buffer's ceiling; the buffer is then as it was. */
int json_write_string(struct buf *out, const char *text, size_t len);
/* The same without quotes: for texts that are written in pieces. Pieces end at character borders. */
int json_write_escaped(struct buf *out, const char *text, size_t len);
/* How many bytes json_write_escaped would add. */
size_t json_escaped_size(const char *text, size_t len);
/*
 * A whole value, compact, members in insertion order. NULL writes null. Reals are written as JavaScript writes them (1.5, 100,
 * 1e+21), and as null if they are not finite. -1 at the buffer's ceiling; the buffer is then as it was.
 */
int json_write_value(struct buf *out, const json_t *value);

#endif
