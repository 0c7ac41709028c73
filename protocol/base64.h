/* base64: RFC 4648, section 4, as the services' JSON carries bytes. */
#ifndef PROTOCOL_BASE64_H
#define PROTOCOL_BASE64_H

#include "base/buf.h"

/* Appends the text, with padding. -1 at the buffer's ceiling. */
int base64_encode(struct buf *out, const void *bytes, size_t n);
/*
 * Appends the bytes. As JSON encoders of protobuf may write it, the alphabet of URLs (- and _) and missing padding are fine too; any
 * other character, padding in the middle and a single character left over are not. -1 then, or at the ceiling: out is as it was.
 */
int base64_decode(struct buf *out, const char *text, size_t len);

#endif
