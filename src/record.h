/*
 * record: every line of a session in a file, for replay (one JSON object a line: {"t":<ms since start>,"dir":"in"|"out","line":<the
 * message>}, or "raw":"<text>" for what is no JSON). Secret fields and environment values are masked, and held
 * secrets (secret.h) wherever they stand.
 */
#ifndef RECORD_H
#define RECORD_H

#include "base/err.h"

struct record;

/* secret_keys: array of the config keys that hold secrets; stolen. Creates or truncates the file (mode 0600). */
int record_open(const char *path, json_t *secret_keys, struct record **ret, struct err *err);
void record_close(struct record *r);
/* line: without its end. */
void record_line(struct record *r, bool out, const char *line, size_t len);

#endif
