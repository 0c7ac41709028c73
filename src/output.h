/*
 * output: what a command prints, on its way to the host.
 *
 * Bytes become valid UTF-8 (utf8.h), are captured for the final result, and are sent live while the command runs:
 * `execute.log` notifications, coalesced to at most one per 10 ms or 64 KiB a stream. What was sent live is always an exact
 * prefix of the final text. The capture has a ceiling, since a result may not break the host's line limit (128 Mi UTF-16
 * units): past it, head and tail are kept with a marker between them, and live output ends with the head.
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include "base/buf.h"
#include "base/err.h"

struct output;

enum output_stream { OUTPUT_STDOUT, OUTPUT_STDERR };

/*
 * Takes n raw bytes. Waits while the host reads more slowly than the command prints (backpressure): the caller must not read
 * more from the command meanwhile. Returns 0, or -1 if cancelled or past the deadline (the bytes are captured all the same).
 */
int output_write(struct output *out, enum output_stream stream, const void *bytes, size_t n, struct err *err);
/* As output_write, but never waits: for the last words of a command that was ended. */
void output_put(struct output *out, enum output_stream stream, const void *bytes, size_t n);
/*
 * The stream's final text is this, says a service that tells at the end what it has shown in pieces (valid UTF-8, as the pieces must have
 * been). What goes beyond the pieces is put. If it does not begin with them, it takes their place: then, and only then, what was sent live
 * is no prefix of it.
 */
void output_settle(struct output *out, enum output_stream stream, const char *text, size_t n);

#endif
