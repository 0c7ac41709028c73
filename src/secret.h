/*
 * secret: values that may appear in no log line, error text, metadata or recording.
 *
 * Whoever gets to know a secret holds it here for as long as it is in use: the core for what a request's config holds under its secret
 * keys, a provider for keys of its environment and tokens that its service hands out. What leaves the worker then passes secret_mask
 * at one place each (log.c, op.c, record.c), which replaces every held value by "***" wherever it stands, also percent-encoded, escaped
 * as in JSON, or a single line of a longer key. A service that echoes a token into its error text does no harm so.
 *
 * A released value is still masked until many others have been released after it: late log lines speak of it too. Values shorter than
 * SECRET_LENGTH_MIN are not masked: they would be found in half of all texts. A text that is cut short must be masked before.
 */
#ifndef SECRET_H
#define SECRET_H

#include "base/buf.h"

#include <jansson.h>

#define SECRET_LENGTH_MIN 6

struct secret;

/* NULL, for which the rest is a no-op, if value is NULL or too short. Holding the same value again is fine: each hold has its release. */
struct secret *secret_hold(const char *value);
void secret_release(struct secret *secret);
/* Overwrites and frees everything that was released. At the worker's end, when nothing more is written. */
void secret_forget(void);

/* Holds of one owner. Zeroed is empty. */
struct secret_set {
	struct secret **items; /* owned */
	size_t count;
};

void secret_set_hold(struct secret_set *set, const char *value);
/* Every string under one of the keys (array of strings), at any level of the config. */
void secret_set_hold_config(struct secret_set *set, const json_t *config, const json_t *keys);
void secret_set_deinit(struct secret_set *set);

/* Replaces the secrets in text[0..len). Returns false, with *ret empty, if there are none. */
bool secret_mask(const char *text, size_t len, struct buf *ret);
/* Replaces the secrets in an owned string, which may move. NULL stays NULL. */
void secret_mask_string(char **text);
/* The value with the secrets in its strings replaced, at any level: a new reference, to the value itself if there are none. */
json_t *secret_masked_json(json_t *value);

#endif
