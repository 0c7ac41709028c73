/*
 * js_value: JavaScript's view of a JSON value, where a wire document defines a rule by it: String.prototype.trim, Number(value),
 * Math.trunc (wire: cloudflare, Config; wire: e2b, Config).
 */
#ifndef PROTOCOL_JS_VALUE_H
#define PROTOCOL_JS_VALUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * String.prototype.trim: the slice of text[0..len) (valid UTF-8) without JavaScript's white space and line ends (also U+00A0, U+FEFF,
 * U+3000 …) at both ends. Borrowed.
 */
const char *js_trim(const char *text, size_t len, size_t *ret_len);
/* The trimmed string, owned by the caller; NULL if the value is no string or blank. value may be NULL. */
char *js_trimmed(const json_t *value);

/* Number(value). NULL stands for undefined. NaN where JavaScript gives NaN. */
double js_number(const json_t *value);
/* Number(text) of a string. */
double js_string_number(const char *text, size_t len);
/*
 * The rule that the drivers share: Number(value), truncated towards 0; what is not finite becomes fallback. A missing value (NULL) and
 * JSON null are judged by the caller before, as the drivers differ there.
 */
double js_integer(const json_t *value, double fallback);
/* The number as a JSON value: an integer if it is whole and below 2^53, else a real. New reference. */
json_t *js_number_json(double number);

#endif
